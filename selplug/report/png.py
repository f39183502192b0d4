from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

FACTORS = (100, 50, 20, 10, 5, 2, 1, 0.5)


def png_uri(pixels: np.ndarray) -> str:
    """(H, W) or (H, W, 3) uint8 as a PNG data URI."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode("ascii")


def rounded(image: np.ndarray) -> np.ndarray:
    """(C, H, W) in [0, 1] as uint8 (H, W, 3) or, with neither 1 nor 3 channels their mean, (H, W)."""
    pixels = np.rint(255 * image.astype(np.float64))
    return (pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels.mean(0).round()).astype(np.uint8)


def difference(clean: np.ndarray, changed: np.ndarray) -> tuple[np.ndarray, float]:
    """changed − clean around grey as in :func:`rounded`, and the factor by which it is amplified, 0 without change."""
    before, after = (np.rint(255 * image).astype(np.uint8) for image in (clean, changed))
    factor = _factor(before, after)
    change = 128 + factor * (after.astype(np.float64) - before)
    return rounded((change / 255).clip(0, 1)), factor


def png(pixels: np.ndarray) -> bytes:
    """A PNG file of grey (H, W) or colour (H, W, 3) pixels, uint8."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape[:2]
    lines = pixels.reshape(height, -1)
    raw = np.concatenate([np.zeros((height, 1), np.uint8), lines], axis=1).tobytes()  # filter 0 before every line
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def _factor(clean: np.ndarray, changed: np.ndarray) -> float:
    """The largest round factor that keeps every difference visible without clipping around grey 128."""
    largest = int(np.abs(changed.astype(np.int16) - clean).max(initial=0))
    return next((factor for factor in FACTORS if factor * largest <= 127), FACTORS[-1]) if largest else 0
