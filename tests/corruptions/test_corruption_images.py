"""Every corruption at every severity: what comes out, that it belongs to the sample, and that it grows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from corruption_pictures import corrupt, pictures
from selplug_corruptions import strengths
from selplug_corruptions.draws import sample_seed
from selplug_corruptions.factory import BENCHMARK, CORRUPTIONS, EXTRA, Corruption

from selplug.core.errors import InputError
from selplug.core.types import Samples

SEVERITIES = range(1, 6)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_images_stay_images(name):
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    for severity, (height, width) in itertools.product(SEVERITIES, ((16, 16), (32, 32), (21, 40))):
        images = pictures(2, height, width)
        output = Corruption(name, severity)(images.clone(), torch.zeros(2), Samples((3, 8), 5))
        assert output.shape == images.shape, severity
        assert output.dtype == torch.float32, severity
        assert 0 <= float(output.min()) <= float(output.max()) <= 1, severity
        assert not torch.equal(output, images), severity
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("size", [(64, 64), (224, 224), (65, 97)])
def test_larger_images(name, size):
    images = pictures(1, *size)
    output = corrupt(name, 5, images)
    assert float((output - images).abs().mean()) > 0.002


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_is_corrupted_alike_in_any_batch(name):
    images = pictures(5, 18, 24)
    order = [4, 1, 3]
    for severity in SEVERITIES:
        whole = corrupt(name, severity, images, seed=3)
        assert torch.allclose(corrupt(name, severity, images[order], order, seed=3), whole[order], atol=1e-6), severity
        for index in (0, 2):
            alone = corrupt(name, severity, images[index : index + 1], [index], seed=3)
            assert torch.allclose(alone, whole[index : index + 1], atol=1e-6), severity


def test_parts_of_a_batch_change_nothing(monkeypatch):
    images = pictures(5, 18, 24)
    for name in CORRUPTIONS:
        monkeypatch.setattr("selplug_corruptions.factory.PART", 2**18)
        whole = corrupt(name, 4, images)
        monkeypatch.setattr("selplug_corruptions.factory.PART", 1)
        assert torch.allclose(corrupt(name, 4, images), whole, atol=1e-6), name


RANDOM = [n for n in CORRUPTIONS if n.endswith("noise")]
RANDOM += ["glass_blur", "motion_blur", "snow", "frost", "fog", "elastic_transform", "spatter"]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_seeds_and_indices_matter_where_there_is_chance(name):
    images = pictures(1, 32, 32).expand(2, -1, -1, -1)
    output = corrupt(name, 5, images, (0, 1))
    assert torch.equal(output[0], output[1]) == (name not in RANDOM)
    assert torch.equal(corrupt(name, 5, images, (0, 1), seed=1), output) == (name not in RANDOM)


#: Their published rows do not grow in pixels: saturate lowers, then raises; elastic_transform, snow, spatter and frost
#: trade one parameter for another; boxes and shifts meet the pattern of an image by chance.
UNEVEN = ("saturate", "elastic_transform", "snow", "spatter", "frost", "pixelate", "glass_blur", "motion_blur")


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("strength", strengths.STRENGTHS)
def test_the_distance_from_clean_grows_with_severity(name, strength):
    images = pictures(6, 48, 48)
    images = (images + 0.1 * torch.rand(images.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    sizes = [
        float((corrupt(name, s, images, strengths=strength) - images).flatten(1).norm(dim=1).mean()) for s in SEVERITIES
    ]
    if name in UNEVEN:
        assert name in ("saturate", "elastic_transform") or sizes[0] < sizes[4], sizes
    else:
        assert sizes == sorted(sizes), sizes


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            torch.rand(2, 1, 32, 32),
            r"fog: expected colour images \(N, 3, H, W\) with H and W >= 16, got \(2, 1, 32, 32\)",
        ),
        (torch.rand(2, 3, 15, 32), r"got \(2, 3, 15, 32\)"),
        (torch.rand(3, 32, 32), r"got \(3, 32, 32\)"),
    ],
)
def test_images_that_cannot_be_corrupted(images, message):
    with pytest.raises(InputError, match=message):
        Corruption("fog", 3)(images, torch.zeros(2), Samples((0, 1), 0))


def test_the_tables_are_complete():
    assert len(BENCHMARK) == 15
    assert len(EXTRA) == 4
    for table in strengths.STRENGTHS.values():
        assert set(table) == set(CORRUPTIONS)
        for row in table.values():
            assert len(row) == 5
            assert len({len(parameters) for parameters in row}) == 1


@pytest.mark.parametrize(
    ("size", "expected"),
    [((224, 224), "imagenet"), ((64, 64), "tiny-imagenet"), ((32, 32), "cifar"), ((16, 16), "cifar"),
     ((45, 45), "cifar"), ((46, 46), "tiny-imagenet"), ((119, 119), "tiny-imagenet"), ((120, 120), "imagenet"),
     ((512, 512), "imagenet"), ((32, 128), "tiny-imagenet")],
)  # fmt: skip
def test_strengths_are_chosen_by_size(size, expected):
    assert strengths.choose(*size) == expected


def test_seeds_of_samples_differ():
    seeds = {sample_seed(*each) for each in itertools.product(range(3), range(30), CORRUPTIONS, SEVERITIES)}
    assert len(seeds) == 3 * 30 * len(CORRUPTIONS) * len(SEVERITIES)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_devices_agree(name):
    images = pictures(64, 32, 32)
    for severity in SEVERITIES:
        here = corrupt(name, severity, images)
        there = corrupt(name, severity, images.cuda()).cpu()
        again = corrupt(name, severity, images[[7]].cuda(), [7]).cpu()
        assert torch.allclose(again[0], there[7], atol=1e-5), severity
        if name not in RANDOM:
            assert torch.allclose(here, there, atol=1e-3), severity
            continue
        for statistic in (lambda change: change.mean((1, 2, 3)), lambda change: change.square().mean((1, 2, 3))):
            one, two = statistic(here - images), statistic(there - images)
            error = ((one.var() + two.var()) / len(images)).sqrt()
            assert float((one.mean() - two.mean()).abs()) <= 5 * float(error) + 1e-4, severity
