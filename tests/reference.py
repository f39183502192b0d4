"""The formulas of METHODS once more: slow, obvious loops over numpy arrays in float64."""

from __future__ import annotations

import colorsys
import itertools
import math
from collections.abc import Callable

import numpy as np


def class_means(responses: np.ndarray, targets: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    units = responses.shape[1]
    means, weights = np.zeros((num_classes, units)), np.zeros(num_classes)
    for c in range(num_classes):
        total = np.zeros(units)
        for n in range(len(responses)):
            weight = float(targets[n] == c) if targets.ndim == 1 else float(targets[n, c])
            total += weight * responses[n].astype(np.float64)
            weights[c] += weight
        if weights[c] > 0:
            means[c] = total / weights[c]
    return means, weights


def class_selectivity(means: np.ndarray, weights: np.ndarray | None = None, eps: float = 1e-6) -> np.ndarray:
    present = [c for c in range(len(means)) if weights is None or weights[c] > 0]
    result = np.zeros(means.shape[1])
    for u in range(means.shape[1]):
        best = max(present, key=lambda c: means[c, u])
        largest = means[best, u]
        rest = np.mean([means[c, u] for c in present if c != best])
        if largest > eps:
            result[u] = (largest - rest) / (largest + rest + eps)
    return result


def eigenvalues(responses: np.ndarray) -> np.ndarray:
    """Of the covariance over samples, largest first."""
    count, units = responses.shape
    mean = np.zeros(units)
    for row in responses.astype(np.float64):
        mean += row / count
    covariance = np.zeros((units, units))
    for row in responses.astype(np.float64):
        covariance += np.outer(row - mean, row - mean) / (count - 1)
    values = np.linalg.eigvalsh(covariance)[::-1]
    return np.array([max(value, 0.0) for value in values])


def participation_ratio(values: np.ndarray) -> float:
    first = second = 0.0
    for value in values:
        first += value
        second += value * value
    return first * first / second if second > 0 else 0.0


def corrected_participation_ratio(values: np.ndarray, num_samples: int) -> float:
    inverse = 1 / participation_ratio(values) - 1 / (num_samples - 1)
    return 1 / inverse if inverse > 0 else math.nan


def components_for_variance(values: np.ndarray, fraction: float) -> int:
    ordered = sorted(values, reverse=True)
    total, so_far = sum(ordered), 0.0
    for k, value in enumerate(ordered, start=1):
        so_far += value
        if so_far >= (fraction - 1e-12) * total:
            return k
    return len(ordered)


def spectrum_exponent(values: np.ndarray, first: int = 11, last: int = 500) -> tuple[float, float, float, int, int]:
    """Weighted least squares by its normal equations."""
    ordered = sorted(values, reverse=True)
    usable = [v for v in ordered if v > len(ordered) * np.finfo(np.float64).eps * ordered[0]]
    if len(usable) < last:
        first, last = 1, len(usable)
    ranks = np.arange(first, last + 1)
    design = np.stack([np.ones(len(ranks)), np.log(ranks)], 1)
    y = np.log([usable[k - 1] for k in ranks])
    weight = np.diag(1 / ranks)
    normal = design.T @ weight @ design
    beta = np.linalg.solve(normal, design.T @ weight @ y)
    residual = y - design @ beta
    scale = residual @ weight @ residual / (len(ranks) - 2)
    stderr = math.sqrt(scale * np.linalg.inv(normal)[1, 1])
    mean = np.average(y, weights=1 / ranks)
    r2 = 1 - (residual @ weight @ residual) / ((y - mean) @ weight @ (y - mean))
    return -beta[1], stderr, r2, first, last


def kl_divergence(clean: np.ndarray, perturbed: np.ndarray) -> float:
    """Mean over samples of KL(softmax(clean) || softmax(perturbed))."""
    total = 0.0
    for n in range(len(clean)):
        p, q = (np.exp(logits[n].astype(np.float64) - logits[n].max()) for logits in (clean, perturbed))
        p, q = p / p.sum(), q / q.sum()
        total += sum(p[c] * math.log(p[c] / q[c]) for c in range(len(p)))
    return total / len(clean)


def class_wise_selectivity(means: np.ndarray, weights: np.ndarray | None = None, eps: float = 1e-6) -> np.ndarray:
    present = [c for c in range(len(means)) if weights is None or weights[c] > 0]
    result = np.full(means.shape, np.nan)
    for u in range(means.shape[1]):
        for c in present:
            mean, rest = means[c, u], np.mean([means[other, u] for other in present if other != c])
            dead = max(means[other, u] for other in present) <= eps
            result[c, u] = 0 if dead else (mean - rest) / (mean + rest + eps)
    return result


def participation_ratio_contributions(covariance: np.ndarray) -> np.ndarray:
    """Every unit left out in turn, with the eigenvalues of what is left."""
    whole = participation_ratio(np.linalg.eigvalsh(covariance))
    result = np.zeros(len(covariance))
    for u in range(len(covariance)):
        left = np.delete(np.delete(covariance, u, 0), u, 1)
        result[u] = whole - (participation_ratio(np.linalg.eigvalsh(left)) if len(left) else 0)
    return result


def outside_shares(activations: np.ndarray, clean: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Of activations (N, U, P), given clean responses (M, U): shares (N, U, P), and energies (N,) by least squares."""
    mean = clean.mean(0)
    values, vectors = np.linalg.eigh(np.cov(clean.T))
    basis = vectors[:, ::-1][:, : components_for_variance(values, fraction)]
    count, units, positions = activations.shape
    shares, energies = np.zeros(activations.shape), np.zeros(count)
    for n in range(count):
        residuals = np.zeros((units, positions))
        for p in range(positions):
            centred = activations[n, :, p] - mean
            residuals[:, p] = centred - basis @ (basis.T @ centred)
        whole = np.zeros(units)
        for p in range(positions):
            whole += residuals[:, p] / positions
        for u in range(units):
            for p in range(positions):
                shares[n, u, p] = whole[u] * residuals[u, p] / positions
        centred = activations[n].mean(1) - mean
        weights, *_ = np.linalg.lstsq(basis, centred, rcond=None)
        energies[n] = np.sum((centred - basis @ weights) ** 2)
    return shares, energies


def brightness(image, added):
    """Pixel by pixel through HSV. Image (3, H, W) in [0, 1]."""
    return _through_hsv(image, lambda h, s, v: (h, s, min(v + added, 1)))


def saturate(image, factor, offset):
    return _through_hsv(image, lambda h, s, v: (h, min(max(factor * s + offset, 0), 1), v))


def _through_hsv(image, change):
    result = np.empty_like(image)
    for row in range(image.shape[1]):
        for column in range(image.shape[2]):
            hsv = colorsys.rgb_to_hsv(*image[:, row, column].tolist())
            result[:, row, column] = colorsys.hsv_to_rgb(*change(*hsv))
    return result


def contrast(image, factor):
    result = np.empty_like(image)
    for channel, plane in enumerate(image):
        mean = plane.sum() / plane.size
        result[channel] = (plane - mean) * factor + mean
    return result


def displaced(image, reach, offsets):
    """One round of glass blur as arXiv 1903.12261's script does it; offsets (2, H, W) are those down and right."""
    pixels = image.transpose(1, 2, 0).copy()
    height, width = pixels.shape[:2]
    for row in range(height - reach, reach, -1):
        for column in range(width - reach, reach, -1):
            down, right = offsets[:, row, column]
            here, there = (row, column), (row + down, column + right)
            pixels[here], pixels[there] = pixels[there], pixels[here]  # views: the second one sees the first one's copy
    return pixels.transpose(2, 0, 1)


def gaussian_filter(plane, sigma, truncate, mode):
    """Plane (H, W), first along columns, then along rows."""
    radius = int(truncate * sigma + 0.5)
    weights = {o: math.exp(-0.5 * (o / sigma) ** 2) for o in range(-radius, radius + 1)}
    total = sum(weights.values())
    for _ in range(2):
        size = len(plane)
        result = np.zeros_like(plane)
        for row in range(size):
            for offset, weight in weights.items():
                source = row + offset
                if mode == "nearest":
                    source = min(max(source, 0), size - 1)
                while not 0 <= source < size:
                    source = -1 - source if source < 0 else 2 * size - 1 - source
                result[row] += weight / total * plane[source]
        plane = result.T
    return plane


def motion_blur(image, radius, sigma, angle):
    """Image (C, H, W)."""
    height, width = image.shape[1:]
    weights = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(2 * radius + 1)]
    result = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            for i, weight in enumerate(weights):
                y = row + math.ceil(i * math.sin(math.radians(angle)) - 0.5)
                x = column + math.ceil(i * math.cos(math.radians(angle)) - 0.5)
                source = image[:, min(max(y, 0), height - 1), min(max(x, 0), width - 1)]
                result[:, row, column] += weight / sum(weights) * source
    return result


def zoomed(plane, factor):
    """Plane (H, W): its middle, linear between pixel centres, the first and the last pixel kept."""
    height, width = plane.shape
    rows, columns = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - rows) // 2, (width - columns) // 2
    tall, wide = round(rows * factor), round(columns * factor)
    result = np.empty((tall, wide))
    for i in range(tall):
        for j in range(wide):
            y, x = i * (rows - 1) / max(tall - 1, 1), j * (columns - 1) / max(wide - 1, 1)
            y0, x0 = min(int(y), rows - 2), min(int(x), columns - 2)
            for row, wy in ((y0, 1 - y + y0), (y0 + 1, y - y0)):
                for column, wx in ((x0, 1 - x + x0), (x0 + 1, x - x0)):
                    value = wy * wx * plane[top + row, left + column]
                    result[i, j] = value if (row, column) == (y0, x0) else result[i, j] + value
    down, right = (tall - height) // 2, (wide - width) // 2
    return result[down : down + height, right : right + width]


