"""The audit of a network that others trained, on images that others took, against computations by hand."""

from __future__ import annotations

import copy
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import reference
import torch

from selplug import registry, specs
from selplug.audits.api import audit_subject
from selplug.core.model.compiled import CompiledModel
from selplug.core.model.unit_range import UnitRangeModel
from selplug.core.perturb import batch_seed, run_perturbation

pytest.importorskip("timm")
torchattacks = pytest.importorskip("torchattacks")

SHARED = Path(os.environ.get("SELPLUG_DATA") or Path(__file__).parents[2] / "shared" / "data")
ARCHIVE, WEIGHTS = SHARED / "cifar10-jpeg.tar.xz", SHARED / "resnet20-12fca82f.th"
PER_CLASS, SAMPLES, BATCH = 20, 200, 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SPECS = ("fgsm:eps=8/255", "pgd:eps=2/255,alpha=0.5/255,steps=5", "gaussian-noise:std=0.1")

pytestmark = [
    pytest.mark.data,
    pytest.mark.slow,
    pytest.mark.skipif(not (ARCHIVE.exists() and WEIGHTS.exists()), reason=f"needs {ARCHIVE.name} and {WEIGHTS.name}"),
]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """The first test images of every class."""
    root = tmp_path_factory.mktemp("cifar")
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            parts = Path(member.name).parts
            if member.isfile() and parts[-3] == "test" and int(Path(parts[-1]).stem) <= PER_CLASS:
                archive.extract(member, root, filter="data")
    return root


@pytest.fixture(scope="module")
def subject(images):
    load = registry.load("selplug.subjects", "timm")
    options = {"checkpoint": str(WEIGHTS), "data_dir": str(images), "split": "test", "batch_size": BATCH, "workers": 0}
    return load("resnet20_cifar", {**options, "num_samples": SAMPLES})


class ByHand(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model((x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1))


def perturbed_by_hand(model: ByHand, spec: str, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    if spec == "clean":
        return images
    if spec.startswith("gaussian"):
        return (images + 0.1 * torch.randn_like(images)).clamp(0, 1)
    if spec.startswith("fgsm"):
        return torchattacks.FGSM(model, eps=8 / 255)(images, labels)
    return torchattacks.PGD(model, eps=2 / 255, alpha=0.5 / 255, steps=5)(images, labels)


def test_accuracies_selectivities_and_eigenvalues_equal_those_by_hand(subject):
    report = audit_subject(subject, SPECS, progress=False)
    model = ByHand(subject.model).eval()  # the wrapper too, or torchattacks leaves all of it in train mode
    stored: dict[str, dict[str, list[np.ndarray]]] = {}
    names = {module: name for name, module in subject.model.named_modules() if isinstance(module, torch.nn.ReLU)}
    current = ["clean"]

    def keep(module, inputs, output) -> None:
        pooled = output.detach().double().numpy().mean((2, 3))
        stored.setdefault(current[0], {}).setdefault(names[module], []).append(pooled)

    correct = dict.fromkeys(("clean", *SPECS), 0)
    for spec in correct:
        for number, (images, labels) in enumerate(subject.loader):
            torch.manual_seed(batch_seed(0, number))
            changed = perturbed_by_hand(model, spec, images, labels)
            current[0] = spec
            handles = [module.register_forward_hook(keep) for module in names]
            with torch.no_grad():
                correct[spec] += int((model(changed).argmax(1) == labels).sum())
            for handle in handles:
                handle.remove()

    assert {condition.name: condition.accuracy * SAMPLES for condition in report.result.conditions} == correct
    assert correct["clean"] > 0.75 * SAMPLES
    targets = subject.targets.numpy()
    for layer in report.result.layers:
        for spec in correct:
            responses = np.concatenate(stored[spec][layer.name])
            index = reference.class_selectivity(*reference.class_means(responses, targets, 10))
            np.testing.assert_allclose(layer.arrays[spec, "selectivity"], index, rtol=1e-4, atol=1e-6)
            eigenvalues = reference.eigenvalues(responses)
            np.testing.assert_allclose(
                layer.arrays[spec, "eigenvalues"], eigenvalues, rtol=1e-4, atol=1e-6 * eigenvalues[0]
            )
            if spec != "clean":
                difference = reference.eigenvalues(responses - np.concatenate(stored["clean"][layer.name]))
                np.testing.assert_allclose(
                    layer.arrays[f"difference:{spec}", "eigenvalues"], difference, rtol=1e-4, atol=1e-6 * difference[0]
                )


def test_attacks_on_survivors_alone_give_the_worst_case_of_all_on_all(subject):
    specs = ["fgsm:eps=0.5/255", "bim:eps=0.5/255,steps=5", "mifgsm:eps=0.5/255,steps=5"]
    everything = audit_subject(subject, specs, ["selectivity"], ["act1"], progress=False).result.worst_case
    worst = audit_subject(subject, specs[:1], ["selectivity"], ["act1"], worst_case=specs[1:], progress=False)
    assert 0.1 < everything.accuracy < 0.7
    assert worst.result.worst_case.accuracy == everything.accuracy
    assert 0 < worst.result.worst_case.steps[1].samples < worst.result.worst_case.steps[0].samples < SAMPLES


@pytest.mark.parametrize(("backend", "channels_last"), [(None, True), ("aot_eager", False)])
def test_the_compiled_or_channels_last_network_is_attacked_alike(subject, backend, channels_last):
    images, labels = next(iter(subject.loader))
    model = copy.deepcopy(subject.model).eval().requires_grad_(False)
    plain = UnitRangeModel(model, subject.normalize, 10)
    if channels_last:
        model = copy.deepcopy(model).to(memory_format=torch.channels_last)
    other = UnitRangeModel(model, subject.normalize, 10, channels_last)
    other = CompiledModel(other, backend, images) if backend else other
    found = []
    attack = specs.perturbation("pgd:eps=0.5/255,alpha=0.125/255,steps=5")
    for network in (plain, other):
        inputs = images.clone().requires_grad_()
        logits = network(inputs)
        gradient = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"), inputs)[0]
        moved = run_perturbation(network, attack.factory(network, **attack.options), images, labels, seed=1).images
        with torch.no_grad():
            found.append((logits.detach(), gradient, int((plain(moved).argmax(1) == labels).sum())))
    (logits, gradient, right), (other_logits, other_gradient, other_right) = found
    torch.testing.assert_close(other_logits, logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(other_gradient, gradient, rtol=1e-3, atol=1e-3 * float(gradient.abs().max()))
    assert 0.1 * BATCH < right < 0.8 * BATCH
    assert abs(other_right - right) <= 1
