"""A natural shift: any labelled folder, ``<class>/<file>``, such as ImageNet-R, ImageNet-A or ImageNet-Sketch.

Its images have no clean counterparts, so its condition has no differences from clean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from selplug.core.draw import balanced_draw
from selplug.core.errors import InputError
from selplug.core.types import Perturb, Subject
from selplug.core.words import plural

from .files import read_all, subfolders

SUFFIXES = (".jpg", ".jpeg", ".png")
BATCH_SIZE = 128


class ShiftFactory:
    """Any other labelled folder of images, ``<class>/<file>``, as a condition of its own.

    Options:
        dir: the folder with a folder per class; also the text after the colon, ``shift:DIR``.
        classes: "all" to predict among all classes of the model, "present" to predict among the classes of the folder,
            as published for ImageNet-R and ImageNet-A.
        samples: the number of images, balanced over the classes as well as possible, or "all". The default is the
            number that the run draws from its own data, with the run's seed; all if the folder has fewer or the run
            draws none.
    """

    kind = "shift"
    positional = "dir"

    def __call__(
        self,
        model: nn.Module,
        *,
        dir: str,  # noqa: A002
        classes: str = "all",
        samples: Any = None,
    ) -> Perturb:
        return Shift(Path(dir), classes, samples)

    def label(self, options: Mapping[str, Any]) -> str:
        """The name of the condition, ``shift/imagenet-r``."""
        options_given = [f"classes={options['classes']}"] if options["classes"] != "all" else []
        options_given += [f"samples={options['samples']}"] if options["samples"] is not None else []
        return f"shift/{Path(options['dir']).resolve().name}{':' if options_given else ''}{','.join(options_given)}"


class Shift:
    """Makes a subject of the same model and the images of a folder; see :class:`ShiftFactory`.

    Raises:
        InputError: ``classes`` or ``samples`` is wrong; in ``prepare``, if the folder has no images, fewer than
            ``samples`` or unknown classes, or if the subject has no class names or cannot read image files; in a call,
            always.
    """

    kind = "shift"

    def __init__(self, folder: Path, classes: str, samples: Any = None) -> None:
        if classes not in ("all", "present"):
            raise InputError(f"shift: expected classes=all or classes=present, got {classes!r}")
        if samples not in (None, "all") and (type(samples) is not int or samples < 2):
            raise InputError(f"shift: expected samples as a whole number >= 2 or all, got {samples!r}")
        self.folder, self.classes, self.samples = folder, classes, samples

    def prepare(self, subject: Subject) -> Subject:
        """The subject with the images of the folder, sorted by class name and file name."""
        if subject.class_names is None or subject.read_image is None:
            raise InputError(
                "shift: expected a subject with class names that can read image files, such as timm's folders"
            )
        numbers = {name: number for number, name in enumerate(subject.class_names)}
        names = subfolders("shift", self.folder)
        unknown = [name for name in names if name not in numbers]
        if unknown or not names:
            what = f"{plural(len(unknown), 'unknown folder')}, such as {unknown[0]}" if unknown else "none"
            raise InputError(
                f"shift: expected folders in {self.folder} with the names of the model's classes, such as "
                f"{subject.class_names[0]}, got {what}"
            )
        files = [
            (path, numbers[name])
            for name in names
            for path in sorted((self.folder / name).rglob("*"))
            if path.suffix.lower() in SUFFIXES
        ]
        if not files:
            raise InputError(f"shift: no {', '.join(SUFFIXES)} files in the folders of {self.folder}")
        files = [files[index] for index in self._chosen(np.array([label for _, label in files]), subject)]
        labels = torch.tensor([label for _, label in files])
        paths = [path for path, _ in files]
        size = getattr(subject.loader, "batch_size", None) or BATCH_SIZE
        return replace(
            subject,
            loader=FolderLoader(paths, labels, size, subject.read_image),
            targets=labels,
            indices=None,
            names=[str(path.relative_to(self.folder)) for path in paths],
            candidates=sorted(set(labels.tolist())) if self.classes == "present" else None,
        )

    def _chosen(self, labels: np.ndarray, subject: Subject) -> np.ndarray:
        """The positions of the images to read, sorted."""
        number, seed = subject.draw or (len(labels), 0)
        if self.samples == "all" or (self.samples is None and number >= len(labels)):
            return np.arange(len(labels))
        wanted = number if self.samples is None else self.samples
        if wanted > len(labels):
            raise InputError(
                f"shift: expected at least {plural(wanted, 'image')} in {self.folder}, got {len(labels)}; lower samples"
            )
        return balanced_draw(labels, wanted, seed)

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        raise InputError("shift: works only in an audit, since it replaces the images instead of changing them")


@dataclass(frozen=True)
class FolderLoader:
    """Yields ``(images, labels)``, ``batch_size`` at a time."""

    paths: Sequence[Path]
    labels: Tensor
    batch_size: int
    read_image: Callable[[str], Tensor]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.paths), self.batch_size):
            where = slice(start, start + self.batch_size)
            yield read_all(self.paths[where], lambda path: self.read_image(str(path))), self.labels[where]


shift = ShiftFactory()
