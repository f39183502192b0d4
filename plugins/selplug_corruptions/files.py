"""Reads folders of images, several files at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from selplug.core.errors import InputError


def subfolders(what: str, folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted.

    Raises:
        InputError: the folder cannot be read; the message begins with ``what``.
    """
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    except OSError as error:
        raise InputError(f"{what}: the folder {folder} cannot be read: {error.strerror or error}") from error


def read_all(paths: Sequence[Path], read: Callable[[Path], Tensor]) -> Tensor:
    """Images (N, C, H, W), one per file, read in threads: decoders release Python's lock.

    Raises:
        InputError: the images have different sizes. Errors of ``read`` pass through.
    """
    with ThreadPoolExecutor(min(len(paths), os.cpu_count() or 1)) as pool:
        images = list(pool.map(read, paths))
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            raise InputError(
                f"expected images of one size, got {tuple(images[0].shape)} in {paths[0]} and {tuple(image.shape)} in "
                f"{path}"
            )
    return torch.stack(images)