def diamond_square(noise, decay):
    """Noise (S * S,) is used up from large scales to small: centres, middles of rows, middles of columns."""
    size = math.isqrt(len(noise))
    values = np.zeros((size, size))
    step, amplitude, used = size, 1.0, 0
    while step > 1:
        half, n = step // 2, size // step
        for down, right in ((half, half), (0, half), (half, 0)):
            if down and right:
                corners = ((0, 0), (0, step), (step, 0), (step, step))
            elif right:
                corners = ((0, 0), (0, step), (half, half), (-half, half))
            else:
                corners = ((0, 0), (step, 0), (half, half), (half, -half))
            for i in range(n):
                for j in range(n):
                    mean = sum(values[(i * step + y) % size, (j * step + x) % size] for y, x in corners) / 4
                    values[i * step + down, j * step + right] = mean + amplitude * noise[used]
                    used += 1
        step, amplitude = half, amplitude / decay**2
    values -= values.min()
    return values / values.max()


def input_gradients(responses: Callable[[np.ndarray], np.ndarray], image: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """``|| d r[u] / d x ||_2`` (U,) of one image in float64, pixel by pixel."""
    squares: np.ndarray | None = None
    for place in np.ndindex(image.shape):
        up, down = image.copy(), image.copy()
        up[place] += step
        down[place] -= step
        slope = (responses(up) - responses(down)) / (2 * step)
        squares = slope**2 if squares is None else squares + slope**2
    return np.sqrt(squares)


def gradient_variability(gradients: np.ndarray) -> tuple[float, float, float]:
    """Mean, CV over samples (averaged over units), CV over units (averaged over samples) of exact values (N, U)."""
    count, units = gradients.shape
    over_samples, over_units = [], []
    for u in range(units):
        mean = sum(gradients[:, u]) / count
        if mean > 0:
            over_samples.append(math.sqrt(sum((g - mean) ** 2 for g in gradients[:, u]) / (count - 1)) / mean)
    for n in range(count):
        mean = sum(gradients[n]) / units
        if mean > 0:
            over_units.append(math.sqrt(sum((g - mean) ** 2 for g in gradients[n]) / units) / mean)
    return float(gradients.mean()), float(np.mean(over_samples)), float(np.mean(over_units))


def linear_cka(x: np.ndarray, y: np.ndarray, debiased: bool) -> float:
    """From Gram matrices: HSIC_1 with its traces and sums, or the HSIC of Gram matrices centred by a matrix."""
    return hsic(x, y, debiased) / math.sqrt(hsic(x, x, debiased) * hsic(y, y, debiased))


def hsic(x: np.ndarray, y: np.ndarray, debiased: bool) -> float:
    x, y = (r.astype(np.float64) for r in (x, y))
    n = len(x)
    k, m = (x - x.mean(0)) @ (x - x.mean(0)).T, (y - y.mean(0)) @ (y - y.mean(0)).T
    if not debiased:
        centre = np.eye(n) - np.ones((n, n)) / n
        return float(np.trace(centre @ k @ centre @ m)) / (n - 1) ** 2
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    one = np.ones(n)
    total = np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return float(total - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


def procrustes_distance(x: np.ndarray, y: np.ndarray) -> float:
    """The distance that is left after the best rotation, which is found and applied."""
    x, y = (r.astype(np.float64) - r.astype(np.float64).mean(0) for r in (x, y))
    units = max(x.shape[1], y.shape[1])
    x, y = (np.pad(r / np.linalg.norm(r), ((0, 0), (0, units - r.shape[1]))) for r in (x, y))
    u, _, v = np.linalg.svd(x.T @ y)
    return float(np.sum((x @ (u @ v) - y) ** 2))


def mean_ranks(values: np.ndarray) -> list[float]:
    """From 1; the places of equal values, averaged."""
    order = sorted(values)
    return [float(np.mean([place for place, other in enumerate(order, 1) if other == value])) for value in values]


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation of the mean ranks."""
    a, b = mean_ranks(x), mean_ranks(y)
    middle = (len(a) + 1) / 2
    top = sum((p - middle) * (q - middle) for p, q in zip(a, b, strict=True))
    return top / math.sqrt(sum((p - middle) ** 2 for p in a) * sum((q - middle) ** 2 for q in b))


def isotonic(values: np.ndarray) -> np.ndarray:
    """The rising sequence nearest to values, by the min-max formula: max over starts of min over stops of means."""
    n = len(values)
    return np.array(
        [max(min(float(np.mean(values[j : k + 1])) for k in range(i, n)) for j in range(i + 1)) for i in range(n)]
    )


def holm(values: list[float]) -> list[float]:
    """Each p-value is compared with what is left of the level once all smaller ones were rejected."""
    adjusted = []
    for own in values:
        smaller = sorted(values)[: sorted(values).index(own) + 1]
        adjusted.append(min(1.0, max((len(values) - place) * value for place, value in enumerate(smaller))))
    return adjusted


def permutation_p(
    x: np.ndarray, y: np.ndarray, statistic: Callable[[np.ndarray, np.ndarray], float]
) -> tuple[float, float]:
    """One-sided p-values, above and below, over every order of y."""
    seen, above, below, count = statistic(x, y), 0, 0, 0
    for order in itertools.permutations(range(len(y))):
        value = statistic(x, np.array([y[place] for place in order]))
        above += value >= seen - 1e-9
        below += value <= seen + 1e-9
        count += 1
    return above / count, below / count


def partial_rank_correlation(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> float:
    xy, xz, yz = (rank_correlation(a, b) for a, b in ((x, y), (x, z), (y, z)))
    return (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2))


def freedman_lane(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[float, float]:
    """What a line on the ranks of z leaves of those of y is put back in every order."""
    rx, ry, rz = (np.array(mean_ranks(values)) for values in (x, y, z))
    slope = float(np.cov(ry, rz)[0, 1] / np.var(rz, ddof=1))
    fit = ry.mean() + slope * (rz - rz.mean())
    left = ry - fit

    def partial(values: np.ndarray) -> float:
        if np.ptp(values) < 1e-9:
            return 0.0
        xy, xz, yz = (float(np.corrcoef(a, b)[0, 1]) for a, b in ((rx, values), (rx, rz), (values, rz)))
        free = (1 - xz**2) * (1 - yz**2)
        return (xy - xz * yz) / math.sqrt(free) if free > 1e-9 else 0.0

    seen = partial(ry)
    drawn = [partial(fit + left[list(order)]) for order in itertools.permutations(range(len(y)))]
    return (
        sum(value >= seen - 1e-9 for value in drawn) / len(drawn),
        sum(value <= seen + 1e-9 for value in drawn) / len(drawn),
    )


def welch(a: list[float], b: list[float]) -> tuple[float, float, float]:
    """Difference of the means, its standard error, and degrees of freedom."""

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    def variance(values: list[float]) -> float:
        return sum((value - mean(values)) ** 2 for value in values) / (len(values) - 1)

    shares = [variance(side) / len(side) for side in (a, b)]
    freedom = sum(shares) ** 2 / sum(share**2 / (len(side) - 1) for share, side in zip(shares, (a, b), strict=True))
    return mean(a) - mean(b), math.sqrt(sum(shares)), freedom


def empty_corner(x: np.ndarray, y: np.ndarray, cells: int = 2000) -> float:
    """The share of a fine grid, low x and high y, above every point that is not further right."""
    count = 0
    for place in range(cells):
        at = min(x) + (place + 0.5) / cells * (max(x) - min(x))
        ceiling = max(value for where, value in zip(x, y, strict=True) if where <= at)
        count += (max(y) - ceiling) / (max(y) - min(y))
    return count / cells
