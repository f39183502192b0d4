"""The formulas, as pure functions of tensors. Definitions and sources: docs/methods.md."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from .alignment import block_structure as block_structure  # noqa: PLC0414
from .alignment import linear_cka as linear_cka  # noqa: PLC0414
from .alignment import procrustes_distance as procrustes_distance  # noqa: PLC0414

EPS = 1e-6


def class_means(responses: Tensor, targets: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Mean response of every unit to every class.

    Args:
        responses: (N, U), floating point.
        targets: hard labels (N,), integers in [0, C), or soft targets (N, C), non-negative. Means are weighted as
            ``(Y^T r) / (Y^T 1)``, which for one-hot Y is the mean over the samples of a class (the generalization to
            soft targets is ours).
        num_classes: C.

    Returns:
        ``(means (C, U), weights (C,))``. ``weights`` is the number of samples (or the sum of soft targets) per class;
        where it is 0, the mean is set to 0 without a meaning. Sums are float32 or wider. Differentiable in both inputs.

    Raises:
        InputError: shapes do not match, or a label is outside [0, C).
    """
    if responses.ndim != 2 or not responses.is_floating_point():
        raise InputError(
            f"expected floating-point responses (N, U), got {responses.dtype} of shape {tuple(responses.shape)}"
        )
    sums, weights = class_sums(responses, one_hot(targets, num_classes, len(responses)))
    return means_of_sums(sums, weights), weights


def class_sums(responses: Tensor, soft_targets: Tensor) -> tuple[Tensor, Tensor]:
    """``(Y^T r (C, U), Y^T 1 (C,))`` for responses r (N, U) and targets Y (N, C), in float32 or wider."""
    wide = torch.promote_types(responses.dtype, torch.float32)
    soft_targets = soft_targets.to(wide)
    # A product with the one-hot matrix, since index_add is not deterministic on CUDA.
    return soft_targets.T @ responses.to(wide), soft_targets.sum(0)


def means_of_sums(sums: Tensor, weights: Tensor) -> Tensor:
    """Class means (C, U) of the sums (C, U) and weights (C,) of :func:`class_sums`; 0 for a class without weight."""
    # Absent classes are divided by 1: a tiny number would make the (unused) gradient infinite, and 0 * inf is NaN.
    return sums / torch.where(weights > 0, weights, 1).unsqueeze(1)


def one_hot(targets: Tensor, num_classes: int, num_samples: int, check_values: bool = True) -> Tensor:
    """Targets as a checked (N, C) matrix: hard labels become one-hot rows, soft targets stay unchanged.

    ``check_values=False`` skips the checks that wait for the device; a label outside [0, C) then becomes a row of
    zeros.

    Raises:
        InputError: the shape or dtype is wrong, a label is outside [0, C), or a soft target is negative.
    """
    if targets.ndim == 2 and tuple(targets.shape) == (num_samples, num_classes):
        if not targets.is_floating_point():
            return targets.float()
        if check_values and (targets < 0).any():
            raise InputError("expected soft targets >= 0, got negative entries")
        return targets
    if targets.ndim != 1 or len(targets) != num_samples:
        raise InputError(
            f"expected targets (N,)=({num_samples},) or (N, C)=({num_samples}, {num_classes}), "
            f"got {tuple(targets.shape)}"
        )
    if targets.is_floating_point() or targets.is_complex():
        raise InputError(f"expected integer labels (N,), got {targets.dtype}")
    if check_values and targets.numel() and not 0 <= int(targets.min()) <= int(targets.max()) < num_classes:
        raise InputError(
            f"expected labels in [0, {num_classes}), got values from {int(targets.min())} to {int(targets.max())}"
        )
    return targets.unsqueeze(1) == torch.arange(num_classes, device=targets.device)


def class_selectivity(means: Tensor, weights: Tensor | None = None, eps: float = EPS) -> Tensor:
    """Class selectivity index of every unit (Morcos et al., arXiv 1803.06959; Leavitt & Morcos, arXiv 2003.01262).

    ``SI[u] = (mu_max - mu_rest) / (mu_max + mu_rest + eps)`` with ``mu_max`` the largest class mean and ``mu_rest`` the
    mean of the other classes' means.

    Args:
        means: (C, U), non-negative class means; rectify negative responses first.
        weights: (C,), samples per class; classes with weight 0 are ignored (ours). None: all classes count.
        eps: keeps the quotient finite; a unit with ``mu_max <= eps`` is dead and has index 0 (ours).

    Returns:
        (U,), in [0, 1] for non-negative means; differentiable.

    Raises:
        InputError: shapes do not match, or fewer than two classes have samples, so that the index is undefined.
    """
    means = _present(means, weights)
    return _index(means, len(means) - 1, eps)


