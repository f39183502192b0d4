"""Example images: the pixels come back, differences are amplified as stated."""

from __future__ import annotations

import base64
import dataclasses
import struct
import zlib

import numpy as np
import pytest
from sample_report import sample_report

from selplug.audits.engine.results import Examples
from selplug.audits.page.gallery import data_uri, gallery
from selplug.core.errors import ReportError
from selplug.report.png import png


def decode(data: bytes) -> np.ndarray:
    """A slow reader of unfiltered PNG files, with its checks."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place, chunks = 8, {}
    while place < len(data):
        (size,), kind = struct.unpack(">I", data[place : place + 4]), data[place + 4 : place + 8]
        body = data[place + 8 : place + 8 + size]
        assert struct.unpack(">I", data[place + 8 + size : place + 12 + size])[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        place += 12 + size
    width, height, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert depth == 8
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, 3) if colour == 2 else lines[:, 1:].reshape(height, width)


def uri_pixels(uri: str) -> np.ndarray:
    return decode(base64.b64decode(uri.removeprefix("data:image/png;base64,")))


def with_examples(clean: np.ndarray, changed: np.ndarray, predictions: dict[str, tuple[int, ...]] | None = None):
    report = sample_report(layers=1, names=("clean", "noise"))
    count = len(clean)
    examples = Examples(tuple(range(count)), {"clean": clean, "noise": changed}, predictions or {})
    return dataclasses.replace(report, result=dataclasses.replace(report.result, examples=examples))


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_png_round_trip(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(decode(png(pixels)), pixels)


def test_channels():
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 6), dtype=np.uint8)
    np.testing.assert_array_equal(uri_pixels(data_uri(image[:3])), image[:3].transpose(1, 2, 0))
    np.testing.assert_array_equal(uri_pixels(data_uri(image[:1])), image[0])
    np.testing.assert_array_equal(uri_pixels(data_uri(image)), np.rint(image.mean(0)))


def test_difference_is_amplified_by_the_stated_factor():
    clean = np.full((2, 1, 4, 4), 100, np.uint8)
    changed = clean.copy()
    changed[0, 0, 0, 0], changed[0, 0, 1, 1] = 108, 92
    clean_row, row = gallery(with_examples(clean, changed)).rows
    assert clean_row.cells[0].difference is None
    assert row.factor == 10
    pixels = uri_pixels(row.cells[0].difference)
    assert (pixels[0, 0], pixels[1, 1], pixels[2, 2]) == (208, 48, 128)


def test_no_change_and_the_largest_change():
    clean = np.zeros((1, 3, 4, 4), np.uint8)
    assert gallery(with_examples(clean, clean)).rows[1].factor == 0
    assert gallery(with_examples(clean, clean + np.uint8(255))).rows[1].factor == 0.5


def test_predictions_are_named():
    clean = np.zeros((2, 3, 4, 4), np.uint8)
    shown = gallery(with_examples(clean, clean, {"clean": (0, 5)}))
    assert shown.labels == ("class 0", "class 1")
    assert [(cell.predicted, cell.right) for cell in shown.rows[0].cells] == [("class 0", True), ("class 5", False)]
    assert [(cell.predicted, cell.right) for cell in shown.rows[1].cells] == [("not recorded", None)] * 2


def test_many_images_are_cut_down():
    clean = np.zeros((6, 3, 4, 4), np.uint8)
    each = 2 * 2 * len(data_uri(clean[0]))  # two conditions, and differences as large as images
    shown = gallery(with_examples(clean, clean), budget=2 * each)
    assert (len(shown.labels), shown.left_out, shown.step) == (2, 4, 1)
    assert len(gallery(with_examples(clean, clean), budget=0).labels) == 1


def test_large_images_are_thinned_out():
    clean = np.random.default_rng(0).integers(0, 256, (2, 3, 200, 120), dtype=np.uint8)
    shown = gallery(with_examples(clean, clean), budget=100_000)
    assert shown.step == 2
    pixels = uri_pixels(shown.rows[0].cells[0].image)
    np.testing.assert_array_equal(pixels, clean[0].transpose(1, 2, 0)[::2, ::2])


def test_images_that_do_not_fit():
    with pytest.raises(ReportError, match=r"expected example images \(k, C, H, W\) uint8.*float64"):
        gallery(with_examples(np.zeros((2, 3, 4, 4), np.uint8), np.zeros((2, 3, 4, 4))))
