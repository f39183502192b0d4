"""``selplug.explain``: names resolved through the registry, files read, the result with its provenance."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import specs
from ..core.clean import CLEAN
from ..core.errors import InputError
from ..core.types import Attribution, Perturb, Perturbation, Subject
from ..run.device import place_of, resolve_device
from ..run.environment import Environment
from ..run.progress import progress_bar
from .defaults import MAX_IMAGES, PERTURBATION
from .explanation import Explanation
from .images import Images, find_images, given_images, read_pictures, read_rgb
from .run import PREDICTED, TRUE, Picture, run_explain

__all__ = ["explain", "explain_subject", "find_images"]


def explain(
    model: nn.Module | Subject,
    images: Images,
    methods: Sequence[str | Attribution],
    perturbation: str | Perturbation | Perturb = PERTURBATION,
    layers: Sequence[str] | None = None,
    target: int | str = PREDICTED,
    normalize: tuple[Sequence[float], Sequence[float]] | None = None,
    *,
    labels: Sequence[int | None] | Tensor | None = None,
    class_names: Sequence[str] | None = None,
    loader: Iterable[Sequence[Tensor]] = (),
    read_image: Callable[[str], Tensor] | None = None,
    max_images: int = MAX_IMAGES,
    device: str | torch.device | None = None,
    seed: int = 0,
    channels_last: bool = False,
    name: str | None = None,
    progress: bool = True,
) -> Explanation:
    """Attribution maps of single images, clean and perturbed, layer by layer.

    Args:
        model: takes images (N, C, H, W) normalized by ``normalize``, returns logits (N, K). Left as it was. A
            :class:`~selplug.core.types.Subject` brings normalization, names, data and a reader of files with it.
        images: tensors (C, H, W) in [0, 1] (or uint8), or one (N, C, H, W); or files, or folders of them.
        methods: specs such as ``"saliency"`` or ``"integrated-gradients:n_steps=20"``, or
            :class:`~selplug.core.types.Attribution` objects.
        perturbation: makes the adversarial image: a spec, a :class:`~selplug.core.types.Perturbation`, or a callable
            ``(images, labels) -> images``.
        layers: globs over module names; None for the last layer of each of the last three resolutions.
        target: the class to explain: its name or number, ``"predicted"`` (on the clean image) or ``"true"``.
        normalize: per-channel ``(mean, std)`` of the model, None if it takes images in [0, 1] as they are.
        labels: true classes of images given as tensors, None where one is not known. That of a file is the name of its
            folder, if a class is called so.
        class_names: K names.
        loader: yields ``(images, labels)`` for methods that have to be fitted, such as ``layer-class-selectivity``.
        read_image: reads a file: path -> (C, H, W), float32 in [0, 1]. None reads it as RGB at its own size.
        max_images: of more images, takes so many, evenly spaced.
        device: where to run; None for where the model is. The model goes back afterwards.
        seed: of the perturbation, and of methods that sample.
        channels_last: memory format of the images.
        name: what to call the model; its class by default.
        progress: a progress bar on the terminal's error stream.

    Raises:
        SelplugError: bad input, in one of its children; the message says what to do.
    """
    if isinstance(model, Subject):
        own = {"normalize": normalize, "class_names": class_names, "read_image": read_image, "name": name}
        given = [key for key, value in {**own, "loader": loader or None}.items() if value is not None]
        if given:
            raise InputError(f"{', '.join(given)}: a Subject brings its own; set them there, or give a model")
        subject = model
    else:
        subject = Subject(
            model,
            loader,
            normalize=normalize,
            name=name or type(model).__name__,
            class_names=class_names,
            read_image=read_image or read_rgb,
        )
    chosen, found = given_images(images, labels, max_images)
    return explain_subject(
        subject,
        chosen,
        methods,
        perturbation,
        layers=layers,
        target=target,
        device=device,
        seed=seed,
        channels_last=channels_last,
        progress=progress,
        settings={"images_found": found},
    )


def explain_subject(
    subject: Subject,
    images: Sequence[Path] | Sequence[Picture],
    methods: Sequence[str | Attribution],
    perturbation: str | Perturbation | Perturb,
    *,
    layers: Sequence[str] | None = None,
    target: int | str = PREDICTED,
    device: str | torch.device | None = None,
    seed: int = 0,
    channels_last: bool = False,
    progress: bool = True,
    settings: Mapping[str, Any] | None = None,
) -> Explanation:
    """:func:`explain` of a :class:`~selplug.core.types.Subject`; ``settings`` are further facts for the page.

    Args:
        subject: the model; ``read_image`` reads the files, the loader feeds methods that have to be fitted.
        images: files or pictures, at least one.

    Raises:
        SelplugError: bad input, in one of its children; the message says what to do.
    """
    if seed < 0:
        raise InputError(f"expected a seed >= 0, got {seed}")
    if isinstance(methods, str):
        raise InputError(f"expected a list of methods, got the text {methods!r}")
    chosen = [specs.attribution(method) if isinstance(method, str) else method for method in methods]
    attack = _perturbation(perturbation)
    repeated = sorted({method.name for method in chosen if [other.name for other in chosen].count(method.name) > 1})
    if repeated or not chosen:
        raise InputError(f"the method {repeated[0]} comes twice" if repeated else "no method; give --method NAME")
    hungry = [method.name for method in chosen if method.needs_fit]
    if hungry and isinstance(subject.loader, Sized) and not len(subject.loader):
        raise InputError(
            f"{hungry[0]} has to see labelled images of all classes first; give --data-dir FOLDER (or --dataset), and "
            "--num-samples N for a balanced choice of them; from Python loader="
        )
    names = list(subject.class_names or ())
    files = [image for image in images if isinstance(image, Path)]
    pictures = [image for image in images if isinstance(image, Picture)]
    if files:
        if subject.read_image is None:
            raise InputError(f"the subject {subject.name} reads no image files; take another --subject, or tensors")
        pictures += read_pictures(files, subject.read_image, names)
    place = resolve_device(device)
    environment = Environment()
    with progress_bar(progress, "images") as on_progress:
        explained = run_explain(
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
    classes = len(explained[0].probabilities[CLEAN])
    return Explanation(
        subject={
            "model": subject.name,
            "num_classes": classes,
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
            "perturbation_options": dict(attack.described(classes)),
            "device": place.type,
            **(settings or {}),
        },
        environment=environment(place),
        images=explained,
    )


def _perturbation(perturbation: str | Perturbation | Perturb) -> Perturbation:
    if isinstance(perturbation, str):
        return specs.perturbation(perturbation)
    if isinstance(perturbation, Perturbation):
        return perturbation
    if callable(perturbation):
        perturb = perturbation
        name = getattr(perturb, "__name__", type(perturb).__name__)
        return Perturbation(name, lambda model: perturb, kind=getattr(perturb, "kind", "attack"))
    raise InputError(f"expected a spec, a Perturbation or a callable, got {type(perturbation).__name__}")


def _target(text: int | str, names: Sequence[str]) -> int | str:
    """A class name or number as a number; ``predicted`` and ``true`` as they are."""
    if isinstance(text, int) or text in (PREDICTED, TRUE):
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
