"""ImageNet-C as published: ``<corruption>/<severity>/<class>/<file>``, with the file names of the clean images.

It comes as one archive per category. If each is unpacked into its own folder, ``<category>/`` comes first.

Source: Hendrycks & Dietterich, arXiv 1903.12261; doi 10.5281/zenodo.2235448. Other sets with this layout work too, such
as Tiny ImageNet-C.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import torch
from torch import Tensor, nn

from selplug.core.errors import InputError
from selplug.core.types import Perturb, Samples, Subject

from .factory import CORRUPTIONS, SEVERITIES, severities
from .files import read_all, subfolders

#: The published archives.
CATEGORIES = ("noise", "blur", "weather", "digital", "extra")


class ImageNetCFactory:
    """The published ImageNet-C files, paired with the clean images.

    Options:
        dir: the folder with a folder per corruption or per category; also the text behind the colon, ``imagenetc:DIR``.
        corruption: its name; all that are there if not given.
        severity: 1 to 5, or several as 1-3; all that are there if not given.
    """

    kind = "corruption"
    level = "severity"
    positional = "dir"

    def __call__(self, model: nn.Module, *, dir: str, corruption: str = "", severity: Any = None) -> Perturb:  # noqa: A002
        return ImageNetC(Path(dir) / corruption / str(severity))

    def label(self, options: Mapping[str, Any]) -> str:
        """The name of the condition, ``imagenetc/fog@3``."""
        return f"imagenetc/{options['corruption']}@{options['severity']}"

    def expand(self, options: Mapping[str, Any]) -> list[str] | None:
        """Specs of the single corruptions and severities; None if the options name one.

        Raises:
            InputError: a severity is wrong, there is no corruption, or one lacks a severity that others have.
        """
        chosen = severities("imagenetc", options["severity"])
        folder = Path(options["dir"])
        homes = _homes(folder)
        there = {name: _severities(home / name) for name, home in homes.items()}
        names = (
            [options["corruption"]]
            if options["corruption"]
            else [*CORRUPTIONS, *sorted(there.keys() - CORRUPTIONS.keys())]
        )
        there = {name: there.get(name, set()) for name in names if name in there or options["corruption"]}
        if options["severity"] is None:
            chosen = sorted(set().union(*there.values()))
        missing = [
            f"{name}/{severity}" for name, found in there.items() for severity in chosen if severity not in found
        ]
        if missing or not (there and chosen):
            what = f"no {', '.join(missing)}" if missing else "no <corruption>/<severity>"
            raise InputError(f"imagenetc: {folder} has {what}; expected <corruption>/<severity>/<class>/<file> there")
        if isinstance(options["severity"], int) and homes.get(options["corruption"]) == folder:
            return None
        dirs = {name: options["dir"] if homes[name] == folder else homes[name] for name in there}
        return [f"imagenetc@{s}:corruption={name},dir={dirs[name]}" for name in there for s in chosen]

    def describe(self, options: Mapping[str, Any], num_classes: int) -> dict[str, Any]:
        """The facts for the report: ``corruption``, ``severity``, ``strengths``, ``dir``."""
        return {**options, "strengths": "the ImageNet-C files"}


class ImageNetC:
    """The published version of each sample: ``<class>/<file>`` of its name, below ``folder``.

    A file with the size of the batch's images is used unchanged, as the benchmark's authors do: the published images
    are already cropped. Others are resized and cropped like the model's data.

    Raises:
        InputError: in ``prepare``, if samples have no names or no files here; in a call, if a file cannot be read or
            does not have the size of the batch after resizing.
    """

    by_sample = True
    kind = "corruption"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self, subject: Subject) -> None:
        """Checks that each sample has its file."""
        if subject.names is None or subject.read_image is None or subject.read_pixels is None:
            raise InputError(
                "imagenetc: the names of the samples are unknown, or the data set has no image files, so their "
                "corrupted files cannot be found; expected images in folders or in a tar, and no --skip-bad"
            )
        places = [PurePath(name).parts[-2:] for name in subject.names]
        there = {parts[0]: _listing(self.folder / parts[0]) for parts in set(places) if parts}
        lacking = [name for name, parts in zip(subject.names, places, strict=True) if parts[-1] not in there[parts[0]]]
        if lacking:
            raise InputError(
                f"imagenetc: {self.folder} has no file for {len(lacking)} of the {len(places)} samples, such as "
                f"{lacking[0]}; expected <class>/<file> there, with the names of the clean images"
            )
        self.read_image, self.read_pixels = subject.read_image, subject.read_pixels

    def __call__(self, images: Tensor, labels: Tensor, samples: Samples) -> Tensor:
        if samples.names is None or not hasattr(self, "read_image"):
            raise InputError("imagenetc: works only in an audit, since the published files belong to its samples")
        paths = [self.folder.joinpath(*PurePath(name).parts[-2:]) for name in samples.names]
        found = read_all(paths, lambda path: self._read(path, images.shape[1:]))
        if found.shape != images.shape:
            raise InputError(
                f"imagenetc: expected images of shape {tuple(images.shape[1:])} in {self.folder}, got "
                f"{tuple(found.shape[1:])}"
            )
        return found.to(images.device)

    def _read(self, path: Path, shape: torch.Size) -> Tensor:
        pixels = self.read_pixels(str(path))
        return pixels if pixels.shape == shape else self.read_image(str(path))


def _homes(folder: Path) -> dict[str, Path]:
    """The parent folder of each corruption."""
    found: dict[str, Path] = {}
    for name in subfolders("imagenetc", folder):
        inner = subfolders("imagenetc", folder / name) if name in CATEGORIES else []
        for home, corruption in ((folder, name), *((folder / name, each) for each in inner)):
            if _severities(home / corruption):
                found.setdefault(corruption, home)
    return found


def _severities(folder: Path) -> set[int]:
    return {int(name) for name in map(str, SEVERITIES) if (folder / name).is_dir()}


def _listing(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()


imagenetc = ImageNetCFactory()
