"""Two networks compared: numbers, pairing of samples, no traces, bad input; and what an audit says of similarity."""

from __future__ import annotations

import copy
import json
import math
from importlib.resources import files

import jsonschema
import numpy as np
import pytest
import reference
import torch
from torch import nn
from torchmetrics import Metric

import selplug
from selplug.audits.engine.run import run_audit
from selplug.core.errors import CaptureError, InputError
from selplug.core.measures.similarity import CKA, ProcrustesDistance
from selplug.core.types import Perturbation, Subject
from selplug.similarities.run import run_similarity

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
N, K = 90, 3


def make_model(seed: int = 0, width: int = 12) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, width, 3), nn.GELU(), nn.Flatten(),
        nn.Linear(16 * width, K),
    )  # fmt: skip


def other_model() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(3, 5, 5, padding=2), nn.ReLU(inplace=True), nn.Conv2d(5, 7, 3), nn.ReLU(), nn.Conv2d(7, 9, 3),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(9, K),
    )  # fmt: skip


IMAGES = torch.rand(N, 3, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(N) % K


def loader(size: int = 32) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(IMAGES[i : i + size], LABELS[i : i + size]) for i in range(0, N, size)]


def compare(a=None, b=None, data=None, **options):
    options = {"normalize": (MEAN, STD), "progress": False, **options}
    return selplug.similarity(a or make_model(), b or other_model(), data or loader(), **options)


def recorded(model: nn.Module, images: torch.Tensor, flatten: bool = False) -> list[np.ndarray]:
    """What every activation gives, rectified, by hand."""
    outputs = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    found = []
    with torch.no_grad():
        for module in copy.deepcopy(model).eval():
            outputs = module(outputs)
            if isinstance(module, (nn.ReLU, nn.GELU)):
                maps = outputs.clamp_min(0)
                found.append((maps.flatten(1) if flatten else maps.mean((2, 3))).double().numpy())
    return found


@pytest.mark.parametrize("estimator", ["debiased", "biased"])
@pytest.mark.parametrize("flatten", [False, True])
def test_maps_equal_the_computation_by_hand(estimator, flatten):
    a, b = make_model(), other_model()
    report = compare(a, b, estimator=estimator, flatten=flatten, measures=["cka", "procrustes"])
    mine, theirs = recorded(a, IMAGES, flatten), recorded(b, IMAGES, flatten)
    for rows, columns, first, second in (("a", "b", mine, theirs), ("a", "a", mine, mine), ("b", "b", theirs, theirs)):
        expected = [[reference.linear_cka(x, y, estimator == "debiased") for y in second] for x in first]
        np.testing.assert_allclose(report.result.maps["cka", rows, columns], expected, rtol=1e-4, atol=1e-5)
    expected = [[reference.procrustes_distance(x, y) for y in theirs] for x in mine]
    np.testing.assert_allclose(report.result.maps["procrustes", "a", "b"], expected, rtol=1e-4)
    assert [layer.units for layer in report.result.layers["a"]] == [6, 12]
    assert report.result.samples == N


def test_batches_do_not_matter_and_a_small_last_one_is_kept():
    once = compare(data=loader(N)).result.maps
    for size in (1, 29, 44):  # 29 and 44 leave 3 and 2 samples at the end
        again = compare(data=loader(size)).result.maps
        for key, values in once.items():
            np.testing.assert_allclose(again[key], values, rtol=1e-4, atol=1e-6)


def test_a_network_is_like_itself_and_like_its_rotations():
    model = make_model()
    maps = compare(model, model).result.maps
    np.testing.assert_allclose(maps["cka", "a", "b"], maps["cka", "a", "a"])
    np.testing.assert_allclose(np.diag(maps["cka", "a", "b"]), 1)
    permuted = copy.deepcopy(model)
    order = torch.randperm(12)
    permuted[3].weight.data, permuted[3].bias.data = permuted[3].weight.data[order], permuted[3].bias.data[order]
    between = compare(model, permuted, measures=["cka", "procrustes"]).result.maps
    assert between["cka", "a", "b"][1, 1] == pytest.approx(1, abs=1e-5)
    assert between["procrustes", "a", "b"][1, 1] == pytest.approx(0, abs=1e-5)
    assert compare(model, make_model(seed=9)).result.maps["cka", "a", "b"][1, 1] < 0.98


