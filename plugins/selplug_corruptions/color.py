"""Brightness, contrast and saturation, by the formulas of HSV written out for RGB."""

from __future__ import annotations

import torch
from torch import Tensor

from .draws import Draws


def brightness(images: Tensor, draws: Draws, added: float) -> Tensor:
    """Adds to the value V of HSV, clipped at 1: the channels keep their ratios, black becomes gray."""
    value = images.amax(1, keepdim=True)
    brighter = (value + added).clamp(max=1)
    return torch.where(value > 0, images * (brighter / value), brighter)


def contrast(images: Tensor, draws: Draws, factor: float) -> Tensor:
    """Scales the distance from each channel's mean."""
    mean = images.double().mean((2, 3), keepdim=True).float()
    return (images - mean) * factor + mean


def saturate(images: Tensor, draws: Draws, factor: float, offset: float) -> Tensor:
    """Replaces the saturation S of HSV by ``factor * S + offset``, clipped to [0, 1]. The hue of gray is red."""
    value = images.amax(1, keepdim=True)
    chroma = value - images.amin(1, keepdim=True)
    saturation = torch.where(value > 0, chroma / value, 0.0)
    wanted = (factor * saturation + offset).clamp(0, 1)
    gray = torch.tensor([0.0, 1.0, 1.0], device=images.device).view(1, 3, 1, 1)
    distance = torch.where(chroma > 0, (value - images) / chroma, gray)  # of each channel from the value, in [0, 1]
    return value - distance * wanted * value
