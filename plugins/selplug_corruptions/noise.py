"""Noise that is independent for every value."""

from __future__ import annotations

import torch
from torch import Tensor

from .draws import Draws


def gaussian_noise(images: Tensor, draws: Draws, std: float) -> Tensor:
    """Adds Gaussian noise of this standard deviation."""
    return images + std * draws.normal(*images.shape[1:])


def shot_noise(images: Tensor, draws: Draws, photons: float) -> Tensor:
    """Poisson noise; ``photons`` is the expected count at a value of 1."""
    return draws.poisson(images * photons) / photons


def impulse_noise(images: Tensor, draws: Draws, share: float) -> Tensor:
    """Sets this share of the values to 0 or 1, half of them to each."""
    uniform = draws.uniform(0, 1, *images.shape[1:])
    return torch.where(uniform < share, (uniform < share / 2).float(), images)


def speckle_noise(images: Tensor, draws: Draws, std: float) -> Tensor:
    """Adds Gaussian noise in proportion to the value."""
    return images + images * (std * draws.normal(*images.shape[1:]))
