"""Spatter: drops of water with a bright edge, or mud."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from . import filters
from .draws import Draws

WATER = (175 / 255, 238 / 255, 238 / 255)
MUD = (63 / 255, 42 / 255, 20 / 255)
#: Distance from an edge, in pixels, over which the light of a drop changes.
FAR = 20
_EMBOSS = ((-2.0, -1.0, 0.0), (-1.0, 1.0, 1.0), (0.0, 1.0, 2.0))


def spatter(
    images: Tensor,
    draws: Draws,
    mean: float,
    std: float,
    sigma: float,
    threshold: float,
    strength: float,
    is_mud: int,
) -> Tensor:
    """Adds liquid where smoothed Gaussian noise is above a threshold.

    Args:
        images: (N, 3, H, W).
        draws: the random numbers.
        mean, std, sigma: mean and standard deviation of the noise, and sigma of the Gaussian that smooths it.
        threshold: there is liquid where the noise is above it.
        strength: for water, the most light it adds; for mud, the sigma of the Gaussian that softens its edge.
        is_mud: 0 for water, 1 for mud.
    """
    liquid = filters.gaussian(mean + std * draws.normal(1, *images.shape[-2:]), sigma)
    liquid = torch.where(liquid < threshold, 0.0, liquid)
    if is_mud:
        cover = filters.gaussian((liquid > threshold).float(), strength)
        cover = torch.where(cover < 0.8, 0.0, cover)
        return images * (1 - cover) + images.new_tensor(MUD).view(1, 3, 1, 1) * cover
    levels = (liquid * 255).floor()
    light = levels * _embossed(distance(rims(levels)))
    brightest = light.amax((1, 2, 3), keepdim=True)
    light = torch.where(brightest > 0, light / brightest, 0.0)
    return images + strength * light * images.new_tensor(WATER).view(1, 3, 1, 1)


def _embossed(depth: Tensor) -> Tensor:
    """Turns distances (N, 1, H, W) into light from one side in [0, 255]: smoothed, equalized, embossed, smoothed."""
    depth = _equalized(_mean3(depth).floor())
    kernel = depth.new_tensor(_EMBOSS)[None, None]
    embossed = F.conv2d(F.pad(depth, (1, 1, 1, 1), mode="reflect"), kernel).clamp(0, 255)
    return _mean3(embossed).round()


def _mean3(maps: Tensor) -> Tensor:
    padded = F.pad(maps, (1, 1, 1, 1), mode="reflect")
    rows = padded[..., :-2, :] + padded[..., 1:-1, :] + padded[..., 2:, :]
    return (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) / 9


def _equalized(maps: Tensor) -> Tensor:
    """Equalizes the histogram: whole numbers in [0, FAR] to [0, 255]."""
    share = torch.stack([(maps <= level).double().mean((1, 2, 3)) for level in range(FAR + 1)], dim=1)
    first = torch.where(share > 0, share, 2.0).amin(1, keepdim=True)
    table = torch.where(first < 1, (share - first) / (1 - first).clamp(min=1e-9) * 255, 0).clamp(min=0).round().float()
    return table.gather(1, maps.flatten(1).long()).view_as(maps)


def distance(edges: Tensor) -> Tensor:
    """Euclidean distance of every pixel to the nearest edge, at most ``FAR``; (N, 1, H, W) bool -> float."""
    near = torch.where(edges, 0.0, float(FAR))
    for step in (1, 2, 4, 8, 16):  # along rows: doubling steps reach any distance below 32
        padded = F.pad(near, (step, step), value=float(FAR)) + step
        near = torch.minimum(near, torch.minimum(padded[..., : -2 * step], padded[..., 2 * step :]))
    squared = near.clamp(max=FAR).square()
    height = edges.shape[-2]
    padded = F.pad(squared, (0, 0, FAR, FAR), value=float(FAR**2))
    result = squared
    for step in range(1, FAR):
        both = torch.minimum(
            padded[..., FAR - step :, :][..., :height, :], padded[..., FAR + step :, :][..., :height, :]
        )
        result = torch.minimum(result, both + step**2)
    return result.clamp(max=FAR**2).sqrt()


def rims(levels: Tensor, low: float = 50, high: float = 150) -> Tensor:
    """Canny edges of whole numbers in [0, 255], (N, 1, H, W) -> bool, with the Sobel gradient in the L1 norm.

    An edge is a local maximum of the gradient along its direction that is above ``high``, or above ``low`` and
    connected to one above ``high``.
    """
    padded = F.pad(levels, (1, 1, 1, 1), mode="replicate")
    smooth_rows = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    smooth_columns = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    right = smooth_rows[..., 2:] - smooth_rows[..., :-2]
    down = smooth_columns[..., 2:, :] - smooth_columns[..., :-2, :]
    size = right.abs() + down.abs()
    around = F.pad(size, (1, 1, 1, 1))
    height, width = size.shape[-2:]

    def beside(dy: int, dx: int) -> Tensor:
        return around[..., 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    tangent = math.tan(math.pi / 8)
    flat = down.abs() < right.abs() * tangent
    steep = down.abs() > right.abs() * (tangent + 2)
    falling = right * down < 0
    across = (size > beside(0, -1)) & (size >= beside(0, 1))
    along = (size > beside(-1, 0)) & (size >= beside(1, 0))
    diagonal = torch.where(
        falling, (size > beside(-1, 1)) & (size > beside(1, -1)), (size > beside(-1, -1)) & (size > beside(1, 1))
    )
    candidates = (size > low) & torch.where(flat, across, torch.where(steep, along, diagonal))
    edges = candidates & (size > high)
    while True:
        grown = candidates & (F.max_pool2d(edges.float(), 3, stride=1, padding=1) > 0)
        if torch.equal(grown, edges):
            return edges
        edges = grown