def test_loaders_of_different_preparation_are_read_side_by_side():
    big = [(nn.functional.interpolate(images, 16), labels) for images, labels in loader()]
    model = other_model()
    first = Subject(model, loader(), normalize=(MEAN, STD))
    result = run_similarity(first, Subject(model, big, normalize=(MEAN, STD)))
    assert result.samples == N
    assert 0.2 < result.maps["cka", "a", "b"][0, 0] < 1


@pytest.mark.parametrize(
    "data",
    [loader()[:-1], [(x, y.flip(0)) for x, y in loader()], [*loader(), *loader()]],
    ids=["less", "order", "more"],
)
def test_different_samples_are_an_error(data):
    model = other_model()
    with pytest.raises(InputError, match="got different samples from sample"):
        run_similarity(Subject(model, loader()), Subject(model, data))


def test_models_come_back_as_they_were():
    a, b = make_model().train(), other_model()
    a[1].eval()
    a[0].weight.requires_grad_(False)
    before = [copy.deepcopy(model.state_dict()) for model in (a, b)]
    flags = [module.training for model in (a, b) for module in model.modules()]
    broken = nn.Sequential(*b, nn.Linear(4, 4))
    random = torch.get_rng_state()
    compare(a, b)
    with pytest.raises(InputError, match=r"b \(b\) fails on images \(32, 3, 8, 8\): .*mat1 and mat2"):
        compare(a, broken)
    assert flags == [module.training for model in (a, b) for module in model.modules()]
    assert not a[0].weight.requires_grad
    assert a[3].weight.requires_grad
    for model, state in zip((a, b), before, strict=True):
        assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random)


def test_bad_input_is_said():
    with pytest.raises(InputError, match="expected measures of cka, procrustes, got pwcca"):
        compare(measures=["pwcca"])
    with pytest.raises(InputError, match="got none"):
        compare(measures=[])
    with pytest.raises(InputError, match="at least 4 samples, got 3"):
        compare(data=[(IMAGES[:3], LABELS[:3])])
    with pytest.raises(InputError, match="returned no images"):
        selplug.similarity(make_model(), other_model(), [], progress=False)
    with pytest.raises(CaptureError, match="matches no module"):
        compare(layers=["2"], layers_b=["zzz"])
    broken = other_model()
    broken[2].weight.data.fill_(math.nan)
    with pytest.raises(InputError, match=r"b \(b\): responses are not finite in 2 of 3 layers, the first is 3"):
        compare(b=broken)
    subjects = [Subject(model, loader()) for model in (make_model(), other_model())]
    with pytest.raises(InputError, match="--measure procrustes stores the covariances of 18 and 21 units"):
        run_similarity(*subjects, measures=["procrustes"], state_bytes=1000)
    with pytest.raises(InputError, match="--estimator biased stores"):
        run_similarity(*subjects, estimator="biased", state_bytes=1000)
    run_similarity(*subjects, state_bytes=1000)


def test_layers_are_chosen_for_each_network():
    report = compare(layers=["2"], layers_b=["3", "5"])
    assert [layer.name for layer in report.result.layers["b"]] == ["3", "5"]
    assert report.result.maps["cka", "a", "b"].shape == (1, 2)
    assert math.isnan(report.result.blocks["a"].score)


# -- in an audit


