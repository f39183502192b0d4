"""A grey square somewhere in each image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from selplug.core.errors import InputError
from selplug.core.types import Perturb


def occlusion(model: nn.Module, *, size: int = 8) -> Perturb:
    """Sets ``size`` x ``size`` pixels at a random place of each image to 0.5.

    The places come from torch's generator, which selplug seeds for each batch; so a run can be repeated.

    Args:
        size: of the square, in pixels, from 1 to the image's smaller side.
    """
    if size != int(size) or size < 1:
        raise InputError(f"occlusion: expected size as a whole number of pixels >= 1, got {size}")

    def perturb(images: Tensor, labels: Tensor) -> Tensor:
        height, width = images.shape[2:]
        if size > min(height, width):
            raise InputError(f"occlusion: expected size <= {min(height, width)}, the size of the image, got {size}")
        tops = torch.randint(height - size + 1, (len(images),)).tolist()
        lefts = torch.randint(width - size + 1, (len(images),)).tolist()
        for image, top, left in zip(images, tops, lefts, strict=True):
            image[:, top : top + size, left : left + size] = 0.5
        return images

    return perturb


#: Not an attack: it does not count in the worst-case accuracy.
occlusion.kind = "corruption"  # type: ignore[attr-defined]
