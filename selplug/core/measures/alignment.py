"""Formulas for the similarity of two sets of responses, and for the blocks in a layer x layer map of similarities.

Pure functions of tensors, float64 inside. Definitions and sources: docs/methods.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError

#: HSIC_1 divides by n (n - 3).
MIN_SAMPLES = 4


def linear_cka(x: Tensor, y: Tensor, debiased: bool = True) -> Tensor:
    """Linear CKA of two sets of responses (Kornblith et al., arXiv 1905.00414).

    ``HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))`` with ``K = x x^T``, ``L = y y^T``. It is 1 if x and y differ only by
    rotation, reflection, translation and scale.

    Args:
        x: (N, U), floating point. y: (N, V), of the same samples in the same order.
        debiased: use HSIC_1 (Nguyen et al., arXiv 2010.15327, eq. 3), which is about 0 for independent responses and
            can be slightly negative; needs N >= 4. Otherwise use HSIC of centred Gram matrices; the result is in [0, 1]
            and far above 0 for few samples of many units; needs N >= 2.

    Returns:
        A scalar, float64; NaN if x or y does not vary over samples. Differentiable.

    Raises:
        InputError: shapes do not match, there are too few samples, or a response is not finite.
    """
    sets = [_checked(x, y, MIN_SAMPLES if debiased else 2), y]
    if debiased:
        return normalized(debiased_hsic([r.double() for r in sets]))[0, 1]
    x, y = (centred(r.double()) for r in sets)
    if len(x) <= max(x.shape[1], y.shape[1]):
        grams = torch.stack([(x @ x.T).flatten(), (y @ y.T).flatten()])
        return normalized(grams @ grams.T)[0, 1]
    hsic = torch.stack([(a.T @ b).square().sum() for a in (x, y) for b in (x, y)])
    return normalized(hsic.view(2, 2))[0, 1]


def debiased_hsic(responses: Sequence[Tensor]) -> Tensor:
    """HSIC_1 of every pair of sets of responses, from one product of their Gram matrices (arXiv 2010.15327, eq. 3).

    Args:
        responses: S sets (N, U_s) of the same N >= 4 samples. Gram matrices have their precision. Responses are centred
            first: products of uncentred float32 values lose all digits.

    Returns:
        (S, S), float64.
    """
    count = len(responses[0])
    moved = [centred(r) for r in responses]
    grams = torch.stack([(r @ r.T).double() for r in moved])
    grams.diagonal(dim1=1, dim2=2).zero_()
    rows = grams.sum(2)
    totals, flat = rows.sum(1), grams.flatten(1)
    whole = torch.outer(totals, totals) / ((count - 1) * (count - 2))
    return (flat @ flat.T + whole - 2 / (count - 2) * rows @ rows.T) / (count * (count - 3))


def normalized(hsic: Tensor) -> Tensor:
    """CKA (S, S) from HSIC (S, S), divided by the square roots of its diagonal; NaN where the diagonal is not > 0."""
    own = hsic.diagonal()
    root = torch.where(own > 0, own, torch.nan).sqrt()
    return hsic / root.unsqueeze(1) / root


def procrustes_distance(x: Tensor, y: Tensor) -> Tensor:
    """Orthogonal Procrustes distance of two sets of responses (Ding et al., arXiv 2108.01661).

    ``|x|_F^2 + |y|_F^2 - 2 |x^T y|_* = 2 - 2 |x^T y|_*`` with x and y centred and divided by their Frobenius norm, and
    ``|.|_*`` the sum of singular values: the squared distance that remains after the best rotation or reflection.

    Args:
        x: (N, U), floating point. y: (N, V), of the same samples in the same order; N >= 2.

    Returns:
        A scalar in [0, 2], float64; 0 if x and y differ only by rotation, reflection, translation and scale. NaN if x
        or y does not vary over samples.

    Raises:
        InputError: as for :func:`linear_cka`.
    """
    x, y = (centred(r.double()) for r in (_checked(x, y, 2), y))
    return distance_of_products(x.T @ y, x.square().sum(), y.square().sum())


def distance_of_products(products: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """:func:`procrustes_distance` from ``x^T y`` (U, V) and the squared norms of the centred x and y, scalars."""
    if not (own > 0 and other > 0):
        return torch.full_like(own, math.nan)
    overlap = torch.linalg.svdvals(products).sum() / (own * other).sqrt()
    return (2 - 2 * overlap).clamp_min(0)


def centred(responses: Tensor) -> Tensor:
    """Responses (N, U) minus their means over samples; exactly 0 for a constant unit."""
    return responses - responses.mean(0, dtype=torch.float64).to(responses.dtype)


@dataclass(frozen=True)
class BlockStructure:
    """``score``, NaN if undefined, and ``blocks``: first and last layer (from 0) of each block of 2 or more layers."""

    score: float
    blocks: tuple[tuple[int, int], ...]


def block_structure(similarity: Tensor) -> BlockStructure:
    """Measures the block structure of a layer x layer map (the score is ours; the phenomenon: arXiv 2010.15327).

    The score is the similarity of layers in the same block minus that of layers in different blocks *at the same
    distance in depth*. It is averaged over distances with weights ``1 / (1/inside + 1/outside)``, where ``inside`` and
    ``outside`` are the numbers of pairs. A constant map, or one that depends only on distance, has score 0; blocks of 1
    on a background of 0 have score 1. Blocks are runs of successive layers. They are chosen to maximize the sum of
    (similarity - mean similarity at the same distance) over all pairs within blocks.

    Args:
        similarity: (L, L), symmetric, larger for more similar layers. Layers with values that are not finite are left
            out.

    Returns:
        A score >= 0 in units of the map, NaN with fewer than 4 layers; and its blocks, empty if there are none.

    Raises:
        InputError: the map is not square.
    """
    if similarity.ndim != 2 or len(similarity) != similarity.shape[1]:
        raise InputError(f"expected a map (L, L), got shape {tuple(similarity.shape)}")
    values = similarity.double().cpu()
    layers = torch.isfinite(values).sum(1).gt(1).nonzero().flatten()
    values = values[layers][:, layers]
    count = len(layers)
    if count < 4 or not torch.isfinite(values).all():
        return BlockStructure(math.nan, ())
    above = torch.zeros_like(values)
    for distance in range(1, count):
        diagonal = values.diagonal(distance)
        above.diagonal(distance).copy_(diagonal - diagonal.mean())
    bounds = _best_runs(above)
    inside = torch.zeros(count, count, dtype=torch.bool)
    for start, stop in bounds:
        inside[start:stop, start:stop] = True
    difference = total = 0.0
    for distance in range(1, count):
        diagonal, within = values.diagonal(distance), inside.diagonal(distance)
        if within.any() and not within.all():
            weight = 1 / (1 / int(within.sum()) + 1 / int((~within).sum()))
            difference += weight * float(diagonal[within].mean() - diagonal[~within].mean())
            total += weight
    if difference <= 1e-12 * total or not total:
        return BlockStructure(0.0, ())
    blocks = ((int(layers[a]), int(layers[b - 1])) for a, b in bounds if b - a > 1)
    return BlockStructure(difference / total, tuple(blocks))


def _best_runs(above: Tensor) -> list[tuple[int, int]]:
    """The partition of L layers into runs ``(start, stop)`` with the largest sum of (L, L) pairs i < j within runs."""
    count = len(above)
    sums = torch.zeros(count + 1, count + 1, dtype=torch.float64)
    sums[1:, 1:] = above.triu(1).cumsum(0).cumsum(1)
    corner = sums.diagonal()
    gains = (corner.unsqueeze(0) + corner.unsqueeze(1) - sums - sums.T).tolist()  # [start][stop]
    best: list[tuple[float, int]] = [(0.0, 0)]
    for stop in range(1, count + 1):
        best.append(max((best[start][0] + gains[start][stop], start) for start in range(stop)))
    runs, stop = [], count
    while stop:
        runs.append((best[stop][1], stop))
        stop = best[stop][1]
    return runs[::-1]


def _checked(x: Tensor, y: Tensor, least: int) -> Tensor:
    for responses in (x, y):
        if responses.ndim != 2 or not responses.is_floating_point():
            raise InputError(
                f"expected floating-point responses (N, U), got {responses.dtype} of shape {tuple(responses.shape)}"
            )
    if len(x) != len(y):
        raise InputError(f"expected responses to the same samples, got {len(x)} and {len(y)} of them")
    if len(x) < least:
        raise InputError(f"expected at least {least} samples, got {len(x)}")
    if not (torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise InputError("expected finite responses, got NaN or infinity")
    return x
