"""Checks for models and images on which attacks of torchattacks fail or give wrong results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from selplug.core.errors import InputError

#: These convolve gradients with kernels made for three channels.
THREE_CHANNELS = frozenset({"tifgsm", "pifgsm", "pifgsmpp"})
#: These confuse height and width: they resize to a square (difgsm, tifgsm) or swap pixels along the wrong axis (pixle).
SQUARE_IMAGES = frozenset({"difgsm", "tifgsm", "pixle"})
#: JSMA keeps several matrices with (values per image) squared entries; with this many values they take about 5 GB.
JSMA_MAX_VALUES = 16384
#: These process images one by one, with a backward pass per class and step.
ONE_BY_ONE = frozenset({"deepfool", "sparsefool", "jsma"})
MANY_CLASSES = 50


def check_classes(name: str, options: Mapping[str, Any], num_classes: int) -> None:
    """Raises InputError if the attack does not work with this number of classes."""
    fewest = 2
    if name == "apgdt":
        fewest = 4
    elif options.get("loss") == "dlr":
        fewest = 3
    if num_classes < fewest:
        what = f"{name} with loss=dlr" if options.get("loss") == "dlr" else name
        raise InputError(f"{what}: expected a model of at least {fewest} classes, got {num_classes}")


def check_images(name: str, options: Mapping[str, Any], images: Tensor) -> None:
    """Raises InputError if the attack does not work with images (N, C, H, W) of this shape."""
    _, channels, height, width = images.shape
    if name in THREE_CHANNELS and channels != 3:
        raise InputError(f"{name}: expected images of 3 channels, got {channels}; use another attack of the family")
    windows = name in ("square", "autoattack") and options["norm"] == "L2"
    if (name in SQUARE_IMAGES or windows) and height != width:
        raise InputError(f"{name}: expected square images, got {height} x {width}")
    if windows and height < 5:
        raise InputError(f"{name} with norm=L2: expected images of at least 5 x 5, got {height} x {width}")
    values = channels * height * width
    if name == "jsma" and values > JSMA_MAX_VALUES:
        raise InputError(
            f"jsma: expected at most {JSMA_MAX_VALUES} values per image, got {values}: its memory grows with their "
            f"square, {values**2 * 4 / 1e9:.0f} GB per matrix here; use sparsefool, onepixel or pixle"
        )
