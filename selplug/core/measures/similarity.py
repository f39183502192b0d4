"""Streaming similarity of responses: torchmetrics classes over the formulas of :mod:`alignment`.

A *set* contains the responses of one layer to all samples. Results do not depend on the batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from ..errors import InputError
from .alignment import MIN_SAMPLES, block_structure, debiased_hsic, distance_of_products, normalized

ESTIMATORS = ("debiased", "biased")
#: Samples per HSIC_1: in arXiv 2010.15327 the estimate is stable from this number on.
BLOCK = 256


class LinearCKA(Metric):
    """Linear CKA of every pair of S sets of responses to the same samples (docs/methods.md).

    Args:
        estimator: "debiased": HSIC_1 of blocks of samples, weighted by their number of samples and summed before the
            division; can be slightly negative. "biased": the HSIC of centred Gram matrices of all samples at once,
            from the covariances between all units of all sets.
        block: samples per HSIC_1, at least 4, independent of the batches. If 1 to 3 samples remain at the end, they
            join the last block.
        kwargs: for :class:`torchmetrics.Metric`.

    ``update(responses)``: S tensors (N, U_s) of the same N samples; S and U_s must not change between calls.

    ``compute()``: (S, S), float64; NaN for a set that does not vary over samples.

    Raises:
        InputError: shapes are wrong; in ``compute``, fewer than 4 samples (2 if biased) or responses that are not
            finite.
    """

    full_state_update = False
    higher_is_better = None
    is_differentiable = False

    hsic: Tensor
    pending: Any
    products: Tensor
    total: Tensor
    seen: Tensor

    def __init__(self, estimator: str = "debiased", block: int = BLOCK, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if estimator not in ESTIMATORS:
            raise InputError(f"expected an estimator of {', '.join(ESTIMATORS)}, got {estimator!r}")
        if block < MIN_SAMPLES:
            raise InputError(f"expected at least {MIN_SAMPLES} samples per block, got {block}")
        self.estimator, self.block = estimator, block
        self.widths: list[int] = []
        self.add_state("pending", [], dist_reduce_fx="cat", persistent=True)
        for name in ("hsic", "products", "total", "seen"):
            # These zeros get their shape from the first batch.
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum", persistent=True)

    def update(self, responses: Sequence[Tensor]) -> None:
        """Adds a batch."""
        sets = wide(responses)
        self.widths = same_widths(sets, self.widths)
        self.seen += len(sets[0])
        joined = torch.cat(sets, 1)
        if self.estimator == "debiased":
            self.pending.append(joined)
            if sum(map(len, self.pending)) >= self.block + MIN_SAMPLES:
                hsic, rest = self._whole_blocks(torch.cat(self.pending))
                self.hsic = self.hsic + hsic
                self.pending = [rest.clone()]  # not a view of the whole batch
        else:
            joined = joined.double()
            self.total = self.total + joined.sum(0)
            self.products = self.products + joined.T @ joined

    def compute(self) -> Tensor:
        """The map (S, S)."""
        least = MIN_SAMPLES if self.estimator == "debiased" else 2
        if self.seen < least:
            raise InputError(f"{self.estimator} CKA needs at least {least} samples, got {int(self.seen)}")
        if self.estimator == "debiased":
            pending = torch.cat(self.pending) if isinstance(self.pending, list) else self.pending
            hsic, rest = self._whole_blocks(pending)
            hsic = self.hsic + hsic + self._hsic(rest)
            check_finite(hsic.diagonal())
        else:
            check_finite(torch.stack([total.sum() for total in torch.split(self.total, self.widths)]))
            covariance = self.products - torch.outer(self.total, self.total) / self.seen
            constant = varies_not(covariance.diagonal(), self.products.diagonal())
            covariance[constant], covariance[:, constant] = 0, 0
            sets = torch.arange(len(self.widths), device=self.device)
            owner = torch.repeat_interleave(sets, torch.tensor(self.widths, device=self.device))
            member = (owner.unsqueeze(1) == sets).double()
            hsic = member.T @ covariance.square_() @ member
        return normalized(hsic)

    def reset(self) -> None:
        """Forgets all samples; sets of other sizes may follow."""
        super().reset()
        self.widths = []

    def _whole_blocks(self, joined: Tensor) -> tuple[Tensor, Tensor]:
        """HSIC of all blocks that are followed by at least 4 samples, and the samples after the last of them."""
        hsic = torch.zeros((), dtype=torch.float64, device=joined.device)
        while len(joined) >= self.block + MIN_SAMPLES:
            hsic = hsic + self._hsic(joined[: self.block])
            joined = joined[self.block :]
        return hsic, joined

    def _hsic(self, joined: Tensor) -> Tensor:
        return len(joined) * debiased_hsic(torch.split(joined, self.widths, 1))


class Procrustes(Metric):
    """Orthogonal Procrustes distance between each of F and each of G sets of responses (docs/methods.md).

    Computed in float64 from the covariances between all units of the F sets and all units of the G sets.

    Args:
        num_units: number of units on each side, if both have the same; None takes it from the first batch.
        kwargs: for :class:`torchmetrics.Metric`.

    ``update(first, second)``: F tensors (N, U_f) and G tensors (N, V_g) of the same N samples.

    ``compute()``: (F, G), float64, in [0, 2]; NaN where a set does not vary over samples.

    Raises:
        InputError: shapes are wrong; in ``compute``, fewer than 2 samples or responses that are not finite.
    """

    full_state_update = False
    higher_is_better = None
    is_differentiable = False

    products: Tensor
    first_total: Tensor
    second_total: Tensor
    seen: Tensor

    def __init__(self, num_units: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.widths: tuple[list[int], list[int]] = ([], [])
        products = torch.zeros((num_units, num_units) if num_units else (), dtype=torch.float64)
        self.add_state("products", products, dist_reduce_fx="sum", persistent=True)
        for name in ("first_total", "second_total", "first_squares", "second_squares", "seen"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum", persistent=True)

    def update(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
        """Adds a batch."""
        both = wide(first), wide(second)
        wide([both[0][0], both[1][0]])  # the same samples
        self.widths = (same_widths(both[0], self.widths[0]), same_widths(both[1], self.widths[1]))
        x, y = (torch.cat(sets, 1).double() for sets in both)
        self.products = self.products + x.T @ y
        for name, joined in (("first", x), ("second", y)):
            for sums, what in (("_total", joined), ("_squares", joined.square())):
                setattr(self, name + sums, getattr(self, name + sums) + what.sum(0))
        self.seen += len(x)

    def compute(self) -> Any:
        """The map (F, G)."""
        if self.seen < 2:
            raise InputError(f"the Procrustes distance needs at least 2 samples, got {int(self.seen)}")
        norms, constant = [], []
        for name, widths in zip(("first", "second"), self.widths, strict=True):
            total, squares = getattr(self, name + "_total"), getattr(self, name + "_squares")
            variances = squares - total.square() / self.seen
            constant.append(varies_not(variances, squares))
            variances[constant[-1]] = 0
            norms.append(torch.stack([own.sum() for own in torch.split(variances, widths)]))
            check_finite(norms[-1])
        products = self.products - torch.outer(self.first_total, self.second_total) / self.seen
        products[constant[0]], products[:, constant[1]] = 0, 0
        rows = []
        for strip, own in zip(torch.split(products, self.widths[0]), norms[0], strict=True):
            pairs = zip(torch.split(strip, self.widths[1], 1), norms[1], strict=True)
            rows.append(torch.stack([distance_of_products(block, own, other) for block, other in pairs]))
        return torch.stack(rows)

    def reset(self) -> None:
        """Forgets all samples; sets of other sizes may follow."""
        super().reset()
        self.widths = ([], [])


class LayerCKA(LinearCKA):
    """Debiased linear CKA between all layers of one network, as a measure of an audit.

    ``compute()``: ``debiased`` (L, L), and ``block_structure``, see :func:`block_structure_values`.
    """

    def __init__(
        self, num_units: Sequence[int] | None = None, num_classes: int | None = None, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)

    def compute(self) -> Any:
        """The values named above."""
        cka = super().compute()
        return {"debiased": cka, "block_structure": block_structure_values(cka)}


class CKA(LinearCKA):
    """Debiased linear CKA of a layer's clean and perturbed responses, as a measure of an audit.

    ``update(clean (N, U), perturbed (N, U))``. ``compute()``: ``debiased``, at most about 1, and ``samples``.
    """

    #: Gets pairs of responses, clean and perturbed, instead of the responses of one condition.
    on_pairs = True
    #: The measure of all layers at once that an audit adds to this one.
    between_layers = LayerCKA
    min_samples = MIN_SAMPLES

    def __init__(
        self, num_units: int | None = None, num_classes: int | None = None, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)

    def update(self, clean: Tensor, perturbed: Tensor) -> None:  # type: ignore[override]
        """Adds a batch."""
        super().update([clean, perturbed])

    def compute(self) -> Any:
        """The values named above."""
        return {"debiased": super().compute()[0, 1], "samples": self.seen.long()}


class ProcrustesDistance(Procrustes):
    """Orthogonal Procrustes distance of a layer's clean and perturbed responses, as a measure of an audit.

    ``update(clean (N, U), perturbed (N, U))``. ``compute()``: ``distance`` in [0, 2], and ``samples``.
    """

    on_pairs = True

    def __init__(
        self, num_units: int | None = None, num_classes: int | None = None, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(num_units, **kwargs)  # an audit plans its passes with the size of states

    def update(self, clean: Tensor, perturbed: Tensor) -> None:  # type: ignore[override]
        """Adds a batch."""
        super().update([clean], [perturbed])

    def compute(self) -> Any:
        """The values named above."""
        return {"distance": super().compute()[0, 0], "samples": self.seen.long()}


def block_structure_values(similarity: Tensor) -> dict[str, Any]:
    """:func:`~selplug.core.measures.alignment.block_structure` in the form of a report: ``score`` and ``blocks``."""
    found = block_structure(similarity)
    return {"score": found.score, "blocks": [list(block) for block in found.blocks]}


def wide(responses: Sequence[Tensor]) -> list[Tensor]:
    """Sets of responses (N, U_s) in float32 or wider, checked."""
    if not responses or any(r.ndim != 2 or not r.is_floating_point() for r in responses):
        came = ", ".join(f"{r.dtype} of shape {tuple(r.shape)}" for r in responses) or "none"
        raise InputError(f"expected sets of floating-point responses (N, U), got {came}")
    if len({len(r) for r in responses}) > 1:
        raise InputError(f"expected responses to the same samples, got {', '.join(str(len(r)) for r in responses)}")
    return [r.detach().to(torch.promote_types(r.dtype, torch.float32)) for r in responses]


def same_widths(sets: Sequence[Tensor], known: list[int]) -> list[int]:
    """The numbers of units; InputError if they differ from those of earlier batches."""
    widths = [r.shape[1] for r in sets]
    if known and widths != known:
        raise InputError(f"expected sets of {known} units as before, got {widths}")
    return widths


def varies_not(variances: Tensor, squares: Tensor) -> Tensor:
    """Which units have no variance above the rounding errors of float64 sums."""
    return variances <= 1e-13 * squares


def check_finite(own: Tensor) -> None:
    """Raises InputError if the sum of a set is not finite."""
    bad = [str(place) for place, value in enumerate(own.tolist()) if not math.isfinite(value)]
    if bad:
        raise InputError(f"expected finite responses, got NaN or infinity in set {', '.join(bad)} (counted from 0)")
