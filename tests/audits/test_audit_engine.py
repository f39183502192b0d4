"""The audit end to end on a small network: numbers, order, traces, bad input."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import reference
import torch
from torch import Tensor, nn
from torchmetrics import Metric

import selplug
from selplug import registry, specs
from selplug.audits.engine.run import run_audit
from selplug.core.errors import CaptureError, InputError, PerturbationError, PluginError
from selplug.core.measures.functional import shuffle_targets, wilson_interval
from selplug.core.perturb import batch_seed
from selplug.core.types import Perturbation, Subject

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
NOISE = "gaussian-noise:std=0.2"
N, K = 90, 3


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 12, 3),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(192, K),
    )


def make_data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(N, 3, 8, 8, generator=generator), torch.arange(N) % K


def loader(size: int = 32) -> list[tuple[Tensor, Tensor]]:
    images, labels = make_data()
    return [(images[i : i + size], labels[i : i + size]) for i in range(0, N, size)]


def audit(perturbations=(), model=None, data=None, **options):
    options = {"normalize": (MEAN, STD), "progress": False, **options}
    return selplug.audit(model or make_model(), data or loader(), perturbations, **options)


def darken(images: Tensor, labels: Tensor) -> Tensor:
    return images * 0.5


def activations(model: nn.Module, images: Tensor) -> dict[str, np.ndarray]:
    x = (images - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    found = {}
    with torch.no_grad():
        for name, module in model.eval().named_children():
            x = module(x)
            if name in ("2", "4"):
                found[name] = x.clamp_min(0).double().numpy().mean((2, 3))
    return found | {"logits": x.numpy()}


def test_numbers_equal_a_computation_on_stored_activations():
    model, (images, labels) = make_model(), make_data()
    report = audit([darken], model)
    clean, dark = activations(model, images), activations(model, images * 0.5)
    data = report.to_dict()
    assert [condition["name"] for condition in data["conditions"]] == ["clean", "darken"]
    for condition, found in zip(data["conditions"], (clean, dark), strict=True):
        correct = int((found["logits"].argmax(1) == labels.numpy()).sum())
        assert condition["accuracy"] == correct / N
        assert condition["accuracy_ci95"] == list(wilson_interval(correct, N))
        assert condition["samples"] == N
    change = (images * 0.5).numpy().reshape(N, -1)
    assert data["conditions"][1]["l2_mean"] == pytest.approx(np.linalg.norm(change, axis=1).mean(), rel=1e-5)
    assert data["conditions"][1]["linf_max"] == pytest.approx(np.abs(change).max())
    survivors = sum(
        (clean["logits"][n].argmax() == labels[n]) and (dark["logits"][n].argmax() == labels[n]) for n in range(N)
    )
    assert data["worst_case"]["accuracy"] == int(survivors) / N
    assert data["worst_case"]["conditions"] == ["clean", "darken"]

    arrays = report.arrays()
    shuffled = shuffle_targets(labels, 0).numpy()
    for layer in data["layers"]:
        name = layer["name"]
        for condition, found in (("clean", clean), ("darken", dark)):
            index = reference.class_selectivity(*reference.class_means(found[name], labels.numpy(), K))
            null = reference.class_selectivity(*reference.class_means(found[name], shuffled, K))
            np.testing.assert_allclose(arrays[f"{name}|{condition}|selectivity"], index, rtol=1e-4, atol=1e-6)
            values = layer["conditions"][condition]
            assert values["selectivity"]["mean"] == pytest.approx(index.mean(), rel=1e-4)
            assert values["selectivity"]["null"] == pytest.approx(null.mean(), rel=1e-4)
            eigenvalues = reference.eigenvalues(found[name])
            np.testing.assert_allclose(
                arrays[f"{name}|{condition}|eigenvalues"], eigenvalues, rtol=1e-4, atol=1e-9 * eigenvalues[0]
            )
            assert values["dimensionality"]["participation_ratio"] == pytest.approx(
                reference.participation_ratio(eigenvalues), rel=1e-4
            )
        difference = reference.eigenvalues(dark[name] - clean[name])
        np.testing.assert_allclose(
            arrays[f"{name}|difference:darken|eigenvalues"], difference, rtol=1e-4, atol=1e-6 * difference[0]
        )
        assert layer["differences"]["darken"]["dimensionality"]["participation_ratio"] == pytest.approx(
            reference.participation_ratio(difference), rel=1e-4
        )
    assert [layer["kind"] for layer in data["layers"]] == ["ReLU", "GELU"]
    assert data["settings"]["rectified_layers"] == ["4"]


def without_times(report) -> dict:
    data = report.to_dict()
    for key in ("started", "seconds"):
        del data["environment"][key]
    return data


def test_the_same_audit_twice_gives_the_same_numbers():
    first, second = audit([NOISE]), audit([NOISE])
    assert without_times(first) == without_times(second)
    assert without_times(first)["conditions"] != without_times(audit([NOISE], seed=1))["conditions"]


def test_a_result_depends_neither_on_other_perturbations_nor_on_passes():
    alone = audit([NOISE])
    subject = Subject(make_model(), loader(), normalize=(MEAN, STD))
    measures = {name: registry.load("selplug.measures", name) for name in ("selectivity", "dimensionality")}
    others = [specs.perturbation(spec) for spec in ("gaussian-noise:std=0.4", NOISE)]
    together, one_by_one = (run_audit(subject, others, measures, state_bytes=size) for size in (2**30, 1))
    assert together.conditions == one_by_one.conditions
    assert [layer.conditions for layer in together.layers] == [layer.conditions for layer in one_by_one.layers]
    assert alone.result.conditions[1] == together.conditions[2]
    assert alone.result.layers[0].conditions[NOISE] == together.layers[0].conditions[NOISE]


def test_noise_is_the_documented_draw_and_no_attack():
    images, _ = make_data()
    report = audit([NOISE])
    torch.manual_seed(batch_seed(0, 1))
    expected = (images[32:64] + 0.2 * torch.randn(32, 3, 8, 8)).clamp(0, 1)
    shown = report.examples.images[NOISE]
    where = int(np.flatnonzero(np.unique(np.linspace(0, N - 1, 6).astype(int)) == 35)[0])
    np.testing.assert_array_equal(shown[where], (expected[3] * 255).round().to(torch.uint8).numpy())
    assert report.to_dict()["worst_case"] is None


def test_the_worst_case_counts_samples_that_survive_everything():
    labels = make_data()[1]

    class Oracle(nn.Module):
        """Right on what an image says in its first pixel."""

        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            index = (self.act(x[:, :1, 0, 0])[:, 0] * 100).round().long() % K
            return torch.nn.functional.one_hot(index, K).float() + 0 * self.act(x.mean((2, 3)))

    images = torch.full((N, 3, 8, 8), 0.5)
    images[:, 0, 0, 0] = labels / 100

    def break_first(x: Tensor, y: Tensor) -> Tensor:
        x[y == 0, 0, 0, 0] = 0.02
        return x

    def break_second(x: Tensor, y: Tensor) -> Tensor:
        x[y == 1, 0, 0, 0] = 0.02
        return x

    def break_all(x: Tensor, y: Tensor) -> Tensor:
        x[:, 0, 0, 0] = (y + 1) % K / 100
        return x

    break_all.kind = "noise"
    data = [(images, labels)]
    report = selplug.audit(Oracle(), data, [break_first, break_second, break_all], layers=["act"], progress=False)
    accuracies = [condition.accuracy for condition in report.result.conditions]
    assert accuracies == pytest.approx([1, 2 / 3, 2 / 3, 0])
    assert report.result.worst_case.accuracy == pytest.approx(1 / 3)
    assert report.result.worst_case.conditions == ("clean", "break_first", "break_second")


def test_no_trace_on_the_model_and_the_generators():
    model = make_model().train()
    model[1].eval()
    model[3].weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    gradient = torch.ones_like(model[0].weight)
    model[0].weight.grad = gradient

    def snapshot():
        return torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()

    def check(before) -> None:
        assert [module.training for module in model.modules()] == modes
        assert not model[3].weight.requires_grad
        assert model[0].weight.requires_grad
        assert model[0].weight.grad is gradient
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
        after = snapshot()
        assert torch.equal(before[0], after[0])
        assert (before[1] == after[1]).all()
        assert before[2] == after[2]

    before = snapshot()
    audit([NOISE], model)
    check(before)

    def broken(images: Tensor, labels: Tensor) -> Tensor:
        model.train()
        random.random()
        raise RuntimeError("in the middle")

    with pytest.raises(PluginError, match="in the middle"):
        audit([broken], model)
    check(before)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_attacks_have_gradients_whatever_mode_the_caller_is_in(mode):
    def attack(images: Tensor, labels: Tensor) -> Tensor:
        images.requires_grad_()
        images.square().sum().backward()
        return (images - 0.1 * images.grad.sign()).clamp(0, 1)

    model = make_model()
    with mode():
        report = audit([attack], model)
    assert report.result.conditions[1].linf_max == pytest.approx(0.1, abs=1e-6)


def test_uint8_and_float64_images_and_a_double_model():
    images, labels = make_data()
    whole = (images * 255).round()
    reports = [
        audit(model=model, data=[(data, labels)])
        for model, data in (
            (make_model(), whole.to(torch.uint8)),
            (make_model(), (whole / 255).double()),
            (make_model().double(), whole / 255),
        )
    ]
    accuracies = {report.result.conditions[0].accuracy for report in reports}
    assert len(accuracies) == 1
    selectivities = [report.network_selectivity() for report in reports]
    assert selectivities == pytest.approx([selectivities[0]] * 3, rel=1e-4)


def test_amp_measures_in_lower_precision_and_attacks_in_float32():
    seen = []

    def attack(images: Tensor, labels: Tensor) -> Tensor:
        seen.append((images.dtype, torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()))
        return images

    report = audit([attack], amp=torch.bfloat16)
    assert set(seen) == {(torch.float32, False, True)}
    assert report.to_dict()["settings"]["amp"] == "bfloat16"
    plain = audit()
    assert report.network_selectivity() == pytest.approx(plain.network_selectivity(), rel=0.05)
    assert report.network_selectivity() != plain.network_selectivity()


class Mean(Metric):
    """A measure as others would write it."""

    def __init__(self, num_units: int, num_classes: int, seed: int) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(num_units, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, responses: Tensor, targets: Tensor) -> None:
        self.total += responses.sum(0)

    def compute(self) -> dict:
        return {"mean": self.total.mean() / N, "per_unit": self.total / N}


def test_a_measure_of_others_stands_beside_ours():
    report = audit(measures={"level": Mean})
    layer = report.result.layers[0]
    expected = activations(make_model(), make_data()[0])["2"]
    assert layer.conditions["clean"]["level"]["mean"] == pytest.approx(expected.mean(), rel=1e-5)
    np.testing.assert_allclose(layer.arrays["clean", "per_unit"], expected.mean(0), rtol=1e-5)
    assert layer.dead_units is None
    assert "selectivity" not in layer.conditions["clean"]


def test_progress_counts_every_pass():
    seen = []
    subject = Subject(make_model(), loader(), normalize=(MEAN, STD))
    run_audit(subject, [specs.perturbation(NOISE)], {}, on_progress=lambda *step: seen.append(step))
    assert seen[-1] == (f"{NOISE}: computing", 2 * N, 2 * N)
    assert [step[0] for step in seen] == [*["clean", NOISE] * 3, "clean: computing", f"{NOISE}: computing"]


class Logits(nn.Module):
    def __init__(self, change) -> None:
        super().__init__()
        self.act, self.change = nn.ReLU(), change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.act(x).mean((2, 3)))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"data": [(make_data()[0] * 3, make_data()[1])]},
            InputError,
            r"images in \[0, 1\], got values from .*normalize=",
        ),
        ({"data": [(make_data()[0], make_data()[1] + 1)]}, InputError, r"labels in \[0, 3\).*got 1 to 3"),
        ({"data": [(make_data()[0], make_data()[1].float())]}, InputError, "integer labels"),
        ({"data": [(make_data()[0], make_data()[1][:5])]}, InputError, r"labels \(N,\)=\(90,\)"),
        ({"data": [make_data()[0]]}, InputError, r"loader of \(images, labels\), got batches of Tensor"),
        ({"data": [(make_data()[0][:0], make_data()[1][:0])]}, InputError, "got .*shape \\(0, 3, 8, 8\\)"),
        (
            {"data": [(make_data()[0], make_data()[1] * 0)]},
            InputError,
            "selectivity needs images of at least 2 classes",
        ),
        ({"num_classes": 7}, InputError, "3 logits, but num_classes is 7"),
        ({"normalize": (MEAN, (0.2, 0.0, 0.2))}, InputError, "std > 0"),
        ({"seed": -1}, InputError, "seed >= 0"),
        ({"device": "cuda:77"}, InputError, "cuda:77.*--device cpu"),
        ({"device": "nonsense"}, InputError, "nonsense.*--device cpu"),
        ({"measures": "selectivity"}, InputError, "list of measures"),
        ({"perturbations": [NOISE, NOISE]}, InputError, "comes twice"),
        ({"perturbations": [3]}, InputError, "spec, a Perturbation or a callable, got int"),
        ({"perturbations": ["gaussian-noise:std=-1"]}, InputError, "std >= 0, got -1"),
        ({"layers": ["nope"]}, CaptureError, "matches no module"),
        ({"perturbations": [lambda x, y: x[:1]]}, PerturbationError, "shape"),
        ({"perturbations": [lambda x, y: x + 1]}, PerturbationError, r"in \[0, 1\]"),
        ({"model": Logits(lambda x: (x, x))}, InputError, r"logits \(N, K\).*got tuple"),
        ({"model": Logits(lambda x: x[:, 0])}, InputError, r"logits \(N, K\).*got a tensor \(2,\)"),
        ({"model": Logits(lambda x: x / 0 * 0)}, InputError, "clean: .*not finite.*samples 0 to 31"),
    ],
)
def test_bad_input_is_named(options, error, message):
    with pytest.raises(error, match=message):
        audit(**options)


def test_a_shuffling_loader_is_noticed():
    images, labels = make_data()
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), 32, shuffle=True)
    with pytest.raises(InputError, match="turn shuffling off"):
        audit(data=data)


def test_announced_labels_must_be_those_that_come():
    subject = Subject(make_model(), loader(), targets=torch.cat([make_data()[1], torch.zeros(1).long()]))
    with pytest.raises(InputError, match="gave 90 samples, but 91 were announced"):
        run_audit(subject, [], {})


def test_an_untrained_constant_network_gives_no_false_numbers():
    model = make_model()
    nn.init.zeros_(model[0].weight)
    nn.init.constant_(model[0].bias, -1.0)
    report = audit([NOISE], model)
    layer = report.to_dict()["layers"][0]
    assert layer["dead_units"] == 6
    assert layer["conditions"]["clean"]["selectivity"]["mean_alive"] is None
    assert layer["conditions"]["clean"]["spectrum"]["exponent"] is None
    assert math.isclose(layer["differences"][NOISE]["dimensionality"]["participation_ratio"], 0)


def test_perturbation_objects_carry_kind_and_options():
    report = audit([Perturbation("dim", lambda model, factor: lambda x, y: x * factor, {"factor": 0.9}, "corruption")])
    data = report.to_dict()
    assert data["settings"]["perturbations"] == [{"name": "dim", "kind": "corruption", "options": {"factor": 0.9}}]
    assert data["worst_case"] is None


def test_digest_tells_the_samples_apart():
    def digest(labels=None, **options):
        images, own = make_data()
        subject = Subject(make_model(), [(images, own if labels is None else labels)], normalize=(MEAN, STD), **options)
        return run_audit(subject, [], {}).samples_digest

    names = [f"{place}.png" for place in range(N)]
    assert digest(names=names) == digest(names=names, indices=list(range(N))), "names say more than places do"
    different = [digest(), digest(labels=make_data()[1].flip(0)), digest(indices=list(range(1, N + 1)))]
    different += [digest(names=names), digest(names=names[::-1])]
    assert len(set(different)) == len(different)
    assert audit().subject["data"]["samples_digest"] == digest(), "the size of batches says nothing about samples"
