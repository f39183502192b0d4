"""Snow, frost and fog."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from . import filters
from .draws import Draws
from .frost_textures import textures


def fog(images: Tensor, draws: Draws, weight: float, decay: float) -> Tensor:
    """Adds ``weight`` times a plasma fractal of this ``decay``, and rescales to keep the brightest value."""
    height, width = images.shape[-2:]
    brightest = images.amax((1, 2, 3), keepdim=True)
    cloud = plasma(draws, 2 ** (max(height, width) - 1).bit_length(), decay)[:, None, :height, :width]
    return (images + weight * cloud) * (brightest / (brightest + weight))


def plasma(draws: Draws, size: int, decay: float) -> Tensor:
    """Diamond-square fractals on a torus.

    Args:
        draws: random numbers for N maps.
        size: side of a map, a power of two.
        decay: from one scale to the next, the added noise is divided by its square.

    Returns:
        (N, size, size), each from 0 to 1.
    """
    noise = draws.uniform(-1, 1, size * size)
    maps = noise.new_zeros(len(noise), size, size)
    step, amplitude = size, 1.0  # only ratios matter: the map is scaled at the end
    while step > 1:
        half, cells = step // 2, (size // step) ** 2
        fresh = amplitude * noise[:, : 3 * cells].view(-1, 3, size // step, size // step)
        noise = noise[:, 3 * cells :]
        corners = maps[:, ::step, ::step]
        below = corners.roll(-1, 1)
        right = corners.roll(-1, 2)
        centres = (corners + below + right + below.roll(-1, 2)) / 4 + fresh[:, 0]
        maps[:, half::step, half::step] = centres
        maps[:, ::step, half::step] = (corners + right + centres + centres.roll(1, 1)) / 4 + fresh[:, 1]
        maps[:, half::step, ::step] = (corners + below + centres + centres.roll(1, 2)) / 4 + fresh[:, 2]
        step, amplitude = half, amplitude / decay**2
    maps = maps - maps.amin((1, 2), keepdim=True)
    return maps / maps.amax((1, 2), keepdim=True)


def frost(images: Tensor, draws: Draws, weight: float, frost_weight: float, scale: float) -> Tensor:
    """A weighted sum of the image and a random crop of a random frost texture, which is made smaller by ``scale``."""
    height, width = images.shape[-2:]
    sheets = textures().to(images.device)
    if scale != 1:
        sheets = F.interpolate(sheets, scale_factor=scale, mode="bilinear")
    which = draws.integers(0, len(sheets)).tolist()
    corner = draws.uniform(0, 1, 2).cpu()
    size = sheets.shape[-1]
    rows = (corner[:, :1] * size).long() + torch.arange(height)
    columns = (corner[:, 1:] * size).long() + torch.arange(width)
    # The textures are periodic: no image is too large for them.
    crops = [sheets[n][:, r % size][:, :, c % size] for n, r, c in zip(which, rows, columns, strict=True)]
    return weight * images + frost_weight * torch.stack(crops)


def snow(
    images: Tensor,
    draws: Draws,
    mean: float,
    std: float,
    zoom: float,
    threshold: float,
    radius: int,
    sigma: float,
    weight: float,
) -> Tensor:
    """Whitens the image and adds falling flakes: zoomed, thresholded, motion-blurred Gaussian noise, and its half turn.

    Args:
        images: (N, 3, H, W).
        draws: the random numbers.
        mean, std, zoom: of the noise.
        threshold: there is a flake where the noise is above it.
        radius, sigma: of the motion blur; its angle is uniform in [-135, -45] degrees.
        weight: weight of the image against its whitened version.
    """
    height, width = images.shape[-2:]
    size = [filters.zoom_crop(side, zoom)[1] for side in (height, width)]
    flakes = filters.zoom(mean + std * draws.normal(1, *size), zoom, (height, width))
    flakes = torch.where(flakes < threshold, 0.0, flakes).clamp(0, 1).mul(255).floor().div(255)
    flakes = filters.motion_blur(flakes, radius, sigma, draws.uniform(-135, -45).tolist())
    luma = (images * images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    whitened = weight * images + (1 - weight) * torch.maximum(images, luma * 1.5 + 0.5)
    return whitened + flakes + flakes.flip((2, 3))
