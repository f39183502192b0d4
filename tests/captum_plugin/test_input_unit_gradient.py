"""Input gradients of all units, against Captum unit by unit and against differences."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from captum.attr import NeuronGradient
from captum_nets import method, responses, stored
from torch import nn

from selplug.core.errors import CaptureError, InputError

InputUnitGradient = method("input-unit-gradient")


def by_captum(model, layer, inputs, units, axis=1):
    """A NeuronGradient call per unit."""
    method = NeuronGradient(model, layer)
    norms = []
    for u in range(units):

        def response(activation, u=u):
            return activation.clamp_min(0).movedim(axis, 1)[:, u].reshape(len(activation), -1).mean(1)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gradient = method.attribute(inputs, response)
        parts = gradient if isinstance(gradient, tuple) else (gradient,)
        norms.append(torch.cat([part.flatten(1) for part in parts], 1).norm(dim=1))
    return torch.stack(norms, 1)


@pytest.mark.parametrize(("name", "axis", "units"), [("relu", 1, 6), ("gelu", 2, 36), ("mix", 2, 8), ("out", 1, 5)])
@pytest.mark.parametrize("per_pass", [1, 4, 100])
def test_equals_captum_unit_by_unit(net, images, name, axis, units, per_pass):
    layer = net.get_submodule(name)
    found = InputUnitGradient(net, layer, units_per_pass=per_pass).attribute(images[:5])
    assert found.shape == (5, units)
    torch.testing.assert_close(found, by_captum(net, layer, images[:5].clone(), units, axis), rtol=1e-5, atol=1e-8)
    assert not found.requires_grad


def test_equals_differences(net, images):
    net.double()
    x = images[:1].double()
    found = InputUnitGradient(net, net.gelu).attribute(x)
    gradients = np.zeros((36, x.numel()))
    for i in range(x.numel()):
        step = torch.zeros_like(x).flatten()
        step[i] = 1e-5
        step = step.reshape(x.shape)
        up, down = (responses(stored(net, net.gelu, x + s)[0], 2)[0] for s in (step, -step))
        gradients[:, i] = (up - down) / 2e-5
    # rtol of kinks: a rectified token may change its sign within a step
    np.testing.assert_allclose(found[0], np.linalg.norm(gradients, axis=1), rtol=1e-3)


def test_a_list_a_module_that_runs_twice_and_its_input(net, images):
    one, (first, second) = InputUnitGradient(net, [net.relu, net.twice]).attribute(images[:3])
    torch.testing.assert_close(one, InputUnitGradient(net, net.relu).attribute(images[:3]))
    torch.testing.assert_close(second, by_captum(net, net.twice, images[:3].clone(), 6))  # Captum sees the last call
    assert not torch.allclose(first, second)
    given = InputUnitGradient(net, net.gelu).attribute(images[:3], attribute_to_layer_input=True)
    torch.testing.assert_close(given, InputUnitGradient(net, net.tokens).attribute(images[:3]))


def test_samples_that_depend_on_each_other_are_refused(net, images):
    net.train()
    before = net.bn.running_mean.clone()
    with pytest.raises(InputError, match=r"a BatchNorm2d normalizes over the batch.*call model.eval\(\) first$"):
        InputUnitGradient(net, net.relu).attribute(images)
    assert torch.equal(before, net.bn.running_mean)
    net.bn.eval()  # frozen, and so no longer of the batch: the rest may train
    found = InputUnitGradient(net, net.relu).attribute(images[:2])
    torch.testing.assert_close(found[:1], InputUnitGradient(net, net.relu).attribute(images[:1]))
    assert net.training
    assert not net.bn.training
    without = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU()).eval()
    with pytest.raises(InputError, match="give it running statistics"):
        InputUnitGradient(without, without[2]).attribute(images)


def test_several_inputs_count_as_one():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.act = nn.Linear(4, 6), nn.Linear(3, 6), nn.ReLU()
            self.out = nn.Linear(6, 2)

        def forward(self, a, b):
            return self.out(self.act(self.left(a) + self.right(b)))

    torch.manual_seed(0)
    model, a, b = Two().eval(), torch.rand(5, 4), torch.rand(5, 3)
    found = InputUnitGradient(model, [model.act, model.left]).attribute((a, b))
    on = model.left(a) + model.right(b) > 0
    norm = (model.left.weight.square().sum(1) + model.right.weight.square().sum(1)).sqrt()
    torch.testing.assert_close(found[0], on * norm)
    left = model.left.weight.norm(dim=1) * (model.left(a) > 0)  # does not depend on b
    torch.testing.assert_close(found[1], left)


def test_bad_input(net, images):
    with pytest.raises(InputError, match=r"inputs to take gradients of, got torch\.int64"):
        InputUnitGradient(net, net.relu).attribute((images * 255).long())
    with pytest.raises(InputError, match="at least 1 unit per pass, got 0"):
        InputUnitGradient(net, net.relu, units_per_pass=0)

    class Cut(nn.Sequential):
        def forward(self, x):
            return super().forward(x.detach())

    cut = Cut(nn.Flatten(), nn.Linear(192, 4), nn.ReLU())
    cut.requires_grad_(False)
    with pytest.raises(CaptureError, match="2 has no gradient with respect to the inputs"):
        InputUnitGradient(cut, cut[2]).attribute(images)
