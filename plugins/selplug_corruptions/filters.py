"""Filters and warps on batches (N, C, H, W): Gaussian, disk, motion, zoom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian(images: Tensor, sigma: float, truncate: float = 4.0, mode: str = "nearest") -> Tensor:
    """Gaussian filter along both sides, cut off at ``truncate`` standard deviations.

    Args:
        images: (..., H, W).
        sigma: standard deviation in pixels, >= 0; 0 changes nothing.
        truncate: the radius is ``int(truncate * sigma + 0.5)``, as in scipy.
        mode: beyond the border, "nearest" repeats the last pixel, "reflect" mirrors (c b a | a b c | c b a).
    """
    if int(truncate * sigma + 0.5) == 0:
        return images
    height, width = images.shape[-2:]
    rows = _gaussian_matrix(height, sigma, truncate, mode).to(images.device)
    columns = _gaussian_matrix(width, sigma, truncate, mode).to(images.device)
    return torch.matmul(torch.matmul(rows, images), columns.T)


@lru_cache(maxsize=64)
def _gaussian_matrix(size: int, sigma: float, truncate: float, mode: str) -> Tensor:
    """The filter along one side, including its border, as a matrix (size, size)."""
    radius = int(truncate * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    sources = np.arange(size)[:, None] + offsets
    if mode == "nearest":
        sources = sources.clip(0, size - 1)
    else:
        sources %= 2 * size
        sources = np.minimum(sources, 2 * size - 1 - sources)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], sources), weights)
    return torch.from_numpy(matrix).float()


def disk(radius: float, alias_sigma: float) -> Tensor:
    """A disk (K, K) that sums to 1. A Gaussian of 3 pixels, or 5 above a radius of 8, makes its edge soft."""
    reach = 8 if radius <= 8 else int(radius)
    taps = 1 if radius <= 8 else 2
    line = np.arange(-reach, reach + 1)
    inside = (line[:, None] ** 2 + line**2 <= radius**2).astype(np.float64)
    inside /= inside.sum()
    offsets = np.arange(-taps, taps + 1)
    weights = np.exp(-0.5 * (offsets / alias_sigma) ** 2)
    weights /= weights.sum()
    padded = np.pad(inside, taps, mode="reflect")
    rows = sum(w * padded[taps + o : len(padded) - taps + o] for w, o in zip(weights, offsets, strict=True))
    soft = sum(w * rows[:, taps + o : len(padded) - taps + o] for w, o in zip(weights, offsets, strict=True))
    return torch.from_numpy(np.asarray(soft)).float()


def convolve(images: Tensor, kernel: Tensor) -> Tensor:
    """Convolves every channel with a symmetric kernel (K, K), K odd; the border mirrors without the last pixel."""
    reach = len(kernel) // 2
    used = int((kernel.abs().amax(0) > 0).nonzero().sub(reach).abs().max())  # most disks do not fill their square
    kernel = kernel[reach - used : reach + used + 1, reach - used : reach + used + 1].to(images.device)
    padded = F.pad(images, (used, used, used, used), mode="reflect")
    if used <= 2:
        return F.conv2d(padded.flatten(0, 1)[:, None], kernel[None, None]).view_as(images)
    size = [-(-side // 16) * 16 for side in padded.shape[-2:]]
    spectrum = torch.fft.rfft2(padded, s=size) * torch.fft.rfft2(kernel, s=size)
    return torch.fft.irfft2(spectrum, s=size)[..., 2 * used :, 2 * used :][..., : images.shape[-2], : images.shape[-1]]


def motion_blur(images: Tensor, radius: int, sigma: float, angles: Sequence[float]) -> Tensor:
    """One-sided Gaussian blur along a line as in ImageMagick: 2 radius + 1 steps, weights ``exp(-i^2 / 2 sigma^2)``.

    Each step is rounded to a whole pixel; beyond the border the last pixel is repeated.

    Args:
        images: (N, C, H, W).
        radius, sigma: in pixels.
        angles: N angles in degrees.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    height, width = images.shape[-2:]
    pad = 2 * radius
    padded = F.pad(images, (pad, pad, pad, pad), mode="replicate")
    result = torch.zeros_like(images)
    for source, target, angle in zip(padded, result, angles, strict=True):
        down = pad + np.ceil(steps * math.sin(math.radians(angle)) - 0.5).astype(int)
        right = pad + np.ceil(steps * math.cos(math.radians(angle)) - 0.5).astype(int)
        for weight, top, left in zip(weights.tolist(), down.tolist(), right.tolist(), strict=True):
            target.add_(source[:, top : top + height, left : left + width], alpha=weight)
    return result


def zoom(images: Tensor, factor: float, size: tuple[int, int] | None = None) -> Tensor:
    """The middle of images, enlarged to their size by linear interpolation between pixel centres.

    Args:
        images: (N, C, H, W), or with ``size`` only their middle, as given by :func:`zoom_crop`.
        factor: >= 1.
        size: (H, W) of the whole images.
    """
    if factor == 1:
        return images
    whole = size or (images.shape[-2], images.shape[-1])
    (top, rows), (left, columns) = (zoom_crop(side, factor) for side in whole)
    if size is None:
        images = images[..., top : top + rows, left : left + columns]
    enlarged = (round(rows * factor), round(columns * factor))
    images = F.interpolate(images, size=enlarged, mode="bilinear", align_corners=True)
    top, left = ((new - old) // 2 for new, old in zip(enlarged, whole, strict=True))
    return images[..., top : top + whole[0], left : left + whole[1]]


def zoom_crop(side: int, factor: float) -> tuple[int, int]:
    """First pixel and length of the middle of a side that :func:`zoom` enlarges."""
    length = math.ceil(side / factor)
    return (side - length) // 2, length
