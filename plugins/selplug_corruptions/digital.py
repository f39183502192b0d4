"""Pixelation, JPEG and elastic deformation."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import filters
from .draws import Draws


def pixelate(images: Tensor, draws: Draws, scale: float) -> Tensor:
    """Shrinks the image by ``scale`` (means of boxes) and enlarges it again (nearest pixel)."""
    height, width = images.shape[-2:]
    small = _means(_means(images, -2, int(height * scale)), -1, int(width * scale))
    return _enlarged(_enlarged(small, -1, width), -2, height)


def _means(images: Tensor, axis: int, new: int) -> Tensor:
    """Divides one side into ``new`` boxes and takes their means."""
    places, weights = (each.to(images.device) for each in _boxes(images.shape[axis], new))
    weights = weights[..., None] if axis == -2 else weights
    total = images.index_select(axis, places[0]).mul_(weights[0])
    for place, weight in zip(places[1:], weights[1:], strict=True):
        total.addcmul_(images.index_select(axis, place), weight)
    return total


@lru_cache(maxsize=64)
def _boxes(size: int, new: int) -> tuple[Tensor, Tensor]:
    """Two tensors (T, new): the pixels with their centres in each box of a side, and their weights.

    Boxes with fewer than T pixels are filled up with pixels of weight 0.
    """
    centres = np.arange(size) + 0.5
    edges = np.arange(new + 1) * (size / new)
    inside = (centres > edges[:-1, None]) & (centres <= edges[1:, None])
    count = inside.sum(1)
    taps = np.arange(count.max())[:, None]
    places = np.minimum(inside.argmax(1) + taps, size - 1)
    return torch.from_numpy(places), torch.from_numpy((taps < count) / count).float()


def _enlarged(images: Tensor, axis: int, size: int) -> Tensor:
    """Enlarges one side to ``size`` pixels by the nearest pixel."""
    old = images.shape[axis]
    nearest = np.minimum(((np.arange(size) + 0.5) * (old / size)).astype(np.int64), old - 1)
    return images.index_select(axis, torch.from_numpy(nearest).to(images.device))


def jpeg_compression(images: Tensor, draws: Draws, quality: int) -> Tensor:
    """Encodes as JPEG of this quality (chroma at half the size) and decodes again, with Pillow on the CPU."""
    from PIL import Image

    result = np.empty(images.shape, np.float32)

    def code(image: Tensor, out: np.ndarray) -> None:
        planes = image.mul(255).round_().to(torch.uint8).numpy()
        file = io.BytesIO()
        Image.merge("RGB", [Image.fromarray(plane) for plane in planes]).save(file, "JPEG", quality=quality)
        with Image.open(file) as coded:
            decoded = torch.from_numpy(np.array(coded)).permute(2, 0, 1)
            torch.from_numpy(out).copy_(decoded).div_(255)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # Pillow codes outside of Python's lock
        list(pool.map(code, images.cpu(), result))
    return torch.from_numpy(result).to(images.device)


def elastic_transform(images: Tensor, draws: Draws, amplitude: float, sigma: float, jitter: float) -> Tensor:
    """A random affine map, then a random smooth displacement of each pixel; linear interpolation.

    Args:
        images: (N, C, H, W).
        draws: where the randomness comes from.
        amplitude, sigma: of the displacement: uniform noise in [-1, 1], smoothed, times the amplitude.
        jitter: how far the three points that define the affine map may move along each axis.
            All three are fractions of the shorter side.
    """
    height, width = images.shape[-2:]
    side = min(height, width)
    grid = _pixel_grid(images)
    shift = draws.uniform(-jitter * side, jitter * side, 3, 2).cpu().double().numpy()
    matrix = torch.from_numpy(_affine(height, width, shift)).to(images)
    images = _sample(images, grid @ matrix[:, None, :, :2].mT + matrix[:, None, None, :, 2], mirror_last=False)
    if amplitude == 0:
        return images
    noise = draws.uniform(-1, 1, 2, height, width)
    moved = filters.gaussian(noise, sigma * side, truncate=3, mode="reflect") * (amplitude * side)
    return _sample(images, grid + moved.permute(0, 2, 3, 1), mirror_last=True)


def _affine(height: int, width: int, shift: np.ndarray) -> np.ndarray:
    """(N, 2, 3): from a place (x, y) in the result to the one in the source, for three points shifted by (N, 3, 2)."""
    reach = min(height, width) // 3
    points = np.array([width // 2, height // 2]) + reach * np.array([[1, 1], [1, -1], [-1, -1]], dtype=float)
    moved = np.concatenate([points + shift, np.ones((len(shift), 3, 1))], axis=2)
    result: np.ndarray = np.linalg.solve(moved, np.broadcast_to(points, (len(shift), 3, 2))).swapaxes(1, 2)
    return result


def _pixel_grid(images: Tensor) -> Tensor:
    """(1, H, W, 2): x and y of every pixel."""
    height, width = images.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y], dim=-1)[None].to(images)


def _sample(images: Tensor, places: Tensor, mirror_last: bool) -> Tensor:
    """Values at (N, H, W, 2) places (x, y) in pixels; beyond the border mirrored, with the last pixel or without."""
    height, width = images.shape[-2:]
    size = torch.tensor([width, height]).to(images)
    scaled = (2 * places + 1) / size - 1 if mirror_last else 2 * places / (size - 1) - 1
    return F.grid_sample(images, scaled, mode="bilinear", padding_mode="reflection", align_corners=not mirror_last)
