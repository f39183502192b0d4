"""Random numbers of a sample that do not depend on the rest of its batch."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor


class Draws:
    """Random numbers for a batch of N samples, on one device; each sample has a generator of its own.

    Args:
        seeds: N seeds.
        device: where to draw; other kinds of device give other numbers from the same distribution.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self.device = device
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def normal(self, *shape: int) -> Tensor:
        """(N, *shape), standard normal."""
        return self._filled(shape, lambda out, generator: out.normal_(generator=generator))

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """(N, *shape), uniform in [low, high)."""
        return self._filled(shape, lambda out, generator: out.uniform_(low, high, generator=generator))

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """(N, *shape), int64, uniform in [low, high)."""
        return self._filled(shape, lambda out, generator: out.random_(low, high, generator=generator), torch.int64)

    def poisson(self, rates: Tensor) -> Tensor:
        """Poisson numbers with the rates (N, ...)."""
        return torch.stack([torch.poisson(r, generator=g) for r, g in zip(rates, self.generators, strict=True)])

    def _filled(
        self, shape: Sequence[int], fill: Callable[[Tensor, torch.Generator], object], dtype: torch.dtype | None = None
    ) -> Tensor:
        result = torch.empty(len(self.generators), *shape, device=self.device, dtype=dtype or torch.float32)
        for out, generator in zip(result, self.generators, strict=True):
            fill(out, generator)
        return result


def sample_seed(seed: int, index: int, corruption: str, severity: int) -> int:
    """The seed of one sample under one corruption, in [0, 2**32)."""
    key = [seed, index, zlib.crc32(corruption.encode()), severity]
    return int(np.random.SeedSequence(key).generate_state(1)[0])
