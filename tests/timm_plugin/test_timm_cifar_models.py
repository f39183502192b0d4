"""The CIFAR ResNets against their parameter counts and a plain rewrite of the forward pass."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from selplug_timm.models.cifar import CifarResNet, rename_public_keys
from torch import Tensor, nn


def conv_and_norm(in_chs: int, out_chs: int) -> int:
    return 9 * in_chs * out_chs + 2 * out_chs


def parameters_by_hand(blocks: int, num_classes: int = 10) -> int:
    """First convolution, two per block, the classifier; option A shortcuts add none."""
    total, chs = conv_and_norm(3, 16), 16
    for width in (16, 32, 64):
        for _ in range(blocks):
            total += conv_and_norm(chs, width) + conv_and_norm(width, width)
            chs = width
    return total + 64 * num_classes + num_classes


@pytest.mark.parametrize(("depth", "parameters"), [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018)])
def test_parameters_and_shapes(depth: int, parameters: int) -> None:
    model = timm.create_model(f"resnet{depth}_cifar").eval()
    assert sum(p.numel() for p in model.parameters()) == parameters == parameters_by_hand((depth - 2) // 6)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in model.modules()) == depth
    assert sum(isinstance(m, nn.ReLU) for m in model.modules()) == depth - 1, "one module per nonlinearity"


def by_functions(state: dict[str, Tensor], x: Tensor, blocks: int) -> Tensor:
    def conv_bn(x: Tensor, name: str, number: int, stride: int = 1) -> Tensor:
        x = F.conv2d(x, state[f"{name}conv{number}.weight"], stride=stride, padding=1)
        keys = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(state[f"{name}bn{number}.{key}"] for key in keys))

    x = conv_bn(x, "", 1).relu()
    for stage in (1, 2, 3):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            name = f"layer{stage}.{block}."
            out = conv_bn(conv_bn(x, name, 1, stride).relu(), name, 2)
            if stride == 2:
                zeros = torch.zeros_like(x[:, : x.shape[1] // 2, ::2, ::2])
                x = torch.cat([zeros, x[:, :, ::2, ::2], zeros], dim=1)
            x = (out + x).relu()
    return x.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]


def test_forward_against_functions() -> None:
    torch.manual_seed(0)
    model = timm.create_model("resnet32_cifar").eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    x = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(x), by_functions(model.state_dict(), x, 5), rtol=1e-4, atol=1e-4)


def test_timm_interface() -> None:
    model = timm.create_model("resnet20_cifar", num_classes=7, in_chans=1, drop_rate=0.5, global_pool="max")
    x = torch.rand(2, 1, 32, 32)
    assert isinstance(model, CifarResNet)
    assert model(x).shape == (2, 7)
    assert model.get_classifier() is model.fc
    features = model.forward_features(x)
    assert features.shape == (2, 64, 8, 8)
    assert model.forward_head(features, pre_logits=True).shape == (2, 64)
    model.reset_classifier(0)
    assert model(x).shape == (2, 64)
    model.reset_classifier(5, "avg")
    assert (model.num_classes, model.global_pool.pool_type) == (5, "avg")
    assert model.pretrained_cfg["input_size"] == (3, 32, 32)
    pyramid = timm.create_model("resnet20_cifar", features_only=True)
    assert [tuple(f.shape[1:]) for f in pyramid(torch.rand(1, 3, 32, 32))] == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


def test_public_names() -> None:
    tensor = torch.zeros(1)
    assert list(rename_public_keys({"linear.weight": tensor, "layer1.0.conv1.weight": tensor})) == [
        "fc.weight",
        "layer1.0.conv1.weight",
    ]
