"""What the methods say of a network that others trained: units that matter for a class, layers that show an attack."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import reference
import torch
from captum_nets import method, responses, stored

from selplug import registry, specs
from selplug.core.model.unit_range import UnitRangeModel
from selplug.core.perturb import run_perturbation

pytest.importorskip("timm")

SHARED = Path(os.environ.get("SELPLUG_DATA") or Path(__file__).parents[3] / "shared" / "data")
ARCHIVE, WEIGHTS = SHARED / "cifar10-jpeg.tar.xz", SHARED / "resnet20-12fca82f.th"
PER_CLASS = {"train": 60, "test": 50}

pytestmark = [
    pytest.mark.data,
    pytest.mark.slow,
    pytest.mark.skipif(not (ARCHIVE.exists() and WEIGHTS.exists()), reason=f"needs {ARCHIVE.name} and {WEIGHTS.name}"),
]


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    """The ResNet20 with its normalization inside, 600 training images, 500 test images."""
    root = tmp_path_factory.mktemp("cifar")
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            parts = Path(member.name).parts
            if member.isfile() and int(Path(parts[-1]).stem) <= PER_CLASS.get(parts[-3], 0):
                archive.extract(member, root, filter="data")
    load = registry.load("selplug.subjects", "timm")
    options = {"checkpoint": str(WEIGHTS), "data_dir": str(root), "batch_size": 100, "workers": 0}
    splits = {split: load("resnet20_cifar", {**options, "split": split}) for split in PER_CLASS}
    batches = {split: list(subject.loader) for split, subject in splits.items()}
    images, labels = (torch.cat(parts) for parts in zip(*batches["test"], strict=True))
    model = UnitRangeModel(splits["test"].model.eval(), splits["test"].normalize, 10).eval()
    return SimpleNamespace(model=model, net=splits["test"].model, train=batches["train"], images=images, labels=labels)


def test_the_numbers_on_a_real_network(cifar):
    images = cifar.images[:100]
    layer = cifar.net.layer2[1].act2
    (activation,) = stored(cifar.model, layer, images)
    clean = np.concatenate([responses(stored(cifar.model, layer, x)[0]) for x, _ in cifar.train])
    targets = torch.cat([y for _, y in cifar.train]).numpy()
    index = reference.class_wise_selectivity(*reference.class_means(clean, targets, 10))[3]
    found = method("layer-class-selectivity")(cifar.model, layer).fit(cifar.train)
    np.testing.assert_allclose(found.unit_scores(3), index, rtol=1e-5, atol=1e-6)
    expected = activation * index[None, :, None, None]
    np.testing.assert_allclose(found.attribute(images, 3), expected, rtol=1e-5, atol=1e-5)
    found = method("layer-dimensionality")(cifar.model, layer).fit(cifar.train)
    scores = reference.participation_ratio_contributions(np.cov(clean.T))
    np.testing.assert_allclose(found.unit_scores(), scores, rtol=1e-5, atol=1e-6)
    shares, energies = reference.outside_shares(activation[:4].reshape(4, 32, -1), clean, 0.95)
    attribution = found.attribute(images[:4])
    np.testing.assert_allclose(attribution.reshape(4, 32, -1), shares, rtol=1e-5, atol=1e-5 * np.abs(shares).max())
    np.testing.assert_allclose(attribution.flatten(1).sum(1), energies, rtol=1e-5)


@pytest.mark.parametrize("name", ["layer1.2.act2", "layer2.2.act2", "layer3.2.act1"])
def test_the_units_of_the_true_class_matter_most(cifar, name):
    """Without their top quarter of units accuracy is 10 points lower than without any other quarter.

    The others: three random quarters, and the top one for a random other class. The maps of the two classes differ by
    more than the norm of the first.
    """
    layer, images, labels = cifar.net.get_submodule(name), cifar.images, cifar.labels
    found = method("layer-class-selectivity")(cifar.model, layer).fit(cifar.train)
    generator = torch.Generator().manual_seed(0)
    others = (labels + torch.randint(1, 10, labels.shape, generator=generator)) % 10
    true, other = found.attribute(images, labels), found.attribute(images, others)
    assert float(((true - other).flatten(1).norm(dim=1) / true.flatten(1).norm(dim=1)).mean()) > 1

    def accuracy_without(scores: torch.Tensor) -> float:
        chosen = scores.topk(scores.shape[1] // 4, dim=1).indices
        mask = torch.ones_like(scores).scatter_(1, chosen, 0)
        handle = layer.register_forward_hook(lambda _, __, output: output * mask[:, :, None, None])
        try:
            with torch.no_grad():
                return float((cifar.model(images).argmax(1) == labels).float().mean())
        finally:
            handle.remove()

    units = true.sum((2, 3))
    lowest = accuracy_without(units)
    for scores in (other.sum((2, 3)), *(torch.rand(units.shape, generator=generator) for _ in range(3))):
        assert lowest < accuracy_without(scores) - 0.1


def test_attacks_leave_the_clean_subspace(cifar):
    """From the last block of the first stage on; before it, mean responses hardly move (measured: 0.94 to 1.31)."""
    pytest.importorskip("torchattacks")
    blocks = ["layer1.2.act1", "layer1.2.act2", "layer2.0.act2", "layer2.2.act2", "layer3.2.act2"]
    spec = specs.perturbation("pgd:eps=8/255,alpha=2/255,steps=5")
    attack = spec.factory(cifar.model, **spec.options)
    parts = zip(cifar.images.split(100), cifar.labels.split(100), strict=True)
    changed = torch.cat([run_perturbation(cifar.model, attack, x, y, seed=0).images for x, y in parts])
    found = method("layer-dimensionality")(cifar.model, [cifar.net.get_submodule(name) for name in blocks])
    found.fit(cifar.train)
    for shares in zip(found.attribute(cifar.images), found.attribute(changed), strict=True):
        clean, attacked = (each.flatten(1).sum(1) for each in shares)
        assert float(attacked.mean()) > 1.5 * float(clean.mean())
        assert float((attacked > clean).float().mean()) > 0.75
