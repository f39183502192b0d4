"""The formulas of the corruptions one by one: against slow loops, Pillow, and what is known of them."""

from __future__ import annotations

import io

import numpy as np
import pytest
import reference
import torch
from corruption_pictures import draws, pictures
from hypothesis import given, settings
from hypothesis import strategies as st
from selplug_corruptions import blur, color, digital, filters, liquid, noise, weather
from selplug_corruptions.draws import Draws
from selplug_corruptions.frost_textures import TEXTURES, textures


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.floats(0, 1), st.floats(0, 30), st.floats(0, 0.3))
def test_colours_are_those_of_hsv(seed, level, factor, offset):
    image = np.random.default_rng(seed).integers(0, 256, (3, 6, 5)) / 255
    image[:, 0] = image[0, 0]  # gray
    image[:, 1, 0] = 0
    batch = torch.from_numpy(image)[None]
    brighter = color.brightness(batch, draws(), level)[0].numpy()
    assert np.allclose(brighter, reference.brightness(image, level), atol=1e-6)
    saturated = color.saturate(batch, draws(), factor, offset)[0].numpy()
    assert np.allclose(saturated, reference.saturate(image, factor, offset), atol=1e-6)
    contrasted = color.contrast(batch.float(), draws(), level)[0].numpy()
    assert np.allclose(contrasted, reference.contrast(image, level), atol=1e-6)


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(12, 20), st.integers(12, 20))
def test_glass_blur_displaces_as_the_loop_does(seed, reach, height, width):
    image = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (1, 3, height, width))).float() / 255
    offsets = Draws([seed], torch.device("cpu")).integers(-reach, reach, 2, height, width)[0].numpy()
    expected = reference.displaced(image[0].numpy(), reach, offsets)
    found = blur.glass_blur(image, Draws([seed], torch.device("cpu")), 0.0, reach, 1)[0].numpy()
    assert np.abs(found - expected).max() <= 1 / 255 + 1e-6  # k / 255 * 255 in float32 may lie below k
    assert np.mean(found != expected) < 0.2


@pytest.mark.parametrize("mode", ["nearest", "reflect"])
@pytest.mark.parametrize("sigma", [0.4, 1.3, 9.0])
def test_gaussian_filter(mode, sigma):
    plane = np.random.default_rng(0).random((9, 14))
    found = filters.gaussian(torch.from_numpy(plane).float(), sigma, 3, mode).numpy()
    assert np.allclose(found, reference.gaussian_filter(plane, sigma, 3, mode), atol=1e-6)
    assert filters.gaussian(torch.from_numpy(plane), 0.1) is not None
    assert np.array_equal(filters.gaussian(torch.from_numpy(plane), 0.1).numpy(), plane)


@pytest.mark.parametrize("angle", [0.0, 17.0, -45.0, -90.0, 133.0])
def test_motion_blur(angle):
    image = np.random.default_rng(0).random((2, 11, 9))
    found = filters.motion_blur(torch.from_numpy(image)[None].float(), 5, 2.5, [angle])[0].numpy()
    assert np.allclose(found, reference.motion_blur(image, 5, 2.5, angle), atol=1e-6)


@pytest.mark.parametrize("factor", [1.01, 1.25, 2.25, 4.5])
def test_zoom(factor):
    plane = np.random.default_rng(0).random((24, 19))
    found = filters.zoom(torch.from_numpy(plane)[None, None].float(), factor)[0, 0].numpy()
    assert found.shape == plane.shape
    assert np.allclose(found, reference.zoomed(plane, factor), atol=1e-5)


def test_plasma():
    class Given:
        def uniform(self, low, high, *shape):
            return noise[None]

    noise = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, 256))
    assert np.allclose(weather.plasma(Given(), 16, 1.75)[0].numpy(), reference.diamond_square(noise.numpy(), 1.75))


def test_disk():
    assert float(filters.disk(3, 0.1).sum()) == pytest.approx(1)
    assert int((filters.disk(3, 0.1) > 1e-6).sum()) == 29
    assert filters.disk(10, 0.5).shape == (21, 21)
    images = torch.rand(2, 3, 16, 19, generator=torch.Generator().manual_seed(0))
    wide = torch.nn.functional.pad(images, (8, 8, 8, 8), mode="reflect")
    kernel = filters.disk(5, 0.5)
    expected = torch.zeros_like(images)
    for down in range(17):
        for right in range(17):
            expected += kernel[down, right] * wide[..., down : down + 16, right : right + 19]
    assert torch.allclose(filters.convolve(images, kernel), expected, atol=1e-6)


