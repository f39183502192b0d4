"""CIFAR-10-C as shipped: found by index and severity, and what is said of files that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from selplug_corruptions.factory import BENCHMARK
from torch import nn

from selplug import specs
from selplug.audits.api import audit_subject
from selplug.core.errors import InputError
from selplug.core.types import Samples, Subject

COUNT = 12


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for name in BENCHMARK:
        np.save(tmp_path / f"{name}.npy", generator.integers(0, 256, (5 * COUNT, 32, 32, 3), dtype=np.uint8))
    np.save(tmp_path / "labels.npy", np.tile(np.arange(COUNT) % 3, 5))
    return tmp_path


def perturb(spec):
    (found,) = specs.perturbations(spec)
    return found.factory(None, **found.options)


def test_each_sample_gets_its_own_image(folder):
    images, labels = torch.rand(3, 3, 32, 32), torch.tensor([1, 2, 0])
    found = perturb(f"cifar10c@4:corruption=fog,dir={folder}")(images, labels, Samples((7, 2, 9), 0))
    stored = np.load(folder / "fog.npy")[3 * COUNT + np.array([7, 2, 9])]
    assert torch.equal(found, torch.from_numpy(stored).permute(0, 3, 1, 2).float() / 255)


def test_the_whole_set_in_an_audit(folder):
    assert len(specs.perturbations(f"cifar10c:dir={folder}")) == 75
    assert len(specs.perturbations(f"cifar10c@2-3:dir={folder},corruption=fog")) == 2
    with torch.random.fork_rng():
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
        ).eval()
    indices = [11, 3, 4, 5, 0, 1]
    batch = (torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.tensor(indices) % 3)
    subject = Subject(model, [batch], indices=indices)
    report = audit_subject(subject, [f"cifar10c@1:dir={folder}"], [], progress=False)
    found = report.corruptions
    assert set(found["accuracy"]) == set(BENCHMARK)
    pixels = torch.from_numpy(np.load(folder / "contrast.npy")[indices]).permute(0, 3, 1, 2).float() / 255
    assert found["accuracy"]["contrast"]["1"] == pytest.approx(
        float((model(pixels).argmax(1) == batch[1]).float().mean())
    )
    assert found["strengths"] == "the CIFAR-10-C files"


def damage(folder, what):
    if what == "missing":
        (folder / "frost.npy").unlink()
        (folder / "labels.npy").unlink()
    elif what == "shape":
        np.save(folder / "fog.npy", np.zeros((7, 32, 32, 3), np.uint8))
    elif what == "type":
        np.save(folder / "fog.npy", np.zeros((5 * COUNT, 32, 32, 3), np.float32))
    elif what == "labels":
        np.save(folder / "labels.npy", np.zeros(COUNT, np.int64))
    elif what == "objects":
        np.save(folder / "fog.npy", np.array([None]), allow_pickle=True)
    elif what == "text":
        (folder / "fog.npy").write_text("no")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", r"has no frost\.npy, labels\.npy"),
        ("shape", r"expected \(50000, 32, 32, 3\) uint8, .* got uint8 \(7, 32, 32, 3\)"),
        ("type", r"got float32"),
        ("labels", r"expected labels \(60,\) of whole numbers in .* got int64 \(12,\)"),
        ("objects", "cannot be read as .npy"),
        ("text", "cannot be read as .npy"),
    ],
)
def test_files_that_do_not_fit(folder, what, message):
    damage(folder, what)
    with pytest.raises(InputError, match=message):
        [found.factory(None, **found.options) for found in specs.perturbations(f"cifar10c:dir={folder}")]


@pytest.mark.parametrize(
    ("images", "label", "index", "message"),
    [
        (torch.rand(1, 3, 32, 32), 2, 7, "sample 7 has label 2, but 1 in labels.npy; the data must be the CIFAR-10"),
        (torch.rand(1, 3, 32, 32), 1, 12, "has 12 samples, but the data has a sample with index 12"),
        (torch.rand(1, 3, 64, 64), 1, 7, r"expected images of shape \(3, 32, 32\), got \(3, 64, 64\)"),
    ],
)
def test_data_that_does_not_fit(folder, images, label, index, message):
    made = perturb(f"cifar10c@1:corruption=fog,dir={folder}")
    with pytest.raises(InputError, match=message):
        made(images, torch.tensor([label]), Samples((index,), 0))


def test_names_and_the_bare_folder(folder, tmp_path):
    place = tmp_path / "a,b=c, d"
    place.mkdir()
    for path in folder.glob("*.npy"):
        path.rename(place / path.name)
    # a comma before a word with = begins an option
    with pytest.raises(InputError, match="cifar10c has no option 'b'"):
        specs.perturbations(f"cifar10c:{place}")
    place = place.rename(tmp_path / "a, 8=9,d")
    found = specs.perturbations(f"cifar10c@2-3:{place}")
    assert [found[0].name, found[-1].name] == ["cifar10c/gaussian_noise@2", "cifar10c/jpeg_compression@3"]
    assert found[0].options == {"dir": str(place), "corruption": "gaussian_noise", "severity": 2}
    assert specs.perturbations(found[0].spec) == found[:1]


def test_a_folder_is_needed():
    with pytest.raises(InputError, match="cifar10c needs the option dir"):
        specs.perturbations("cifar10c")
    with pytest.raises(InputError, match="expected a severity from 1 to 5"):
        specs.perturbations("cifar10c@7:dir=x")
