"""Input gradients in an audit: known values, each condition with the same directions, no trace of the run."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from gradient_nets import MEAN, STD, measured, net, pictures
from torch import Tensor, nn

import selplug
from selplug.core.errors import InputError
from selplug.core.measures.gradients import GradientVariability
from selplug.core.perturb import batch_seed


def audit(model: nn.Module, perturbations=(), **options):
    data = [(pictures(6), torch.arange(6) % 3), (pictures(3), torch.arange(3))]
    options = {"measures": ["gradients"], "normalize": (MEAN, STD), "progress": False, "gradient_probes": 4, **options}
    return selplug.audit(model, data, perturbations, **options)


def darken(images: Tensor, labels: Tensor) -> Tensor:
    return images * 0.5


def test_a_network_that_is_linear_has_known_values():
    torch.manual_seed(0)
    layer = nn.Linear(75, 40)
    model = nn.Sequential(nn.Flatten(), layer, nn.Identity(), nn.ReLU(), nn.Linear(40, 3)).eval()
    nn.init.constant_(layer.bias, 100.0)  # always on
    images = pictures(40, 5)
    scale = (1 / torch.tensor(STD)).repeat_interleave(25)
    expected = (layer.weight.detach() * scale).norm(dim=1)
    report = selplug.audit(
        model,
        [(images, torch.arange(40) % 3)],
        measures=["gradients"],
        normalize=(MEAN, STD),
        gradient_probes=20,
        progress=False,
    )
    (found,) = report.result.layers
    values = found.conditions["clean"]["gradients"]
    assert values["probes"] == 20
    np.testing.assert_allclose(found.arrays["clean", "gradient"], expected.numpy(), rtol=0.1)
    assert values["mean"] == pytest.approx(float(expected.mean()), abs=4 * values["mean_stderr"])
    assert values["mean_stderr"] < 0.02 * values["mean"]
    assert abs(values["cv_samples"]) < 4 * values["cv_samples_stderr"]  # the same gradient for all images
    spread = float(expected.std(correction=0) / expected.mean())
    assert values["cv_units"] == pytest.approx(spread, abs=4 * values["cv_units_stderr"] + 0.005)


def test_the_audit_measures_each_condition_with_the_same_directions():
    model = net()
    report = audit(model, [darken], measures=["selectivity", "gradients"])
    for layer in report.result.layers:
        for condition, change in (("clean", 1.0), ("darken", 0.5)):
            metric = GradientVariability(layer.units)
            for start, images in ((0, pictures(6)), (6, pictures(3))):
                metric.update(measured(model, images * change, 4, batch_seed(0, start, 1))[layer.name])
            values = layer.conditions[condition]["gradients"]
            for name in ("mean", "cv_samples", "cv_units_stderr"):
                assert values[name] == pytest.approx(float(metric.compute()[name]), rel=1e-6)
            assert layer.arrays[condition, "gradient"].shape == (layer.units,)
            assert "selectivity" in layer.conditions[condition]
        assert "gradients" not in layer.differences.get("darken", {})
    settings = report.to_dict()["settings"]
    assert settings["gradient_probes"] == 4
    assert audit(model, measures=["selectivity"], gradient_probes=None).to_dict()["settings"]["gradient_probes"] is None


def test_gradients_of_chosen_conditions_alone():
    both = audit(net(), [darken], measures=["selectivity", "gradients"])
    report = audit(net(), [darken], measures=["selectivity", "gradients"], gradient_conditions=["cl*"])
    for layer, full in zip(report.result.layers, both.result.layers, strict=True):
        assert layer.conditions["clean"] == full.conditions["clean"]
        assert "gradients" not in layer.conditions["darken"]
        assert layer.conditions["darken"]["selectivity"] == full.conditions["darken"]["selectivity"]
    assert report.settings["gradient_conditions"] == ["cl*"]
    with pytest.raises(InputError, match=r"--gradient-conditions .*'dark' is none of the conditions clean, darken"):
        audit(net(), [darken], gradient_conditions=["dark"])
    with pytest.raises(InputError, match=r"--gradient-conditions .* add --measure gradients"):
        audit(net(), measures=["selectivity"], gradient_probes=None, gradient_conditions=["clean"])


def test_lower_precision_measures_in_float32():
    plain, lower = audit(net()), audit(net(), amp=torch.bfloat16)
    assert plain.result.layers[0].conditions == lower.result.layers[0].conditions
    half = net().bfloat16()
    rounded = net()
    rounded.load_state_dict({name: value.float() for name, value in half.state_dict().items()})
    expected = audit(rounded).result.layers[1].conditions["clean"]["gradients"]["mean"]
    found = audit(half).result.layers[1].conditions["clean"]["gradients"]["mean"]
    assert found == pytest.approx(expected, rel=1e-4)
    assert {value.dtype for value in half.state_dict().values()} == {torch.bfloat16, torch.int64}


@pytest.mark.parametrize("count", [4, 32])
def test_no_trace(count):
    model = net().train()
    model[1].eval()
    model[4].weight.requires_grad_(False)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()

    def check() -> None:
        assert [module.training for module in model.modules()] == modes
        assert model[0].weight.requires_grad
        assert not model[4].weight.requires_grad
        assert model[0].weight.grad is None
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
        assert torch.equal(before[0], torch.get_rng_state())
        assert (before[1] == np.random.get_state()[1]).all()
        assert before[2] == random.getstate()

    with torch.inference_mode():
        audit(model, gradient_probes=count)
    check()

    class Broken(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            if self.calls > 4:
                raise KeyError("in the middle")
            return x

    model[3] = Broken()
    modes = [module.training for module in model.modules()]
    with pytest.raises(KeyError, match="in the middle"):
        audit(model, gradient_probes=count)
    check()


def test_the_audit_refuses_what_makes_no_sense():
    with pytest.raises(InputError, match="even number of at least 2 gradient probes, got 3"):
        audit(net(), gradient_probes=3)
    with pytest.raises(InputError, match=r"--gradient-probes .* add --measure gradients to the measures selectivity"):
        audit(net(), measures=["selectivity"])


def test_a_model_without_gradients_has_units_without_one():
    class Steps(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * 4).floor()

    model = nn.Sequential(Steps(), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    report = audit(model, layers=["2"], normalize=None)
    values = report.to_dict()["layers"][0]["conditions"]["clean"]["gradients"]
    assert values["mean"] == 0
    assert values["flat_units"] == 4
    assert values["cv_samples"] is values["cv_units"] is None
    assert "Units without an input gradient: 4 in 1 of 1 layer " in report.summary().replace("\n", " ")
