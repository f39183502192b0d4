"""Which units are recorded, on which axis, and that nothing of it stays on the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from selplug.core.errors import CaptureError
from selplug.core.model.capture import Capture, find_layers


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def record(model: nn.Module, images: Tensor, patterns: list[str] | None = None) -> dict[str, Tensor]:
    layers = find_layers(model, images, patterns)
    with torch.no_grad(), Capture(model, layers) as capture:
        model(images)
    return capture.responses


class Net(nn.Module):
    """Maps, tokens, a module used twice, in-place, a gate, a GELU and a position table."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(8, 8, 3)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.tokens = nn.Linear(8, 12)
        self.gelu = nn.GELU()
        self.out = nn.Linear(12, 5)
        self.table = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 12))
        self.register_buffer("positions", torch.rand(16, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn(self.conv(x)))
        x = self.relu(self.conv2(x))
        x = x * self.gate(x)
        x = x.flatten(2).transpose(1, 2)
        x = self.gelu(self.tokens(x))
        x = x + self.table(self.positions)[: x.shape[1]]
        return self.out(x.mean(1))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def test_names_units_and_axes(net):
    layers = {layer.name: layer for layer in find_layers(net, torch.rand(3, 3, 8, 8))}
    assert list(layers) == ["relu#1", "relu#2", "gelu"]  # no gate, no table that ignores the image
    assert [layer.units for layer in layers.values()] == [8, 8, 12]
    assert [layer.axes for layer in layers.values()] == [(1,), (1,), (2,)]
    assert [layer.rectified for layer in layers.values()] == [False, False, True]


def test_responses_are_means_over_positions(net):
    images = torch.rand(4, 3, 8, 8)
    found = record(net, images)
    with torch.no_grad():
        first = F.relu(net.bn(net.conv(images)))
        second = F.relu(net.conv2(first))
        tokens = F.gelu(net.tokens((second * net.gate(second)).flatten(2).transpose(1, 2)))
    for name, maps, axis in (("relu#1", first, (2, 3)), ("relu#2", second, (2, 3)), ("gelu", tokens.clamp_min(0), 1)):
        np.testing.assert_allclose(found[name], maps.numpy().mean(axis), rtol=1e-5, atol=1e-6)


def test_channels_last_maps_are_told_from_maps_of_the_same_shape():
    """8 channels on 8 x 8 positions: sizes say nothing, only the consumer does."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.act, self.fc = nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Linear(8, 8)
            self.act2, self.head = nn.ReLU(), nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.act(self.stem(x).permute(0, 2, 3, 1))
            x = self.fc(x).permute(0, 3, 1, 2)
            return self.head(self.act2(x)).mean((2, 3))

    assert [layer.axes for layer in find_layers(Last(), torch.rand(2, 3, 8, 8))] == [(3,), (1,)]


def test_groups_of_a_sample_are_folded_and_mixed_batches_left_out():
    class Windows(nn.Module):
        def __init__(self, sample_major: bool) -> None:
            super().__init__()
            self.sample_major = sample_major
            self.fc, self.act, self.fc2, self.plain = nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            x = x.reshape(len(x), 4, -1, 12)
            x = x.flatten(0, 1) if self.sample_major else x.transpose(0, 1).flatten(0, 1)
            x = self.act(self.fc(x))
            x = self.fc2(x).mean(1)
            x = x.unflatten(0, (-1, 4)).mean(1) if self.sample_major else x.unflatten(0, (4, -1)).mean(0)
            return self.plain(x) + 1

    images = torch.rand(2, 3, 8, 8)
    model = Windows(True)
    found = record(model, images)
    assert list(found) == ["act", "plain"]
    expected = F.relu(model.fc(images.reshape(2, -1, 12))).mean(1)
    torch.testing.assert_close(found["act"], expected.detach())
    assert list(record(Windows(False), images)) == ["plain"]


def test_a_silent_layer_is_still_a_layer():
    """Dependence on the image is a matter of the graph, not of values."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    nn.init.constant_(model[0].bias, -100)
    assert list(record(model, torch.rand(2, 3, 4, 4))) == ["1"]


def test_the_output_layer_is_no_layer():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU())
    assert list(record(model, torch.rand(2, 3, 4, 4))) == ["2"]


def test_in_place_change_after_the_layer_does_not_reach_the_responses():
    class Changed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.act = nn.Linear(48, 4), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.fc(x.flatten(1))).add_(5) * 2

    model = Changed()
    images = torch.rand(2, 3, 4, 4)
    expected = F.relu(model.fc(images.flatten(1))).detach()
    torch.testing.assert_close(record(model, images)["act"], expected)


