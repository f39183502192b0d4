"""Blurs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from . import filters
from .draws import Draws


def gaussian_blur(images: Tensor, draws: Draws, sigma: float) -> Tensor:
    """Gaussian of ``sigma`` pixels."""
    return filters.gaussian(images, sigma)


def defocus_blur(images: Tensor, draws: Draws, radius: float, alias_sigma: float) -> Tensor:
    """Mean over a disk of ``radius`` pixels with a soft edge."""
    return filters.convolve(images, filters.disk(radius, alias_sigma))


def motion_blur(images: Tensor, draws: Draws, radius: int, sigma: float) -> Tensor:
    """Blur along a line whose angle is uniform in [-45, 45] degrees."""
    return filters.motion_blur(images, radius, sigma, draws.uniform(-45, 45).tolist())


def zoom_blur(images: Tensor, draws: Draws, step: float, end: float) -> Tensor:
    """Mean of the image and its zooms by 1, 1 + step, ... up to ``end``, excluded."""
    factors = np.arange(1, end, step)  # rounding decides whether the end is included, as in the published scripts
    total = images.clone()
    for factor in factors.tolist():
        total += filters.zoom(images, factor)
    return total / (len(factors) + 1)


def glass_blur(images: Tensor, draws: Draws, sigma: float, reach: int, rounds: int) -> Tensor:
    """A Gaussian of ``sigma`` pixels, some rounds that displace pixels by up to ``reach``, and the Gaussian again.

    A round goes through the image from the last pixel to the first, without a border. It sets each pixel to the present
    value of a pixel at a random offset in [-reach, reach) along both sides. (The published script meant to swap the two
    values, but numpy makes it a copy.) The copied value may itself be a copy, so each pixel's value comes from the end
    of a chain of pixels, which is found here by pointer jumping.
    """
    count, channels, height, width = images.shape
    pixels = (filters.gaussian(images, sigma) * 255).floor().div(255).flatten(2)
    rows = torch.arange(height, device=images.device)[:, None].expand(height, width)
    columns = torch.arange(width, device=images.device).expand(height, width)
    moves = (rows > reach) & (rows <= height - reach) & (columns > reach) & (columns <= width - reach)
    place = (rows * width + columns).flatten()
    for _ in range(rounds):
        offsets = draws.integers(-reach, reach, 2, height, width)
        taken = (rows + offsets[:, 0]).clamp(0, height - 1) * width + (columns + offsets[:, 1]).clamp(0, width - 1)
        taken = torch.where(moves, taken, place.view_as(rows)).flatten(1)
        # Pixels that were displaced earlier in this round pass on their new value, all others their own.
        handed_on = (taken > place) & moves.flatten()[taken]
        link = torch.where(handed_on, taken, place)
        while True:
            further = link.gather(1, link)
            if torch.equal(further, link):
                break
            link = further
        source = taken.gather(1, link)
        pixels = pixels.gather(2, source[:, None].expand(count, channels, -1))
    return filters.gaussian(pixels.view_as(images), sigma)
