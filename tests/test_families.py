"""The smallest model of every timm family: units found on the right axis, and one batch audited under FGSM."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import selplug
from selplug.core.measures.metrics import ClassSelectivity
from selplug.core.model import layers as rules
from selplug.core.model.capture import Capture, find_layers

pytest.importorskip("timm")

from families import build, each_family

#: Joined from heads and their dimensions, so that no single module has that many channels.
JOINED = ("kernel_func",)


def declared_channels(module: nn.Module) -> set[int]:
    """The channel counts that a module was built with, whichever side they are on."""
    names = ("in_channels", "out_channels", "in_features", "out_features", "num_features", "num_channels")
    counts = {value for name in names if isinstance(value := getattr(module, name, None), int)}
    shape = getattr(module, "normalized_shape", None)
    return counts | ({shape[-1]} if isinstance(shape, (tuple, list)) else set())


def neighbours(model: nn.Module, images: torch.Tensor) -> dict[str, list[set[int]]]:
    """Module -> per call, the channel counts of the parametrised modules that run next to it."""
    order: list[tuple[str, nn.Module, str]] = []
    handles = []
    for name, module in model.named_modules():
        if rules.channel_axis(module) is not None or rules.is_activation(module):
            handles.append(module.register_forward_pre_hook(lambda m, i, name=name: order.append((name, m, "start"))))
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    found: dict[str, list[set[int]]] = {}
    for position, (name, module, _) in enumerate(order):
        if rules.is_activation(module):
            before = [m for _, m, _ in order[:position] if declared_channels(m)][-1:]
            after = [m for _, m, _ in order[position + 1 :] if declared_channels(m)][:1]
            found.setdefault(name, []).append(set().union(*map(declared_channels, [*before, *after])))
    return found


@each_family()
def test_family(family: str, name: str, size: int) -> None:
    model = build(family, name, size).eval()
    images = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(0))

    layers = find_layers(model, images[:2])
    channels = neighbours(model, images[:2])
    for layer in layers:
        if not layer.module.endswith(JOINED):
            assert layer.units in channels[layer.module][layer.call - 1], layer

    # A sample's responses go with the sample: the batch axis is the batch.
    with torch.no_grad(), Capture(model, layers) as capture:
        model(images[:2])
    straight = capture.responses
    with torch.no_grad(), capture:
        model(images[:2].flip(0))
    for layer in layers:
        expected = straight[layer.name].flip(0)
        assert expected.shape == (2, layer.units)
        torch.testing.assert_close(
            capture.responses[layer.name], expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()) + 1e-12
        )

    report = selplug.audit(
        model,
        [(images, torch.arange(4))],
        ["fgsm:eps=8/255"],
        measures={"selectivity": ClassSelectivity},
        normalize=((0.5,) * 3, (0.5,) * 3),
        progress=False,
    )
    assert [condition.samples for condition in report.result.conditions] == [4, 4]
    assert report.result.conditions[1].linf_max <= 8 / 255 + 1e-6
    assert [layer.name for layer in report.result.layers] == [layer.name for layer in layers]
    for layer in report.result.layers:
        for values in layer.conditions.values():
            assert 0 <= values["selectivity"]["mean"] <= 1
