"""Input-unit gradient variability (arXiv 2010.07693): formulas without the bias of a few probes, and the measure.

With P probes an estimate of g has the relative variance ``t = 1/c^2 - 1`` (c: :func:`probes.chi_mean`), which a plain
standard deviation would take for variability.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from ..errors import InputError
from .unit_gradients import UnitGradients, chi_mean

#: Samples are dealt to so many blocks; what the two halves of probes disagree by in each gives the standard error.
BLOCKS = 16


def cv_over_samples(sums: Tensor, squares: Tensor, count: int, probes: int) -> Tensor:
    """Coefficient of variation of g over samples, of every unit; standard deviation with N - 1.

    Estimates of g are independent over samples, so that ``m^2 - t q / N`` has the mean ``mu^2`` (m: mean of estimates,
    q: mean of g^2) and ``N / (N - 1) (q - m^2 + t q / N)`` that of the variance.

    Args:
        sums, squares: (..., U), over samples, of estimates without bias of g and of g^2.
        count: N.
        probes: P behind each estimate, 0 for exact values.

    Returns:
        (..., U); below 0 where noise takes the variance there, so that averages over units stay without bias; NaN for
        a unit whose gradient is 0 everywhere, and for fewer than two samples.
    """
    if count < 2:
        return torch.full_like(sums, math.nan)
    mean, square = sums / count, squares / count
    noise = (1 / chi_mean(probes) ** 2 - 1) * square / count
    squared_mean = mean.square() - noise
    return signed_root(count / (count - 1) * (square - squared_mean) / squared_mean)


def cv_over_units(gradients: UnitGradients) -> Tensor:
    """Coefficient of variation of g over units, of every sample (N,); all units are there: divided by U, not U - 1.

    Units share their probes, so that their errors correlate and the squared mean of one estimate is too large by an
    amount that depends on the network. The product of the means of both halves has no such bias:
    ``CV^2 = mean_u g^2 / (m_a m_b) - 1``.

    Returns:
        (N,); below 0 where noise takes the variance there; NaN for a sample without any gradient.
    """
    means = gradients.half_norms().double().mean(2)
    return signed_root(gradients.squares.double().mean((0, 2)) / means.prod(0) - 1)


def signed_root(values: Tensor) -> Tensor:
    """``sign(v) sqrt(|v|)``."""
    return values.sign() * values.abs().sqrt()


class GradientVariability(Metric):
    """Mean and variability of the input gradients of a layer's units (docs/methods.md).

    Args:
        num_units: U; None takes it from the first batch (where ranks are reduced, each then needs a batch).
        num_classes, seed: not used; every measure is built with them.
        kwargs: for :class:`torchmetrics.Metric`.

    ``update(gradients, targets=None)`` with :class:`UnitGradients`, all of one number of probes.

    ``compute()``: ``mean`` of g over samples and units; ``cv_samples`` over samples (averaged over the units that have
    a gradient) and ``cv_units`` over units (averaged over the samples that have one), each with its ``..._stderr``, the
    standard error for these samples that comes from the probes, 0 if exact; ``flat_units``, whose gradient is 0 on all
    samples; ``probes`` (0: exact) and ``differences`` as of :class:`UnitGradients`; per unit (U,) ``gradient``, the
    mean of g over samples.

    Raises:
        InputError: wrong shapes; numbers of probes that differ; on compute, no samples.
    """

    full_state_update = False
    higher_is_better = None
    is_differentiable = False
    #: Fed with :class:`UnitGradients` instead of responses.
    on_gradients = True

    norms: Tensor
    half_norms: Tensor
    half_squares: Tensor
    errors: Tensor
    cv_units: Tensor
    seen: Tensor
    probes: Tensor
    differences: Tensor

    def __init__(
        self, num_units: int | None = None, num_classes: int | None = None, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if num_units is not None and num_units < 1:
            raise InputError(f"expected at least 1 unit, got {num_units}")
        self.num_units = num_units
        units = num_units or 1  # broadcast with the first batch
        for name, shape in (
            ("norms", (units,)),
            ("half_norms", (2, BLOCKS, units)),
            ("half_squares", (2, BLOCKS, units)),
            ("errors", ()),  # sum over samples of the variance of their mean over units
            ("cv_units", (3,)),  # sum, sum of variances, samples with a gradient
            ("seen", ()),
        ):
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum", persistent=True)
        for name, start in (("probes", -1.0), ("differences", 0.0)):
            self.add_state(name, torch.tensor(start, dtype=torch.float64), dist_reduce_fx="max", persistent=True)

    def update(self, gradients: UnitGradients, targets: Tensor | None = None) -> None:
        """Adds a batch."""
        squares = gradients.squares.double()
        if squares.ndim != 3 or len(squares) != 2 or (self.num_units or squares.shape[2]) != squares.shape[2]:
            expected = "U" if self.num_units is None else f"U={self.num_units}"
            raise InputError(f"expected squares (2, N, U) with {expected}, got shape {tuple(squares.shape)}")
        if int(self.probes) not in (-1, gradients.probes):
            raise InputError(f"expected gradients from {int(self.probes)} probes as before, got {gradients.probes}")
        self.probes = torch.full_like(self.probes, gradients.probes)
        if gradients.differences:
            self.differences = torch.ones_like(self.differences)
        gradients = UnitGradients(squares, gradients.probes)
        halves = gradients.half_norms()
        # A product with the matrix of blocks, not index_add: the latter is not deterministic on CUDA.
        place = (int(self.seen) + torch.arange(squares.shape[1], device=squares.device)) % BLOCKS
        blocks = torch.nn.functional.one_hot(place, BLOCKS).double().T
        self.norms = self.norms + gradients.norms().sum(0)
        self.half_norms = self.half_norms + blocks @ halves
        self.half_squares = self.half_squares + blocks @ squares
        means = halves.mean(2)
        self.errors = self.errors + (means[0] - means[1]).square().sum() / 4
        value = cv_over_units(gradients)
        # Each half alone is biased, and both alike: what they differ by tells the noise.
        alone = signed_root(squares.mean(2) / means.square() - 1)
        found = torch.stack([value, (alone[0] - alone[1]).square() / 4, torch.ones_like(value)])
        self.cv_units = self.cv_units + found[:, value.isfinite()].sum(1)
        self.seen = self.seen + squares.shape[1]

    def compute(self) -> dict[str, Tensor]:
        """The values named above."""
        count, probes = int(self.seen), int(self.probes)
        if not count:
            raise InputError("gradient variability needs samples, got none")
        flat = self.half_squares.sum((0, 1)) == 0
        cv_samples, cv_samples_stderr = self._cv_samples(count, probes, ~flat)
        total, variance, samples = self.cv_units
        return {
            "mean": self.norms.mean() / count,
            "mean_stderr": self.errors.sqrt() / count,
            "cv_samples": cv_samples,
            "cv_samples_stderr": cv_samples_stderr,
            "cv_units": total / samples,
            "cv_units_stderr": variance.sqrt() / samples,
            "flat_units": flat.sum(),
            "probes": torch.tensor(probes),
            "differences": self.differences > 0,
            "gradient": self.norms / count,
        }

    def _cv_samples(self, count: int, probes: int, alive: Tensor) -> tuple[Tensor, Tensor]:
        """Mean over units and its standard error."""
        if count < 2 or not alive.any():
            undefined = torch.tensor(math.nan, dtype=torch.float64)
            return undefined, undefined

        def layer(norms: Tensor, squares: Tensor, probes: int) -> Tensor:
            return cv_over_samples(norms[..., alive], squares[..., alive], count, probes).mean(-1)

        half_norms, half_squares = self.half_norms.sum(1), self.half_squares.sum(1)
        squares = half_squares.mean(0)
        # The root of a noisy variance falls short by about 1 / P: from P and P / 2 probes it is extrapolated to 0.
        value = 2 * layer(self.norms, squares, probes) - layer(half_norms, half_squares, probes // 2).mean()
        norm_noise, square_noise = (
            (halves[0] - halves[1]) / 2 for halves in (self.half_norms, self.half_squares)
        )  # (BLOCKS, U)
        up, down = (layer(self.norms + s * norm_noise, squares + s * square_noise, probes) for s in (1, -1))
        return value, ((up - down) / 2).square().sum().sqrt()
