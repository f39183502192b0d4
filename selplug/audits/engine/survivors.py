"""The worst case: which samples are right under everything, and attacks that run on those alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...core.measures.functional import wilson_interval
from ...core.perturb import Perturbed
from ...core.types import Perturbation
from .results import Step, WorstCase

#: An image lies in a ball if it leaves it by no more than this, which is rounding.
BALL_TOLERANCE = 1e-5


class Survivors:
    """Samples that are right under every attack so far, all of them at first.

    Where those of ``last`` that have a ball all have the same one, an image counts only if it lies in it.

    Args:
        samples: how many there are.
        attacks: those that run on all samples.
        last: those that run on survivors alone, in order.
    """

    def __init__(self, samples: int, attacks: Sequence[Perturbation], last: Sequence[Perturbation]) -> None:
        balls = {(threat["norm"], float(threat["eps"])) for p in last if "eps" in (threat := p.threat)}
        self._ball = balls.pop() if len(balls) == 1 else None
        self._attacks = [perturbation.name for perturbation in attacks]
        self._steps = [Step(perturbation.name, 0, 0) for perturbation in last]
        self._right = torch.ones(samples, dtype=torch.bool)

    def of(self, where: slice) -> Tensor:
        """Which of the samples ``where`` survive: their places in it (M,), on the CPU."""
        return self._right[where].nonzero().flatten()

    def observed(self, where: slice, right: Tensor, perturbed: Perturbed | None) -> None:
        """Which of all samples ``where`` are right (N,) under an attack, or clean if ``perturbed`` is None."""
        self._right[where] &= right if perturbed is None else right | self._outside(perturbed)

    def attacked(self, step: int, where: slice, places: Tensor, right: Tensor, perturbed: Perturbed) -> None:
        """Which of the survivors ``places`` (M,) among the samples ``where`` are right under an attack of ``last``."""
        right = right | self._outside(perturbed)
        self._right[where.start + places] = right
        done = self._steps[step]
        self._steps[step] = Step(done.name, done.samples + len(places), done.survived + int(right.sum()))

    def worst_case(self, clean: str) -> WorstCase | None:
        """The result; None where no attack ran."""
        if not (self._attacks or self._steps):
            return None
        survivors, samples = int(self._right.sum()), len(self._right)
        return WorstCase(
            accuracy=survivors / samples,
            accuracy_ci95=wilson_interval(survivors, samples),
            samples=samples,
            conditions=(clean, *self._attacks, *(step.name for step in self._steps)),
            norm=self._ball[0] if self._ball else None,
            eps=self._ball[1] if self._ball else None,
            steps=tuple(self._steps),
        )

    def _outside(self, perturbed: Perturbed) -> Tensor:
        """Which images (N,) do not count, since they lie outside of the ball."""
        if self._ball is None:
            return torch.zeros(len(perturbed.images), dtype=torch.bool)
        norm, eps = self._ball
        sizes = perturbed.linf if norm == "Linf" else perturbed.l2
        return (sizes > eps + BALL_TOLERANCE).cpu()