def class_wise_selectivity(means: Tensor, weights: Tensor | None = None, eps: float = EPS) -> Tensor:
    """Signed selectivity of every unit for every class (ours); equals :func:`class_selectivity` for the largest class.

    ``s[c,u] = (mu[c,u] - mu_rest[c,u]) / (mu[c,u] + mu_rest[c,u] + eps)`` with ``mu_rest[c,u]`` the mean of the *other*
    classes' means: 1 if the unit responds only to class c, -1 if it responds to all classes except c, 0 if it is dead.

    Args:
        means, weights, eps: as for :func:`class_selectivity`.

    Returns:
        (C, U), in [-1, 1] for non-negative means, NaN for classes without samples; differentiable.

    Raises:
        InputError: as for :func:`class_selectivity`.
    """
    present = _present(means, weights)
    rest = (present.sum(0) - present) / (len(present) - 1)
    dead = present.amax(0) <= eps
    signed = torch.where(dead, 0, (present - rest) / torch.where(dead, 1, present + rest + eps))
    if weights is None:
        return signed
    return signed.new_full(means.shape, math.nan).index_put(((weights > 0).nonzero().squeeze(1),), signed)


def selectivity_without_sync(sums: Tensor, weights: Tensor, eps: float = EPS) -> Tensor:
    """:func:`class_selectivity` of class sums, without waiting for the device.

    Args:
        sums: (C, U), non-negative, 0 for classes without weight.
        weights: (C,), samples per class; classes with weight 0 are ignored.
        eps: as for :func:`class_selectivity`.

    Returns:
        (U,), in [0, 1]; all 0 if fewer than two classes have weight. Differentiable in ``sums``.
    """
    others = (weights > 0).sum() - 1
    # A class without samples has mean 0, which is never the largest mean of a unit that is not dead.
    index = _index(means_of_sums(sums, weights), others.clamp_min(1), eps)
    return torch.where(others < 1, 0, index)


def _present(means: Tensor, weights: Tensor | None) -> Tensor:
    """The checked means of the classes that have samples, in float32 or wider."""
    if means.ndim != 2 or (weights is not None and tuple(weights.shape) != (len(means),)):
        shape = None if weights is None else tuple(weights.shape)
        raise InputError(f"expected means (C, U) and weights (C,), got {tuple(means.shape)} and {shape}")
    means = means.to(torch.promote_types(means.dtype, torch.float32))
    if weights is not None:
        means = means[weights > 0]
    if len(means) < 2:
        raise InputError(
            f"class selectivity needs samples of at least two classes, got {len(means)}; use more samples or classes"
        )
    return means


def _index(means: Tensor, others: Tensor | int, eps: float) -> Tensor:
    """The index from means (C, U); ``others`` is the number of present classes minus one."""
    largest = means.amax(0)
    rest = (means.sum(0) - largest) / others
    dead = largest <= eps
    total = torch.where(dead, 1, largest + rest + eps)
    return torch.where(dead, 0, (largest - rest) / total)