def test_half_precision_maps_are_averaged_in_float32():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 2)).bfloat16()
    found = record(model, torch.rand(2, 3, 8, 8).bfloat16())
    assert found["1"].dtype == torch.float32


def test_gradients_flow_through_the_responses(net):
    images = torch.rand(2, 3, 8, 8)
    with Capture(net, find_layers(net, images)) as capture:
        net(images)
    capture.responses["relu#1"].sum().backward()
    assert net.conv.weight.grad.abs().sum() > 0


def test_nothing_is_recorded_outside_and_no_hook_stays(net):
    images = torch.rand(2, 3, 8, 8)
    net.train()
    net.bn.eval()  # frozen on purpose
    modes = [module.training for module in net.modules()]
    net.conv.weight.requires_grad_(False)
    layers = find_layers(net, images)
    assert hooks(net) == 0
    assert [module.training for module in net.modules()] == modes
    assert not net.conv.weight.requires_grad
    assert net.conv2.weight.requires_grad
    with Capture(net, layers) as capture:
        net(images)
        assert hooks(net) > 0
    before = capture.responses
    net(images * 0)
    assert hooks(net) == 0
    assert all(torch.equal(before[name], capture.responses[name]) for name in before)


def test_hooks_go_whatever_is_raised(net):
    images = torch.rand(2, 3, 8, 8)
    layers = find_layers(net, images)

    def broken() -> None:
        with Capture(net, layers):
            net(images)
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        broken()
    assert hooks(net) == 0
    with pytest.raises(RuntimeError):  # a wrong number of channels, in the middle of the calibration
        find_layers(net, torch.rand(2, 4, 8, 8))
    assert hooks(net) == 0
    assert not net.training


def test_the_last_forward_pass_counts(net):
    images = torch.rand(2, 3, 8, 8)
    layers = find_layers(net, images)
    with torch.no_grad(), Capture(net, layers) as capture:
        net(images * 0)
        net(images)
    for name, responses in record(net, images).items():
        torch.testing.assert_close(capture.responses[name], responses)


def test_patterns_pick_activations_or_any_module(net):
    images = torch.rand(2, 3, 8, 8)
    assert list(record(net, images, ["relu"])) == ["relu#1", "relu#2"]
    assert list(record(net, images, ["relu#2"])) == ["relu#2"]
    assert list(record(net, images, ["conv*"])) == ["conv", "conv2"]
    assert list(record(net, images, ["gate*"])) == ["gate.2"]
    assert list(record(net, images, ["tokens", "gelu"])) == ["tokens", "gelu"]
    assert record(net, images, ["tokens"])["tokens"].shape == (2, 12)
    assert (record(net, images, ["conv"])["conv"] >= 0).all()  # rectified


def test_what_cannot_be_recorded_is_named(net):
    images = torch.rand(2, 3, 8, 8)
    with pytest.raises(CaptureError, match=r"--layers 'nope\*' matches no module; there are conv, bn"):
        find_layers(net, images, ["nope*"])

    with pytest.raises(CaptureError, match=r"--layers 'table\*' selects no layer: .* got table.1"):
        find_layers(net, images, ["gelu", "table*"])
    with pytest.raises(CaptureError, match=r"--layers 'relu#3' selects no layer"):
        find_layers(net, images, ["relu#3"])

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(12, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(F.relu(x).flatten(1))

    with pytest.raises(CaptureError, match=r"no activation module.*F\.relu.*--layers.*fc"):
        find_layers(Functional(), torch.rand(2, 3, 2, 2))
    gated = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Tanh(), nn.Linear(4, 2))
    with pytest.raises(CaptureError, match=r"only gates.*--layers"):
        find_layers(gated, torch.rand(2, 3, 2, 2))
    assert list(record(gated, torch.rand(2, 3, 2, 2), ["2"])) == ["2"]


def test_a_compiled_model_is_recorded_through_the_module_behind_it(net):
    images = torch.rand(2, 3, 8, 8)
    compiled = torch.compile(net, backend="eager")
    compiled(images)  # hooks set from here on would never fire in the compiled call
    layers = find_layers(compiled, images)
    capture = Capture(compiled, layers)
    with torch.no_grad(), capture:
        capture.model(images)
    assert len(capture.responses) == 3


def test_layers_that_do_not_fire_are_an_error(net):
    layers = find_layers(net, torch.rand(2, 3, 8, 8))
    with Capture(net, layers) as capture:
        pass
    with pytest.raises(CaptureError, match=r"3 of 3 layers were not recorded.*torch\.compile"):
        _ = capture.responses
