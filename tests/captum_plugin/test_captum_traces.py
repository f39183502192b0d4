"""Every method takes a model as it finds it, in any mode, and leaves nothing on it."""

from __future__ import annotations

import threading

import pytest
import torch
from captum_nets import METHODS, make, method, trace
from torch import nn

LayerClassSelectivity = method("layer-class-selectivity")


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("training", [False, True])
def test_nothing_is_left_behind(net, images, loader, name, training):
    net.train(training)
    net.bn.eval()  # frozen, as for fine-tuning
    net.bn.weight.requires_grad_(False)
    net.conv.weight.grad = torch.ones_like(net.conv.weight)
    x = images.clone()
    before = trace(net)
    made = make(name, net, [net.relu, net.twice], loader)
    assert trace(net) == before
    if training:
        return  # dropout moves the generator, as in any forward pass of the user's own
    METHODS[name](made, x)
    assert trace(net) == before
    assert torch.equal(net.conv.weight.grad, torch.ones_like(net.conv.weight))
    assert not x.requires_grad
    assert torch.equal(x, images)


def test_fit_is_in_eval_mode_whatever_the_forward_function(net, images, loader):
    """Dropout would add noise to class means, and batch norm would keep the batches seen."""
    expected = LayerClassSelectivity(net, net.mix).fit(loader).class_means
    net.train()
    statistics = net.bn.running_mean.clone()
    for forward_func in (net, net.forward, lambda x: net(x).softmax(1)):
        found = LayerClassSelectivity(forward_func, net.mix).fit(loader).class_means
        torch.testing.assert_close(found, expected)
    assert torch.equal(net.bn.running_mean, statistics)
    assert all(module.training for module in net.modules())


@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_left_behind_by_a_failure(net, images, loader, name):
    net.train()
    net.bn.eval()
    made = make(name, net, [net.relu, net.gelu], loader)
    net.train(False)
    before = trace(net)

    def fail(*_):
        raise RuntimeError("on purpose")

    handle = net.mix.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        METHODS[name](made, images)
    with pytest.raises(RuntimeError, match="on purpose"):
        make("layer-class-selectivity", net.train(), net.relu, loader)
    handle.remove()
    assert net.training
    net.eval()
    assert trace(net) == before


@pytest.mark.parametrize("name", METHODS)
def test_no_grad_and_inference_make_no_difference(net, images, loader, name):
    made = make(name, net, net.gelu, loader)
    expected = METHODS[name](made, images)
    with torch.no_grad():
        torch.testing.assert_close(METHODS[name](made, images), expected)
        torch.testing.assert_close(METHODS[name](make(name, net, net.gelu, loader), images), expected)
    net.requires_grad_(False)
    torch.testing.assert_close(METHODS[name](make(name, net, net.gelu, loader), images), expected)


@pytest.mark.parametrize("name", ["class-selectivity", "input-unit-gradient"])
def test_a_model_that_changes_its_input_in_place(images, labels, name):
    class Shifted(nn.Sequential):
        def forward(self, x):
            return super().forward(x.sub_(0.5))

    torch.manual_seed(0)
    model = Shifted(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    plain = nn.Sequential(*model)
    shifted = [(images - 0.5, labels)]
    x = images.clone()
    ours = METHODS[name](make(name, model, model[1], [(images.clone(), labels)]), x)
    assert torch.equal(x, images)
    theirs = METHODS[name](make(name, plain, plain[1], shifted), images - 0.5)
    if name == "class-selectivity":  # gradient times input: the inputs differ, the gradients do not
        ours, theirs = ours / images, theirs / (images - 0.5)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_a_compiled_model_is_run_as_it_was(net, images, loader):
    """Hooks that come after a compiled model has run stay silent."""
    compiled = torch.compile(net, backend="eager")
    compiled(images)
    found = LayerClassSelectivity(compiled, compiled.relu).fit(loader)
    torch.testing.assert_close(
        found.attribute(images, 1), LayerClassSelectivity(net, net.relu).fit(loader).attribute(images, 1)
    )


def test_what_other_threads_run_is_let_alone(net, images, loader):
    """Hooks for all modules see those of other threads too: a model that trains there has to go on training."""
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).train()
    seen = []

    def meanwhile(*_):
        thread = threading.Thread(target=lambda: (other(images), seen.append(other[1].training)))
        thread.start()
        thread.join()

    # Between the layer and the module that tells its units.
    handle = net.gelu.register_forward_hook(meanwhile)
    for name, run in METHODS.items():
        run(make(name, net, net.gelu, loader), images)
    handle.remove()
    assert len(seen) >= 4
    assert all(seen)
    assert int(other[1].num_batches_tracked) == len(seen)
