"""Records the units of a model: which layers, which axis is the unit axis, hooks that live only inside ``with``."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from . import layers as rules
from .errors import CaptureError
from .state import frozen


@dataclass(frozen=True)
class Layer:
    """One call of one module: a layer whose units are recorded.

    ``name`` is the module's qualified name, with ``#k`` for the k-th call (from 1) of a module used more than once.
    ``axes`` are the axes of the output that hold the units, ``groups`` is k where the output's first axis is
    k * batch (sample-major), ``rectified`` says that negative values are set to 0 before the mean over positions.
    """

    name: str
    module: str
    call: int
    kind: str
    units: int
    axes: tuple[int, ...]
    groups: int
    rectified: bool

    def pool(self, output: Tensor) -> Tensor:
        """Mean over positions: the layer's output for N samples -> responses (N, U), float32 or wider."""
        if self.rectified:
            output = output.clamp_min(0)
        positions = [axis for axis in range(1, output.ndim) if axis not in self.axes]
        wide = torch.promote_types(output.dtype, torch.float32)
        # A copy even where there is nothing to average: an in-place operation may follow.
        pooled = output.mean(positions, dtype=wide) if positions else output.to(wide, copy=True)
        pooled = pooled.flatten(1)
        return pooled.reshape(-1, self.groups, pooled.shape[1]).mean(1) if self.groups > 1 else pooled


