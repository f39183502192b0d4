"""Frost textures made by a formula, with the colours and the roughness of the benchmark's photographs.

Mean and standard deviation of each channel and the slope of the power spectrum were measured on the five photographs
that the published scripts use (the second and third are the same; a sixth is never used). The patterns themselves are
ours: needles of ice on a rough ground.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

SIZE = 512
#: Standard deviation of the photographs' blur, in pixels.
LENS = 0.4


@dataclass(frozen=True)
class Texture:
    """``slope``: of the power spectrum over frequency; ``needles``: their number; ``length``: theirs, in pixels."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    slope: float
    needles: int
    length: float


TEXTURES = (
    Texture((0.305, 0.585, 0.650), (0.106, 0.065, 0.060), -1.4, 500, 25),
    Texture((0.787, 0.805, 0.841), (0.084, 0.087, 0.089), -1.6, 900, 60),
    Texture((0.787, 0.805, 0.841), (0.084, 0.087, 0.089), -1.6, 900, 60),
    Texture((0.540, 0.599, 0.648), (0.112, 0.112, 0.117), -1.1, 700, 30),
    Texture((0.441, 0.484, 0.528), (0.174, 0.170, 0.163), -1.8, 1300, 35),
)


@lru_cache(maxsize=1)
def textures() -> Tensor:
    """Five periodic textures (5, 3, SIZE, SIZE) in [0, 1], always the same."""
    return torch.stack([_draw(texture, np.random.default_rng(seed)) for seed, texture in enumerate(TEXTURES)])


def _draw(texture: Texture, generator: np.random.Generator) -> Tensor:
    needles = _needles(texture, generator)
    relief = needles / needles.std() + 0.5 * generator.standard_normal((SIZE, SIZE))
    relief = _with_slope(relief, texture.slope)
    mean, std = (np.array(values)[:, None, None] for values in (texture.mean, texture.std))
    return torch.from_numpy((mean + std * relief / relief.std()).clip(0, 1)).float()


def _with_slope(relief: np.ndarray, slope: float) -> np.ndarray:
    """The same pattern with a power spectrum that falls with this slope, slightly blurred."""
    spectrum = np.fft.fft2(relief)
    ring = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.fftfreq(SIZE)) * SIZE
    ring = ring.round().astype(int)
    power = np.bincount(ring.ravel(), np.abs(spectrum).ravel() ** 2) / np.bincount(ring.ravel())
    frequency = np.arange(1, len(power))
    gain = np.sqrt(frequency**slope / power[1:]) * np.exp(-2 * (np.pi * LENS * frequency / SIZE) ** 2)
    return np.fft.ifft2(spectrum * np.concatenate([[0], gain])[ring]).real


def _needles(texture: Texture, generator: np.random.Generator) -> np.ndarray:
    """Straight needles with side branches at 60 degrees, each bright on one side; (SIZE, SIZE)."""
    count = texture.needles
    start = generator.uniform(0, SIZE, (count, 1, 2))
    angle = generator.uniform(0, 2 * np.pi, (count, 1))
    length = texture.length * generator.exponential(1, (count, 1))
    light = generator.normal(0, 1, (count, 1))
    along = np.linspace(0, 1, 120)[None] * length
    lines = [(start, angle, along, light)]
    for side in (-np.pi / 3, np.pi / 3):
        for place in (0.25, 0.5, 0.75):
            root = start + place * length[..., None] * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
            lines.append((root, angle + side, (1 - place) * 0.5 * along, light * np.sign(side)))
    field = np.zeros((SIZE, SIZE))
    for root, direction, steps, brightness in lines:
        points = root + steps[..., None] * np.stack([np.sin(direction), np.cos(direction)], axis=-1)
        rows, columns = np.moveaxis(np.floor(points).astype(int) % SIZE, -1, 0)
        weight = (
            (steps[:, 1:2] - steps[:, :1]) * (1 - 0.7 * np.linspace(0, 1, steps.shape[1])) * (0.4 + np.abs(brightness))
        )
        np.add.at(field, (rows, columns), weight * np.where(brightness < 0, -0.5, 1))
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE))
    soft = np.fft.irfft2(np.fft.rfft2(field) * np.exp(-2 * (np.pi * frequency * 0.8) ** 2), s=field.shape)
    return np.tanh(soft / soft.std() / 1.5)