def test_distance_to_edges():
    edges = torch.rand(2, 1, 40, 33, generator=torch.Generator().manual_seed(0)) > 0.997
    places = edges[0, 0].nonzero().double()
    assert len(places) > 1
    grid = torch.cartesian_prod(torch.arange(40.0), torch.arange(33.0)).double()
    expected = torch.cdist(grid, places).amin(1).clamp(max=liquid.FAR).view(40, 33)
    assert torch.allclose(liquid.distance(edges)[0, 0].double(), expected, atol=1e-5)
    assert torch.equal(liquid.distance(torch.zeros_like(edges)), torch.full(edges.shape, float(liquid.FAR)))


def test_rims_follow_a_step_and_weak_ones_need_a_strong_one():
    levels = torch.zeros(1, 1, 20, 20)
    levels[..., 10:] = 200
    edges = liquid.rims(levels)[0, 0]
    assert edges.sum(1).tolist() == [1] * 20
    assert edges[:, 9:11].any(1).all()
    assert not liquid.rims(levels / 10).any()  # 20 * 4 is weak, and nothing strong is near
    levels[..., :10, 10:] = 20
    assert liquid.rims(levels)[0, 0, :8].any()


def test_no_liquid_no_spatter():
    images = pictures(2, 16, 16)
    assert torch.equal(liquid.spatter(images, draws(), 0.1, 0.01, 1, 0.7, 0.6, 0), images)


def test_noise_has_the_moments_it_should():
    gray = torch.full((4, 3, 64, 64), 0.5)
    many = draws(4)
    assert float((noise.gaussian_noise(gray, many, 0.1) - 0.5).std()) == pytest.approx(0.1, rel=0.02)
    assert float((noise.speckle_noise(gray, many, 0.2) - 0.5).std()) == pytest.approx(0.1, rel=0.02)
    assert float(noise.shot_noise(gray, many, 25).mean()) == pytest.approx(0.5, rel=0.01)
    assert float(noise.shot_noise(gray, many, 25).var()) == pytest.approx(0.5 / 25, rel=0.03)
    values = noise.impulse_noise(gray, many, 0.2)
    assert float((values == 0).float().mean()) == pytest.approx(0.1, rel=0.06)
    assert float((values == 1).float().mean()) == pytest.approx(0.1, rel=0.06)


def test_frost_textures_have_the_colours_of_the_photographs():
    sheets = textures()
    for sheet, texture in zip(sheets, TEXTURES, strict=True):
        assert np.allclose(sheet.mean((1, 2)), texture.mean, atol=0.02)
        assert np.allclose(sheet.std((1, 2)), texture.std, rtol=0.15)
    assert torch.equal(textures(), sheets)


def test_pixelate_and_jpeg_are_those_of_pillow():
    from PIL import Image

    images = pictures(1, 50, 37)
    pixels = (images[0].permute(1, 2, 0) * 255).round().byte().numpy()
    for scale in (0.95, 0.6, 0.25):
        small = Image.fromarray(pixels).resize((int(37 * scale), int(50 * scale)), Image.Resampling.BOX)
        expected = np.asarray(small.resize((37, 50), Image.Resampling.BOX), dtype=float) / 255
        found = digital.pixelate(images, draws(), scale)[0].permute(1, 2, 0).numpy()
        assert np.abs(found - expected).max() <= 1.01 / 255  # Pillow rounds after each side
    images = pictures(3, 50, 37)
    with torch.inference_mode():  # its tensors are written to on other threads
        coded = digital.jpeg_compression(images, draws(), 25)
    for image, found in zip(images, coded, strict=True):
        file = io.BytesIO()
        Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()).save(file, "JPEG", quality=25)
        assert np.array_equal((found.permute(1, 2, 0) * 255).round().byte().numpy(), np.asarray(Image.open(file)))
    assert torch.equal(coded * 255, (coded * 255).round())
    assert 0.003 < float((coded - images).abs().mean()) < 0.05


def test_an_elastic_map_without_jitter_or_displacement_is_none():
    images = pictures(2, 20, 30)
    assert torch.allclose(digital.elastic_transform(images, draws(), 0, 0, 0), images, atol=1e-5)
    still = digital.elastic_transform(images, draws(), 1e-9, 0.1, 0)
    assert torch.allclose(still, images, atol=1e-5)


def test_an_affine_map_moves_its_points():
    shift = np.random.default_rng(0).uniform(-3, 3, (2, 3, 2))
    matrix = digital._affine(40, 60, shift)
    points = np.array([30, 20]) + 13 * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = np.concatenate([points + shift, np.ones((2, 3, 1))], axis=2)
    assert np.allclose(moved @ matrix.swapaxes(1, 2), points)
