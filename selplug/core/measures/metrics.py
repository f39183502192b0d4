"""Streaming measures of one layer: torchmetrics classes that collect sums for the formulas of :mod:`functional`.

Each takes responses (N, U) and labels batch by batch; memory does not grow with the number of samples. Sums are
float64, so the result does not depend on the batches, and states of several ranks can be added.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from ..errors import InputError
from . import functional


class ClassSelectivity(Metric):
    """Class selectivity of every unit, and its level under shuffled labels (docs/methods.md).

    Args:
        num_classes: C, at least 2.
        num_units: U; None takes it from the first batch (with several ranks, each then needs a batch).
        seed: seed of the random labels for the null level.
        eps: of the index; a unit whose largest class mean is at most ``eps`` is dead.
        kwargs: for :class:`torchmetrics.Metric`.

    ``update(responses (N, U), targets (N,) or (N, C), shuffled_targets=None)``: responses non-negative. The null level
    comes from ``shuffled_targets`` (:func:`functional.shuffle_targets` of the whole set's labels), or else from random
    labels of equal class sizes (:func:`functional.spread_targets`).

    ``compute()``: ``mean`` and ``mean_alive`` (without dead units; NaN if all are dead) in [0, 1], ``null`` (mean under
    shuffled labels), ``dead_units``, ``classes`` (number with samples), ``samples``, ``samples_per_class_min`` (over
    classes with samples), and per unit (U,) ``selectivity``, ``selectivity_null``.

    Raises:
        InputError: shapes or labels are wrong; in ``compute``, fewer than two classes have samples.
    """

    full_state_update = False
    higher_is_better = None
    is_differentiable = False
    min_classes = 2

    sums: Tensor
    weights: Tensor
    null_sums: Tensor
    null_weights: Tensor
    seen: Tensor

    def __init__(
        self,
        num_classes: int,
        num_units: int | None = None,
        seed: int = 0,
        eps: float = functional.EPS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_classes < 2:
            raise InputError(f"expected at least 2 classes, got {num_classes}")
        self.num_units, self.num_classes, self.seed, self.eps = _units(num_units), num_classes, seed, eps
        for name in ("sums", "null_sums"):
            _add_sum(self, name, num_classes, num_units)
        for name in ("weights", "null_weights"):
            _add_sum(self, name, num_classes)
        _add_sum(self, "seen")

    def update(self, responses: Tensor, targets: Tensor, shuffled_targets: Tensor | None = None) -> None:
        """Adds a batch."""
        known = self.num_units or (self.sums.shape[-1] if self.sums.ndim else None)
        responses = _wide(responses, known)
        count = len(responses)
        if shuffled_targets is None:
            start = int(self.seen)
            shuffled_targets = functional.spread_targets(start, count, self.num_classes, self.seed)
        for prefix, labels in (("", targets), ("null_", shuffled_targets)):
            # On an accelerator this check would wait for the device at every layer; compute() checks the weights.
            on_cpu = labels.device.type == "cpu"
            matrix = functional.one_hot(labels, self.num_classes, count, check_values=on_cpu)
            sums, weights = functional.class_sums(responses, matrix.to(responses.device))
            setattr(self, prefix + "sums", getattr(self, prefix + "sums") + sums)
            getattr(self, prefix + "weights").add_(weights)
        self.seen += count

    def compute(self) -> dict[str, Tensor]:
        """The values named above."""
        if not torch.isclose(self.weights.sum(), self.seen):
            raise InputError(
                f"expected labels in [0, {self.num_classes}) or soft targets that sum to 1, got a total weight of "
                f"{float(self.weights.sum()):.6g} from {int(self.seen)} samples"
            )
        selectivity, largest = self._index(self.sums, self.weights)
        null, _ = self._index(self.null_sums, self.null_weights)
        alive = largest > self.eps
        present = self.weights[self.weights > 0]
        return {
            "mean": selectivity.mean(),
            "mean_alive": selectivity[alive].mean() if alive.any() else torch.tensor(math.nan),
            "null": null.mean(),
            "dead_units": (~alive).sum(),
            "classes": torch.tensor(len(present)),
            "samples": self.seen.long(),
            "samples_per_class_min": present.min().long(),
            "selectivity": selectivity,
            "selectivity_null": null,
        }

    def _index(self, sums: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        means = functional.means_of_sums(sums, weights)
        return functional.class_selectivity(means, weights, self.eps), means.amax(0)


class Dimensionality(Metric):
    """Dimensionality and eigenspectrum of a layer's responses from their covariance over samples (docs/methods.md).

    Args:
        num_units: U; None takes it from the first batch (with several ranks, each then needs a batch).
        first, last: ranks for the power law, see :func:`functional.spectrum_exponent`.
        num_classes, seed: ignored; every measure gets them.
        kwargs: for :class:`torchmetrics.Metric`.

    ``update(responses (N, U), targets=None)``; also works on differences of responses.

    ``compute()``: ``samples`` N; ``rank_limited`` (N <= U: the covariance has at most N - 1 eigenvalues above 0);
    ``components_90``, ``_95``, ``_99``, the ``participation_ratio``, and each divided by U (``..._fraction``);
    ``participation_ratio_corrected`` for the finite sample, NaN if the sample is too small; ``spectrum`` with
    ``exponent``, ``stderr``, ``r2``, ``first``, ``last``; ``eigenvalues`` (U,), float64, largest first, at most N - 1
    of them above 0.

    Raises:
        InputError: shapes are wrong; in ``compute``, fewer than two samples.
    """

    full_state_update = False
    higher_is_better = None
    is_differentiable = False
    #: Also measured on the difference between perturbed and clean responses.
    on_differences = True

    total: Tensor
    products: Tensor
    seen: Tensor

    def __init__(
        self,
        num_units: int | None = None,
        num_classes: int | None = None,
        seed: int = 0,
        first: int = 11,
        last: int = 500,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_units, self.first, self.last = _units(num_units), first, last
        _add_sum(self, "total", num_units)
        _add_sum(self, "products", num_units, num_units)
        _add_sum(self, "seen")

    def update(self, responses: Tensor, targets: Tensor | None = None) -> None:
        """Adds a batch."""
        known = self.num_units or (self.total.shape[-1] if self.total.ndim else None)
        responses = _wide(responses, known)
        # Uncentred sums keep enough digits in float64 and can be added over batches and ranks.
        if self.products.ndim:
            self.products.addmm_(responses.T, responses)
        else:
            self.products = responses.T @ responses
        self.total = self.total + responses.sum(0)
        self.seen += len(responses)

    def covariance(self) -> Tensor:
        """Sample covariance (U, U), divided by N - 1, float64."""
        count = int(self.seen)
        if count < 2:
            raise InputError(f"dimensionality needs at least two samples, got {count}")
        return (self.products - torch.outer(self.total, self.total) / count) / (count - 1)

    def compute(self) -> dict[str, Any]:
        """The values named above."""
        count, units = int(self.seen), len(self.total) if self.total.ndim else 0
        eigenvalues = functional.covariance_eigenvalues(self.covariance())
        eigenvalues[count - 1 :] = 0  # beyond rank N - 1 there are only rounding errors
        ratio = functional.participation_ratio(eigenvalues)
        values: dict[str, Any] = {"samples": count, "rank_limited": count <= units}
        for percent in (90, 95, 99):
            components = functional.components_for_variance(eigenvalues, percent / 100)
            values[f"components_{percent}"] = components
            values[f"components_{percent}_fraction"] = components / units
        fit = functional.spectrum_exponent(eigenvalues, self.first, self.last)
        return {
            **values,
            "participation_ratio": ratio,
            "participation_ratio_fraction": ratio / units,
            "participation_ratio_corrected": functional.corrected_participation_ratio(eigenvalues, count),
            "spectrum": {
                "exponent": fit.exponent,
                "stderr": fit.stderr,
                "r2": fit.r2,
                "first": fit.first,
                "last": fit.last,
            },
            "eigenvalues": eigenvalues,
        }


def _units(num_units: int | None) -> int | None:
    if num_units is not None and num_units < 1:
        raise InputError(f"expected at least 1 unit, got {num_units}")
    return num_units


def _add_sum(metric: Metric, name: str, *shape: int | None) -> None:
    """Adds a state of zeros that is summed over ranks; a single zero for broadcasting if a size is still unknown."""
    known = tuple(size for size in shape if size is not None)
    default = torch.zeros(known if len(known) == len(shape) else (), dtype=torch.float64)
    metric.add_state(name, default, dist_reduce_fx="sum", persistent=True)


def _wide(responses: Tensor, num_units: int | None) -> Tensor:
    if (
        responses.ndim != 2
        or not responses.is_floating_point()
        or (num_units is not None and responses.shape[1] != num_units)
    ):
        expected = "U" if num_units is None else f"U={num_units}"
        raise InputError(
            f"expected floating-point responses (N, U) with {expected}, "
            f"got {responses.dtype} of shape {tuple(responses.shape)}"
        )
    return responses.double()