class Capture:
    """Records responses while the model runs inside ``with``.

    >>> layers = find_layers(model, images[:2])
    >>> with Capture(model, layers) as capture:
    ...     logits = model(images)
    >>> capture.responses["layer1.0.act1"]  # (N, U)

    Pooling happens inside the hook, no full map is kept. The hooks are gone after the block, whatever is raised. Of
    several forward passes inside one block the last one counts. Gradients flow where the caller has them enabled.
    """

    def __init__(self, model: nn.Module, layers: Sequence[Layer]) -> None:
        self.model = uncompiled(model)
        self.layers = tuple(layers)
        self._by_module: dict[str, dict[int, Layer]] = {}
        for layer in layers:
            self._by_module.setdefault(layer.module, {})[layer.call] = layer
        self._modules = dict(self.model.named_modules())
        self._calls: dict[str, int] = {}
        self._responses: dict[str, Tensor] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Capture:
        self._responses = {}
        with ExitStack() as stack:
            stack.callback(self.model.register_forward_pre_hook(self._restart).remove)
            for name in self._by_module:
                handle = self._modules[name].register_forward_hook(self._hook(name))
                stack.callback(handle.remove)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def responses(self) -> dict[str, Tensor]:
        """Layer name -> responses (N, U) of the last forward pass.

        Raises:
            CaptureError: a layer did not fire, as happens where the model was compiled before the hooks were set.
        """
        silent = [layer.name for layer in self.layers if layer.name not in self._responses]
        if silent:
            raise CaptureError(
                f"{len(silent)} of {len(self.layers)} layers did not fire, the first is {silent[0]}; hooks on a model "
                "that was compiled and run before stay silent: give the model before torch.compile"
            )
        return {layer.name: self._responses[layer.name] for layer in self.layers}

    def _restart(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._calls = dict.fromkeys(self._by_module, 0)
        self._responses = {}

    def _hook(self, name: str) -> Any:
        calls = self._by_module[name]

        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            self._calls[name] = call = self._calls.get(name, 0) + 1
            layer = calls.get(call)
            if layer is not None:
                self._responses[layer.name] = layer.pool(output)

        return hook


def uncompiled(model: nn.Module) -> nn.Module:
    """The module behind ``torch.compile``'s wrapper: hooks set after compilation never fire, silently."""
    inner = getattr(model, "_orig_mod", model)
    return inner if isinstance(inner, nn.Module) else model


def find_layers(model: nn.Module, images: Tensor, patterns: Sequence[str] | None = None) -> tuple[Layer, ...]:
    """The layers of a model, found by one forward pass in eval mode on a few images.

    Without patterns: every outermost activation whose output depends on the image, gates and the model's own output
    left out. The unit axis is the one that the *next* parametrised module to start takes as channels, where the ranks
    agree; elsewhere the one that matches the channels of the module before.

    Args:
        model: any module on one image tensor; left as it was, on success and on any exception.
        images: (N, C, H, W) as the model takes them; two are enough, one is doubled.
        patterns: globs over module or layer names (``*`` also crosses dots). Each picks the activations among the
            modules that it matches or, if there are none, those modules themselves.

    Raises:
        CaptureError: nothing to record, a pattern that matches nothing, or a picked module whose output is no tensor of
            at least rank 2.
    """
    model = uncompiled(model)
    named = dict(model.named_modules())
    activations = rules.outermost_activations(model)
    if patterns is None:
        wanted: dict[str, set[str]] = {name: set() for name in _default(activations, named)}
    else:
        wanted = _matching(activations, named, patterns)
    if len(images) == 1:
        images = images.repeat(2, 1, 1, 1)
    with _Calibration({name: named[name] for name in wanted}) as calibration, frozen(model), torch.enable_grad():
        for module in named.values():
            calibration.watch(module)
        # The input is no leaf, so that an in-place operation on it is allowed.
        leaf = images.detach().clone().requires_grad_()
        calibration.images = leaf
        output = model(leaf * 1)
        calibration.finish(output)
    layers = calibration.layers
    if patterns is None and not layers:
        raise CaptureError(
            f"none of the {len(wanted)} activation modules ran on an image and gave a tensor (N, ...) of units; name "
            f"other modules with --layers (layers=), globs over module names such as {_some(named)}"
        )
    if patterns is not None:
        layers = tuple(layer for layer in layers if any(_fits(p, layer) for p in wanted[layer.module]))
        for pattern in patterns:
            if not any(_fits(pattern, layer) for layer in layers if pattern in wanted[layer.module]):
                raise CaptureError(
                    f"--layers {pattern!r} gives no layer: expected modules that run on the image and return a tensor "
                    f"(N, ...), got {', '.join(name for name in wanted if pattern in wanted[name])}"
                )
    return layers


def _default(activations: Mapping[str, nn.Module], named: Mapping[str, nn.Module]) -> list[str]:
    units = [name for name, module in activations.items() if not rules.is_gate(module)]
    if not units:
        what = "only gates (Sigmoid, Tanh) as activation modules" if activations else "no activation module"
        raise CaptureError(
            f"the model has {what}, so there are no units by default (functional calls such as F.relu cannot be "
            f"recorded); pick modules with --layers (layers=), globs over module names such as {_some(named)}"
        )
    return units


def _matching(
    activations: Mapping[str, nn.Module], named: Mapping[str, nn.Module], patterns: Sequence[str]
) -> dict[str, set[str]]:
    """Module name -> the patterns that picked it, in the order of the model."""
    picked: dict[str, set[str]] = {}
    for pattern in patterns:
        module_pattern = pattern.partition("#")[0]
        matches = [name for name in named if name and fnmatch.fnmatchcase(name, module_pattern)]
        if not matches:
            raise CaptureError(f"--layers {pattern!r} matches no module; there are {_some(named, 40)}")
        units = [name for name in matches if name in activations and not rules.is_gate(named[name])]
        units = units or [name for name in matches if name in activations] or matches
        for name in units:
            picked.setdefault(name, set()).add(pattern)
    return {name: picked[name] for name in named if name in picked}


def _fits(pattern: str, layer: Layer) -> bool:
    """Whether a pattern that picked the layer's module also fits its call number."""
    return "#" not in pattern or fnmatch.fnmatchcase(layer.name, pattern)


def _some(named: Mapping[str, nn.Module], count: int = 12) -> str:
    names = [name for name in named if name]
    return ", ".join(names[:count]) + (f", ... ({len(names)} in all)" if len(names) > count else "")


@dataclass
class _Call:
    """One call of a picked module while calibrating."""

    name: str
    index: int
    shape: tuple[int, ...]
    depends_on_image: bool
    sample_major: bool
    storage: int
    before: tuple[int, int] | None  # channel axis and channels of the last parametrised module that ran before
    after: tuple[int, int] | None = None  # channel axis and input rank of the next one to start


class _Calibration:
    """Watches one forward pass: which picked modules run, what they give, which modules come before and after."""

    def __init__(self, picked: Mapping[str, nn.Module]) -> None:
        self.picked = picked
        self.images = torch.empty(0)
        self._names = {id(module): name for name, module in picked.items()}
        self._calls: list[_Call] = []
        self._pending: list[_Call] = []
        self._before: tuple[int, int] | None = None
        self._stack = ExitStack()
        self.layers: tuple[Layer, ...] = ()

    def __enter__(self) -> _Calibration:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def watch(self, module: nn.Module) -> None:
        if rules.channel_axis(module) is not None:
            self._stack.callback(module.register_forward_pre_hook(self._starts).remove)
            self._stack.callback(module.register_forward_hook(self._ended).remove)
        if id(module) in self._names:
            self._stack.callback(module.register_forward_hook(self._fired).remove)

    def _starts(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        axis = rules.channel_axis(module)
        if axis is not None and inputs and isinstance(inputs[0], Tensor):
            for call in self._pending:
                call.after = (axis, inputs[0].ndim)
            self._pending = []

    def _ended(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        axis = rules.channel_axis(module)
        if axis is not None and isinstance(output, Tensor) and output.ndim >= 2:
            self._before = (axis, output.shape[axis])

    def _fired(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        name = self._names[id(module)]
        if not isinstance(output, Tensor) or output.ndim < 2 or not output.is_floating_point():
            return  # nothing that has samples and units
        index = 1 + sum(call.name == name for call in self._calls)
        shape = tuple(output.shape)
        call = _Call(
            name, index, shape, output.requires_grad, self._is_sample_major(output), output.data_ptr(), self._before
        )
        self._calls.append(call)
        self._pending.append(call)

    def _is_sample_major(self, output: Tensor) -> bool:
        """Whether the first axis is the samples, or k rows of each in turn and nothing of the others."""
        batch = len(self.images)
        if len(output) == batch or not output.requires_grad:
            return True
        if len(output) % batch:
            return False
        (gradient,) = torch.autograd.grad(output[: len(output) // batch].sum(), self.images, retain_graph=True)
        return not gradient[1:].any()

    def finish(self, output: Any) -> None:
        """Turns what was seen into layers. ``output`` is the model's."""
        calls = self._calls
        batch = len(self.images)
        if isinstance(output, Tensor):
            shape, storage = tuple(output.shape), output.data_ptr()
            calls = [call for call in calls if (call.shape, call.storage) != (shape, storage)]
            # A model that runs without gradients cannot show what depends on the image: then all calls count.
            if output.requires_grad:
                calls = [call for call in calls if call.depends_on_image]
        calls = [call for call in calls if call.sample_major and call.shape[0] % batch == 0]
        runs = {call.name: sum(other.name == call.name for other in self._calls) for call in calls}
        self.layers = tuple(self._layer(call, runs[call.name], batch) for call in calls)

    def _layer(self, call: _Call, runs: int, batch: int) -> Layer:
        module = self.picked[call.name]
        axes = _joined_axes(call) or (_unit_axis(call, rules.channel_axis(module)),)
        return Layer(
            name=call.name if runs == 1 else f"{call.name}#{call.index}",
            module=call.name,
            call=call.index,
            kind=rules.kind(module),
            units=math.prod(call.shape[axis] for axis in axes),
            axes=axes,
            groups=call.shape[0] // batch,
            rectified=not rules.is_non_negative(module),
        )


def _unit_axis(call: _Call, own: int | None) -> int:
    rank = len(call.shape)
    if own is not None:  # a convolution or a linear layer, picked by name, knows its own axis
        return own % rank
    if rank == 2:
        return 1
    if call.after is not None and call.after[1] == rank:
        return call.after[0] % rank
    if call.before is not None:
        axis, channels = call.before
        matches = [candidate for candidate in range(1, rank) if call.shape[candidate] == channels]
        if len(matches) == 1:
            return matches[0]
        return axis % rank
    return 1 if rank >= 4 else rank - 1


def _joined_axes(call: _Call) -> tuple[int, ...] | None:
    """EfficientViT's linear attention spreads its channels over heads (axis 1) and their dimensions (axis 3)."""
    return (1, 3) if call.name.endswith(".kernel_func") and len(call.shape) == 4 else None
