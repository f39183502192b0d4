"""Attribution maps as colours over a faded image: red for, blue against, one scale for maps that are to be compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Share of the values that the scale covers; the few largest would otherwise leave the rest pale.
QUANTILE = 0.99
FOR, AGAINST = np.array([200, 24, 38], np.float64), np.array([27, 94, 190], np.float64)
#: How opaque the largest values are.
OPACITY = 0.9


def scale(maps: Sequence[np.ndarray]) -> float:
    """The size of the values that get the full colour, the same for all ``maps``; 0 if there is nothing to show."""
    sizes = np.abs(np.concatenate([values.ravel() for values in maps]))
    return float(np.quantile(sizes, QUANTILE)) or float(sizes.max(initial=0))


def overlay(image: np.ndarray, values: np.ndarray, largest: float) -> np.ndarray:
    """A map over its image.

    Args:
        image: (C, H, W) in [0, 1].
        values: (h, w), brought to the size of the image by bilinear interpolation.
        largest: of :func:`scale`.

    Returns:
        (H, W, 3), uint8.
    """
    grey = 255 * (0.35 + 0.6 * image.mean(0, dtype=np.float64))[..., None]
    level = resized(values, image.shape[1:]) / (largest or 1)
    opacity = OPACITY * np.abs(level).clip(0, 1)[..., None]
    color = np.where(level[..., None] >= 0, FOR, AGAINST)
    return np.rint(grey * (1 - opacity) + color * opacity).clip(0, 255).astype(np.uint8)


def resized(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """(h, w) -> (H, W), bilinear, the corners of both covering the same area."""
    import torch

    if values.shape == size:
        return values
    given = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    return torch.nn.functional.interpolate(given, size, mode="bilinear", align_corners=False)[0, 0].numpy()


def strip(pictures: Sequence[np.ndarray], height: int = 128) -> np.ndarray:
    """Pictures (H, W) or (H, W, 3) side by side with white between them; small ones enlarged to about ``height``."""
    times = max(1, -(-height // pictures[0].shape[0]))
    parts = []
    for picture in pictures:
        color = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
        parts += [color.repeat(times, 0).repeat(times, 1), np.full((times * len(color), 8, 3), 255, np.uint8)]
    return np.concatenate(parts[:-1], axis=1)
