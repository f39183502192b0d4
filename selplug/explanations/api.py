"""``selplug explain`` from Python: names resolved through the registry, files read, the result with its provenance."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import torch

from .. import specs
from ..core.clean import CLEAN
from ..core.errors import InputError
from ..core.types import Subject
from ..run.device import place_of, resolve_device
from ..run.environment import Environment
from ..run.progress import progress_bar
from .explanation import Explanation
from .run import PREDICTED, TRUE, Picture, run_explain

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def find_images(paths: Sequence[Path], most: int) -> tuple[list[Path], int]:
    """Image files, folders searched to the bottom; at most ``most``, evenly spaced, and how many there were.

    Raises:
        InputError: nothing there, or a folder without images.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            if not inside:
                raise InputError(f"no images in the folder {path}; expected files such as {', '.join(SUFFIXES)}")
            found.update(dict.fromkeys(inside))
        elif path.is_file():
            found[path] = None
        else:
            raise InputError(f"no image file or folder {path}")
    files = list(found)
    if len(files) <= most:
        return files, len(files)
    return [files[place * len(files) // most] for place in range(most)], len(files)


def explain_subject(
    subject: Subject,
    files: Sequence[Path],
    methods: Sequence[str],
    perturbation: str,
    *,
    layers: Sequence[str] | None = None,
    target: str = PREDICTED,
    device: str | torch.device | None = None,
    seed: int = 0,
    channels_last: bool = False,
    progress: bool = True,
    settings: Mapping[str, Any] | None = None,
) -> Explanation:
    """Attribution maps of image files, clean and perturbed.

    Args:
        subject: the model; ``read_image`` reads the files, the loader feeds methods that have to be fitted.
        files: images. The true class of one is the name of its folder, if a class is called so.
        methods: specs of the group ``selplug.attributions``.
        perturbation: a spec of the group ``selplug.perturbations``.
        layers: globs over module names.
        target: the class to explain: a class name, a number, ``predicted`` or ``true``.
        settings: further facts for the page.

    Raises:
        SelplugError: bad input, in one of its children; the message says what to do.
    """
    chosen = [specs.attribution(spec) for spec in methods]
    attack = specs.perturbation(perturbation)
    repeated = sorted({method.name for method in chosen if [other.name for other in chosen].count(method.name) > 1})
    if repeated or not chosen:
        raise InputError(f"the method {repeated[0]} comes twice" if repeated else "no method; give --method NAME")
    hungry = [method.name for method in chosen if method.needs_fit]
    if hungry and isinstance(subject.loader, Sized) and not len(subject.loader):
        raise InputError(
            f"{hungry[0]} has to see labelled images of all classes first; give --data-dir FOLDER (or --dataset), and "
            "--num-samples N for a balanced choice of them"
        )
    if subject.read_image is None:
        raise InputError(f"the subject {subject.name} reads no image files; take another --subject")
    names = list(subject.class_names or ())
    pictures = []
    for file in files:
        folder = file.resolve().parent.name
        label = names.index(folder) if folder in names else None
        pictures.append(Picture("/".join(file.resolve().parts[-2:]), subject.read_image(str(file)), label))
    place = resolve_device(device)
    environment = Environment()
    with progress_bar(progress, "images") as on_progress:
        images = run_explain(
            subject,
            pictures,
            chosen,
            attack,
            layers=layers,
            target=_target(target, names),
            seed=seed,
            device=place,
            channels_last=channels_last,
            on_progress=on_progress,
        )
    place = place_of(subject.model, place)
    explained = images[0].probabilities[CLEAN]
    return Explanation(
        subject={
            "model": subject.name,
            "num_classes": len(explained),
            "class_names": names or None,
            "mean": list(subject.normalize[0]) if subject.normalize else None,
            "std": list(subject.normalize[1]) if subject.normalize else None,
            **subject.info,
        },
        settings={
            "seed": seed,
            "methods": [method.name for method in chosen],
            "fitted": hungry,
            "layers": list(layers) if layers else None,
            "target": target,
            "perturbation": attack.name,
            "perturbation_options": dict(attack.described(len(explained))),
            "device": place.type,
            **(settings or {}),
        },
        environment=environment(place),
        images=images,
    )


def _target(text: str, names: Sequence[str]) -> int | str:
    """A class name or number as a number; ``predicted`` and ``true`` as they are."""
    if text in (PREDICTED, TRUE):
        return text
    places = [place for place, name in enumerate(names) if name == text]
    if len(places) == 1:
        return places[0]
    if places:
        raise InputError(
            f"--target {text!r} is the name of several classes; give a number: {', '.join(map(str, places))}"
        )
    if text.isdecimal():
        return int(text)
    near = difflib.get_close_matches(text, names, n=3)
    hint = f"did you mean {', '.join(near)}?" if near else f"the names known are: {', '.join(names[:20]) or 'none'}"
    raise InputError(f"--target {text!r}: expected a class name, its number, predicted or true; {hint}")
