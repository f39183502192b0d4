"""The CIFAR ResNets of He et al. 2015 (arXiv 1512.03385, section 4.2) as timm models.

Three stages of 16, 32 and 64 channels with n blocks of two 3x3 convolutions each, so 6n + 2 layers. Shortcuts are the
paper's option A, without parameters: every second pixel, and zeros for the new channels. Importing this module
registers ``resnet20_cifar``, ``resnet32_cifar``, ``resnet44_cifar`` and ``resnet56_cifar``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers.classifier import create_classifier
from timm.models import build_model_with_cfg, checkpoint_seq, generate_default_cfgs, register_model
from torch import Tensor, nn

__all__ = ["CifarResNet", "rename_public_keys"]

WIDTHS = (16, 32, 64)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and an option A shortcut: (N, in_chs, H, W) -> (N, out_chs, H / stride, W / stride).

    ``act1`` and ``act2`` are separate modules, so that each nonlinearity is recorded under its own name.
    """

    def __init__(self, in_chs: int, out_chs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.new_chs = out_chs - in_chs
        self.conv1 = nn.Conv2d(in_chs, out_chs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_chs)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_chs, out_chs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_chs)
        self.act2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.act1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.act2(out + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.stride != 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.new_chs:
            # half of the zeros on each side, as in the public weights
            before = self.new_chs // 2
            x = F.pad(x, (0, 0, 0, 0, before, self.new_chs - before))
        return x


class CifarResNet(nn.Module):
    """A ResNet for 32 x 32 images: (N, in_chans, H, W) -> logits (N, num_classes), with timm's model interface."""

    def __init__(
        self,
        blocks: int = 3,
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.grad_checkpointing = False
        self.num_features = self.head_hidden_size = WIDTHS[-1]
        self.conv1 = nn.Conv2d(in_chans, WIDTHS[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.act1 = nn.ReLU()
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], blocks, 1)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], blocks, 2)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], blocks, 2)
        self.feature_info = [
            {"num_chs": width, "reduction": 2**i, "module": f"layer{i + 1}"} for i, width in enumerate(WIDTHS)
        ]
        self.global_pool, self.fc = create_classifier(self.num_features, num_classes, pool_type=global_pool)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def get_classifier(self) -> nn.Module:
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Sets a new random classifier; with 0 classes the model returns the pooled features (N, 64)."""
        self.num_classes = num_classes
        pool_type = self.global_pool.pool_type if global_pool is None else global_pool
        self.global_pool, self.fc = create_classifier(self.num_features, num_classes, pool_type=pool_type)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether blocks run again in the backward pass instead of storing their activations."""
        self.grad_checkpointing = enable

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> (N, 64, H / 4, W / 4)."""
        x = self.act1(self.bn1(self.conv1(x)))
        if self.grad_checkpointing and not torch.jit.is_scripting():  # type: ignore[attr-defined]
            return checkpoint_seq((self.layer1, self.layer2, self.layer3), x, flatten=True)
        return self.layer3(self.layer2(self.layer1(x)))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(N, 64, h, w) -> logits, or with ``pre_logits`` the pooled features (N, 64)."""
        x = self.global_pool(x)
        if self.drop_rate:
            x = F.dropout(x, p=self.drop_rate, training=self.training)
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def rename_public_keys(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Renames the classifier of the public CIFAR ResNet weights (``linear``) to ours (``fc``)."""
    return {
        "fc." + key.removeprefix("linear.") if key.startswith("linear.") else key: tensor
        for key, tensor in state_dict.items()
    }


def _stage(in_chs: int, out_chs: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_chs, out_chs, stride)
    return nn.Sequential(first, *(BasicBlock(out_chs, out_chs, 1) for _ in range(blocks - 1)))


def _cfg() -> dict[str, Any]:
    return {
        "num_classes": 10,
        "input_size": (3, 32, 32),
        "pool_size": (8, 8),
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "conv1",
        "classifier": "fc",
    }


default_cfgs = generate_default_cfgs(
    {f"{name}.untrained": _cfg() for name in ("resnet20_cifar", "resnet32_cifar", "resnet44_cifar", "resnet56_cifar")}
)


def _create(name: str, blocks: int, pretrained: bool, **kwargs: Any) -> nn.Module:
    return build_model_with_cfg(
        CifarResNet, name, pretrained, blocks=blocks, feature_cfg={"out_indices": (0, 1, 2)}, **kwargs
    )


@register_model
def resnet20_cifar(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """20 layers, 0.27 M parameters."""
    return _create("resnet20_cifar", 3, pretrained, **kwargs)


@register_model
def resnet32_cifar(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """32 layers, 0.46 M parameters."""
    return _create("resnet32_cifar", 5, pretrained, **kwargs)


@register_model
def resnet44_cifar(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """44 layers, 0.66 M parameters."""
    return _create("resnet44_cifar", 7, pretrained, **kwargs)


@register_model
def resnet56_cifar(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """56 layers, 0.85 M parameters."""
    return _create("resnet56_cifar", 9, pretrained, **kwargs)