def shuffle_targets(targets: Tensor, seed: int = 0) -> Tensor:
    """A seeded permutation of labels (N,), for the null level of selectivity; the result (N,) is on the CPU.

    It is ``targets[torch.randperm(N, generator=torch.Generator().manual_seed(seed))]``.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    return targets.cpu()[torch.randperm(len(targets), generator=generator, device="cpu")]


def spread_targets(start: int, count: int, num_classes: int, seed: int = 0) -> Tensor:
    """Random labels with equal class sizes for samples ``start`` to ``start + count`` of an endless stream.

    Every block of C consecutive samples gets each class once, in an order drawn from (seed, block), so the label of a
    sample does not depend on the batches. Replaces :func:`shuffle_targets` if the labels of the whole set are unknown
    in advance.
    """
    first, last = start // num_classes, (start + count - 1) // num_classes
    blocks = []
    for block in range(first, last + 1):
        generator = torch.Generator("cpu").manual_seed((seed * 1_000_003 + block) % 2**63)
        blocks.append(torch.randperm(num_classes, generator=generator, device="cpu"))
    offset = start - first * num_classes
    return torch.cat(blocks)[offset : offset + count] if blocks else torch.empty(0, dtype=torch.long)


def covariance_eigenvalues(covariance: Tensor) -> Tensor:
    """Eigenvalues (U,) of a symmetric (U, U) matrix, largest first, float64; negative rounding errors become 0."""
    return torch.linalg.eigvalsh(covariance.double()).flip(0).clamp_min(0)


def participation_ratio(eigenvalues: Tensor) -> Tensor:
    """``D = (sum l)^2 / sum l^2``, a scalar in [1, K]; 0 if all eigenvalues are 0 (Jiang et al., arXiv 2007.02047).

    Args:
        eigenvalues: (K,), of a covariance, any order.
    """
    eigenvalues = _eigenvalues(eigenvalues)
    largest = eigenvalues.amax() if eigenvalues.numel() else eigenvalues.new_zeros(())
    if largest <= 0:
        return eigenvalues.new_zeros(())
    scaled = eigenvalues / largest  # squares of tiny eigenvalues would underflow
    return scaled.sum().square() / scaled.square().sum()


def corrected_participation_ratio(eigenvalues: Tensor, num_samples: int) -> Tensor:
    """Participation ratio without the finite-sample bias: ``1/D = 1/D_naive - 1/(N - 1)``.

    Uses the Gaussian expectation of tr S^2. The unit term of arXiv 2509.26560 is left out, since all units of a layer
    are measured, not sampled.

    Args:
        eigenvalues: (K,), of the sample covariance.
        num_samples: N, the number of samples in the covariance.

    Returns:
        A scalar, NaN if the right side is not positive: the sample is too small to distinguish D from infinity.
    """
    naive = participation_ratio(eigenvalues)
    if num_samples < 2 or naive <= 0:
        return torch.full_like(naive, math.nan)
    inverse = 1 / naive - 1 / (num_samples - 1)
    # A difference as small as rounding errors does not show that D is finite.
    return torch.where(inverse > 1e-12, 1 / inverse, torch.nan)


def participation_ratio_contributions(covariance: Tensor) -> Tensor:
    """The contribution of each unit to the participation ratio: D of all units minus D of all others (ours).

    Needs no eigenvalues: in ``D = (tr S)^2 / tr S^2``, leaving out unit u lowers ``tr S`` by ``S[u,u]`` and ``tr S^2``
    by ``2 sum_v S[u,v]^2 - S[u,u]^2``.

    Args:
        covariance: (U, U), symmetric.

    Returns:
        (U,), float64; negative if the variance of the other units alone is spread over more directions.

    Raises:
        InputError: the matrix is not square.
    """
    if covariance.ndim != 2 or len(covariance) != covariance.shape[1]:
        raise InputError(f"expected a covariance (U, U), got shape {tuple(covariance.shape)}")
    variances = covariance.double().diagonal()
    largest = variances.amax() if len(variances) else variances.sum()
    if largest <= 0:
        return torch.zeros_like(variances)
    scaled = covariance.double() / largest  # squares of tiny variances would underflow
    variances, squares = scaled.diagonal(), scaled.square()
    trace, total = variances.sum(), squares.sum()
    left_trace, left_total = trace - variances, total - 2 * squares.sum(1) + variances.square()
    # If one unit has nearly all the variance, the difference loses its digits: then sum over the others instead.
    for unit in (left_total < 1e-6 * total).nonzero().flatten().tolist():
        others = torch.arange(len(scaled), device=scaled.device) != unit
        left_trace[unit], left_total[unit] = variances[others].sum(), squares[others][:, others].sum()
    left = torch.where(left_total > 0, left_trace.square() / left_total.clamp_min(1e-300), 0)
    return trace.square() / total - left


def principal_subspace(covariance: Tensor, components: float) -> Tensor:
    """Orthonormal principal directions, the largest eigenvalues first.

    Args:
        covariance: (U, U), symmetric.
        components: an int is the number k of directions, in [1, U]; a float in (0, 1] is the fraction of the variance
            that they must contain (:func:`components_for_variance`).

    Returns:
        (U, k), float64.

    Raises:
        InputError: ``components`` is out of range.
    """
    values, vectors = torch.linalg.eigh(covariance.double())
    if isinstance(components, int):
        if not 1 <= components <= len(values):
            raise InputError(f"expected 1 to U={len(values)} components, or a fraction as a float, got {components}")
        count = components
    else:
        count = components_for_variance(values, components)
    return vectors.flip(1)[:, :count]


def outside_subspace(centred: Tensor, basis: Tensor) -> Tensor:
    """The part (..., U) of centred responses (..., U) outside the subspace of an orthonormal basis (U, k).

    ``e = (I - V V^T) (r - mean)``; ``e[u]^2`` is the share of unit u in the energy ``||e||^2`` (ours).
    """
    return centred - (centred @ basis) @ basis.T


def components_for_variance(eigenvalues: Tensor, fraction: float) -> int:
    """Number of principal components needed for a fraction of the variance (arXiv 2010.07693); 0 without variance.

    Args:
        eigenvalues: (K,), of a covariance, any order.
        fraction: in (0, 1].

    Raises:
        InputError: the fraction is outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise InputError(f"expected a fraction in (0, 1], got {fraction}")
    eigenvalues = _eigenvalues(eigenvalues).sort(descending=True).values
    total = eigenvalues.sum()
    if total <= 0:
        return 0
    cumulative = eigenvalues.cumsum(0)
    # A tolerance for rounding errors: with equal eigenvalues, 9 of 10 components must count as 90 %.
    reached = cumulative >= (fraction - 1e-12) * cumulative[-1]
    return int(reached.to(torch.uint8).argmax()) + 1


