"""Pictures to corrupt, and their corruption."""

from __future__ import annotations

import torch
from selplug_corruptions.draws import Draws
from selplug_corruptions.factory import Corruption

from selplug.core.perturb import run_perturbation
from selplug.core.types import Samples

MODEL = torch.nn.Identity()


def pictures(count: int, height: int, width: int) -> torch.Tensor:
    """Smooth shapes, an edge, pure black, gray and white; multiples of 1 / 255."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    images[..., : height // 4, : width // 2] *= 0.5
    images[:, :, :2, :3] = 0
    images[:, :, -2:, :3] = 1
    images[:, :, 2:4, :3] = 0.5
    return (images * 255).round() / 255


def corrupt(name, severity, images, indices=None, seed=0, strengths="auto"):
    samples = Samples(range(len(images)) if indices is None else indices, seed)
    labels = torch.zeros(len(images), dtype=torch.long)
    perturb = Corruption(name, severity, strengths)
    return run_perturbation(MODEL, perturb, images, labels, samples=samples).images


def draws(count=2, seed=0):
    return Draws([seed + n for n in range(count)], torch.device("cpu"))