def darken(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return images * 0.5


def same(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return images


def test_an_audit_compares_clean_and_perturbed_responses_and_clean_layers():
    model = other_model()
    report = selplug.audit(
        model, loader(), [darken, same], ["cka", "procrustes"], normalize=(MEAN, STD), progress=False
    )
    clean, dark = recorded(model, IMAGES), recorded(model, IMAGES * 0.5)
    for layer, x, y in zip(report.result.layers, clean, dark, strict=True):
        assert layer.conditions["clean"] == {}
        values = layer.conditions["darken"]
        assert values["cka"]["debiased"] == pytest.approx(reference.linear_cka(x, y, True), abs=1e-5)
        assert values["procrustes"]["distance"] == pytest.approx(reference.procrustes_distance(x, y), abs=1e-5)
        assert layer.conditions["same"]["cka"]["debiased"] == pytest.approx(1)
        assert layer.conditions["same"]["procrustes"]["distance"] == pytest.approx(0, abs=1e-6)
        assert layer.differences == {}
    between = report.result.between_layers["cka"]
    expected = [[reference.linear_cka(x, y, True) for y in clean] for x in clean]
    np.testing.assert_allclose(between["debiased"], expected, atol=1e-5)
    schema = json.loads(files("selplug.audits").joinpath("report.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(json.loads(json.dumps(report.to_dict(), allow_nan=False)), schema)


def test_similarity_changes_no_other_number_and_survives_several_passes():
    first = selplug.audit(other_model(), loader(), [darken, same], progress=False)
    measures = {name: selplug.registry.load("selplug.measures", name) for name in ("selectivity", "dimensionality")}
    subject = Subject(other_model(), loader(), name="Sequential")
    perturbations = [Perturbation(f.__name__, lambda model, f=f: f) for f in (darken, same)]
    both = measures | {"cka": CKA, "procrustes": ProcrustesDistance}
    result = run_audit(subject, perturbations, both, state_bytes=1)
    once = run_audit(subject, perturbations, both)
    assert result.between_layers == once.between_layers
    for layer, again, alone in zip(result.layers, once.layers, first.result.layers, strict=True):
        assert layer.conditions == again.conditions
        assert layer.conditions["darken"].keys() - alone.conditions["darken"].keys() == {"cka", "procrustes"}
        assert alone.conditions["darken"].items() <= layer.conditions["darken"].items()
        assert layer.differences["darken"] == alone.differences["darken"]


def test_an_audit_knows_how_large_the_states_are_before_it_begins():
    assert ProcrustesDistance(num_units=7, num_classes=3, seed=0).products.numel() == 49


def test_models_are_compared_in_inference_mode_too():
    models = make_model(), other_model()
    with torch.inference_mode():
        values = compare(*models).result.maps["cka", "a", "b"]
    np.testing.assert_array_equal(values, compare().result.maps["cka", "a", "b"])


def test_cka_needs_four_images():
    data = [(IMAGES[:3], LABELS[:3])]
    with pytest.raises(InputError, match="cka needs at least 4 images, got 3"):
        selplug.audit(other_model(), data, measures=["cka"], progress=False)


def test_somebody_elses_measure_may_see_pairs_and_all_layers():
    class Largest(Metric):
        def __init__(self, num_units, num_classes, seed):
            super().__init__()
            self.num_units = num_units
            self.add_state("largest", torch.zeros(()), dist_reduce_fx="max")

        def update(self, responses):
            assert [r.shape[1] for r in responses] == self.num_units
            self.largest = torch.stack([self.largest, *(r.max() for r in responses)]).max()

        def compute(self):
            return {"largest": self.largest}

    class Moved(Metric):
        on_pairs = True
        between_layers = Largest

        def __init__(self, num_units, num_classes, seed):
            super().__init__()
            self.add_state("moved", torch.zeros(num_units), dist_reduce_fx="sum")

        def update(self, clean, perturbed):
            self.moved += (perturbed - clean).abs().sum(0)

        def compute(self):
            return {"moved": self.moved.sum(), "moved_units": self.moved}

    report = selplug.audit(other_model(), loader(), [darken], {"moved": Moved}, progress=False)
    layer = report.result.layers[0]
    assert layer.conditions["darken"]["moved"]["moved"] > 0
    assert layer.arrays["darken", "moved_units"].shape == (5,)
    assert report.result.between_layers["moved"]["largest"] > 0
    json.dumps(report.to_dict(), allow_nan=False)
