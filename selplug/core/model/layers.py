"""Layers: which modules are nonlinearities, and on which axis a module has its channels.

Classes of host libraries are recognized by their names, never imported. The rule was tested on all model families of
timm; docs/methods.md describes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

#: Every class in these modules is an activation, except those below.
_ACTIVATION_MODULES = ("torch.nn.modules.activation", "timm.layers.activations", "timm.layers.activations_me")
_NO_ACTIVATION = {"MultiheadAttention", "Softmax", "Softmax2d", "Softmin", "LogSoftmax"}
#: Activations that other libraries define.
_ACTIVATION_NAMES = {
    "GammaAct", "GELU", "HardSwish", "Hardswish", "LeakyReLU", "Mish", "PReLU", "QuickGELU", "ReLU", "ReLU6", "SiLU",
    "SquaredReLU", "StarReLU", "Swish",
}  # fmt: skip
#: Norms with a built-in nonlinearity.
_NORM_ACTIVATION_NAMES = ("EvoNorm2d", "FilterResponseNormTlu2d")
#: These scale a signal instead of carrying one.
_GATES = {"Sigmoid", "Hardsigmoid", "HardSigmoid", "HardSigmoidMe", "Tanh"}
_NON_NEGATIVE = {"ReLU", "ReLU6", "Sigmoid", "Hardsigmoid", "HardSigmoid", "HardSigmoidMe", "Softplus", "SquaredReLU"}


def kind(module: nn.Module) -> str:
    """The class name of a module, for reports."""
    return type(module).__name__


def is_activation(module: nn.Module) -> bool:
    """Whether a module is a nonlinearity, including gates."""
    name = kind(module)
    if name.startswith(_NORM_ACTIVATION_NAMES):
        return bool(getattr(module, "apply_act", True))
    if name in _NO_ACTIVATION:
        return False
    return type(module).__module__ in _ACTIVATION_MODULES or name in _ACTIVATION_NAMES


def is_gate(module: nn.Module) -> bool:
    """Whether an activation squashes into a factor (Sigmoid, Hardsigmoid, Tanh): no units by default."""
    return kind(module) in _GATES


def is_non_negative(module: nn.Module) -> bool:
    """Whether the output is never negative, so that rectifying it changes nothing."""
    return kind(module) in _NON_NEGATIVE


def outermost_activations(model: nn.Module) -> dict[str, nn.Module]:
    """Qualified name -> activation module, without activations inside another activation."""
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if is_activation(module) and not any(name.startswith(outer + ".") for outer in found):
            found[name] = module
    return found


def channel_axis(module: nn.Module) -> int | None:
    """1 for modules with channels on axis 1, -1 for modules with channels on the last axis, None for all others."""
    name = kind(module)
    owns_parameters = next(module.parameters(recurse=False), None) is not None
    if isinstance(module, (_ConvNd, _NormBase, nn.GroupNorm)) or (owns_parameters and "2d" in name):
        return 1
    if isinstance(module, (nn.Linear, nn.LayerNorm)) or (owns_parameters and name.startswith(("RMSNorm", "RmsNorm"))):
        return -1
    return None


@dataclass(frozen=True)
class Layer:
    """One call of one module: a layer whose units are recorded.

    ``name`` is the module's qualified name, with ``#k`` for the k-th call (from 1) of a module used more than once.
    ``axes`` are the axes of the units in the output. ``rows_per_sample`` is k if the first axis of the output has k
    successive rows per sample, such as windows of an image. ``rectified``: negative values are set to 0 before the
    mean over positions.
    """

    name: str
    module: str
    call: int
    kind: str
    units: int
    axes: tuple[int, ...]
    rows_per_sample: int
    rectified: bool

    def pool(self, output: Tensor) -> Tensor:
        """Mean over positions: the layer's output for N samples -> responses (N, U), float32 or wider."""
        if self.rectified:
            output = output.clamp_min(0)
        positions = [axis for axis in range(1, output.ndim) if axis not in self.axes]
        wide = torch.promote_types(output.dtype, torch.float32)
        if not positions:
            # A copy even without positions to average: an in-place operation may follow.
            pooled = output.to(wide, copy=True).flatten(1)
        else:
            # A sum instead of a mean: the backward pass of a mean writes a full map, that of a sum a view of (N, U).
            sums = output.sum(positions, dtype=wide).flatten(1)
            pooled = sums / (output.numel() // max(sums.numel(), 1))
        return pooled.reshape(-1, self.rows_per_sample, pooled.shape[1]).mean(1) if self.rows_per_sample > 1 else pooled

    def flat(self, output: Tensor) -> Tensor:
        """Every unit at every position: the layer's output for N samples -> responses (N, ...), float32 or wider."""
        if self.rectified:
            output = output.clamp_min(0)
        wide = output.to(torch.promote_types(output.dtype, torch.float32), copy=True)
        return wide.reshape(len(output) // self.rows_per_sample, -1)


def calls_by_module(layers: Iterable[Layer]) -> dict[str, dict[int, Layer]]:
    """Module name -> number of the call, from 1 -> layer."""
    found: dict[str, dict[int, Layer]] = {}
    for layer in layers:
        found.setdefault(layer.module, {})[layer.call] = layer
    return found