@dataclass(frozen=True)
class SpectrumFit:
    """``l_k ~ k^-exponent`` over the ranks ``first`` to ``last`` (1-based, both included).

    ``stderr`` is the standard error of the exponent, ``r2`` the weighted coefficient of determination. With fewer than
    10 ranks there is no fit: all three are NaN.
    """

    exponent: float
    stderr: float
    r2: float
    first: int
    last: int


def spectrum_exponent(eigenvalues: Tensor, first: int = 11, last: int = 500) -> SpectrumFit:
    """Power-law exponent of an eigenspectrum (Stringer et al., Nature 2019; Jiang et al., arXiv 2007.02047).

    Least squares of log l on log k with weights 1/k. Eigenvalues below ``K * machine_eps * l_1`` are left out. A
    spectrum with fewer than ``last`` usable ranks is fitted over all of them, from rank 1; ``first`` and ``last`` of
    the result show the ranks used.

    Args:
        eigenvalues: (K,), any order.
        first, last: ranks to fit, 1-based, both included.

    Raises:
        InputError: not 1 <= first < last.
    """
    if not 1 <= first < last:
        raise InputError(f"expected ranks 1 <= first < last, got first={first}, last={last}")
    values = _eigenvalues(eigenvalues).double().sort(descending=True).values
    if not values.numel() or values[0] <= 0:
        return SpectrumFit(math.nan, math.nan, math.nan, 1, 0)
    usable = int((values > len(values) * torch.finfo(values.dtype).eps * values[0]).sum())
    if usable < last:
        first, last = 1, usable
    if last - first + 1 < 10:
        return SpectrumFit(math.nan, math.nan, math.nan, first, last)
    rank = torch.arange(first, last + 1, dtype=values.dtype, device=values.device)
    weight = 1 / rank
    weight = weight / weight.sum()
    x, y = rank.log(), values[first - 1 : last].log()
    x, y = x - (weight * x).sum(), y - (weight * y).sum()
    spread = (weight * x * x).sum()
    slope = (weight * x * y).sum() / spread
    residual = (weight * (y - slope * x).square()).sum()
    total = (weight * y * y).sum()
    stderr = (residual / spread / (len(rank) - 2)).sqrt()
    # A flat line fits a flat spectrum exactly.
    r2 = 1 - residual / total if total > 1e-24 else torch.ones_like(total)
    return SpectrumFit(float(-slope), float(stderr), float(r2), first, last)


def wilson_interval(successes: int, trials: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson score interval of a proportion, 95 % by default; ``(0, 1)`` without trials."""
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    denominator = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / denominator
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / denominator
    return max(0.0, centre - half), min(1.0, centre + half)


def _eigenvalues(eigenvalues: Tensor) -> Tensor:
    if eigenvalues.ndim != 1:
        raise InputError(f"expected eigenvalues (K,), got shape {tuple(eigenvalues.shape)}")
    return eigenvalues.to(torch.promote_types(eigenvalues.dtype, torch.float32)).clamp_min(0)
