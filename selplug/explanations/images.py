"""The images to explain: files, folders and tensors as :class:`~selplug.explanations.run.Picture`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..core.errors import InputError, PluginError
from .run import Picture

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
#: What a caller may give: one image or several, as tensors or as paths.
Images = Tensor | str | Path | Sequence[Tensor] | Sequence[str] | Sequence[Path]
T = TypeVar("T")


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
    return _spaced(list(found), most), len(found)


def given_images(
    images: Images, labels: Sequence[int | None] | Tensor | None, most: int
) -> tuple[list[Path] | list[Picture], int]:
    """Files to read, or tensors as pictures; at most ``most``, evenly spaced, and how many there were.

    Raises:
        InputError: neither images nor paths, or labels that are not one per tensor.
    """
    if most < 1:
        raise InputError(f"expected max_images of at least 1, got {most}")
    if isinstance(images, Tensor):
        images = [images] if images.ndim == 3 else list(images)
    listed = [images] if isinstance(images, (str, Path)) else list(images)
    paths = [Path(image) for image in listed if isinstance(image, (str, Path))]
    tensors = [image for image in listed if isinstance(image, Tensor)]
    if not listed or len(listed) not in (len(paths), len(tensors)):
        came = ", ".join(dict.fromkeys(type(image).__name__ for image in listed)) or "none"
        raise InputError(f"expected images as tensors (C, H, W), or as paths of files and folders, got {came}")
    if paths:
        if labels is not None:
            raise InputError(
                "labels= is for images given as tensors; the true class of a file is the name of its folder"
            )
        return find_images(paths, most)
    known = [None] * len(tensors) if labels is None else [None if one is None else int(one) for one in labels]
    if len(known) != len(tensors):
        raise InputError(f"expected a label per image, {len(tensors)}, got {len(known)}")
    for number, image in enumerate(tensors, 1):
        if image.ndim != 3:
            raise InputError(f"image {number}: expected (C, H, W), got {tuple(image.shape)}")
    pictures = [
        Picture(f"image {number}", image, label)
        for number, (image, label) in enumerate(zip(tensors, known, strict=True), 1)
    ]
    return _spaced(pictures, most), len(pictures)


def read_pictures(
    files: Sequence[Path], read_image: Callable[[str], Tensor], class_names: Sequence[str]
) -> list[Picture]:
    """Files as pictures, named by their folder and themselves; the folder's name is the class, if one is called so."""
    pictures = []
    for file in files:
        path = file.resolve()
        label = class_names.index(path.parent.name) if path.parent.name in class_names else None
        pictures.append(Picture("/".join(path.parts[-2:]), read_image(str(file)), label))
    return pictures


def read_rgb(path: str) -> Tensor:
    """An image file at its own size: (3, H, W), float32 in [0, 1].

    Raises:
        InputError: it cannot be read.
        PluginError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise PluginError(
            'image files need Pillow, which is not installed: pip install "selplug[corruptions]", or give tensors'
        ) from error
    try:
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # as PIL raises them
        raise InputError(f"{path} cannot be read as an image ({error})") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def _spaced(items: list[T], most: int) -> list[T]:
    return items if len(items) <= most else [items[place * len(items) // most] for place in range(most)]
