"""Watches one forward pass to find which picked modules are layers, and on which axis their units are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from . import layers as rules
from .layers import Layer
from .state import frozen, on_this_thread


@dataclass
class _Call:
    """One call of a picked module while calibrating."""

    name: str
    index: int
    shape: tuple[int, ...]
    depends_on_image: bool
    sample_major: bool
    storage: int
    strides: tuple[int, ...]
    before: tuple[int, int] | None  # channel axis and channels of the last parametrised module that ran before
    after: tuple[int, int] | None = None  # channel axis and input rank of the next one to start


class Calibration:
    """Watches one forward pass: which picked modules run, what they return, which modules run before and after."""

    def __init__(self, picked: Mapping[str, nn.Module]) -> None:
        self.picked = picked
        self.images = torch.empty(0)
        self._names = {id(module): name for name, module in picked.items()}
        self._calls: list[_Call] = []
        self._pending: list[_Call] = []
        self._before: tuple[int, int] | None = None
        self._stack = ExitStack()
        self.layers: tuple[Layer, ...] = ()

    def __enter__(self) -> Calibration:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def watch(self, module: nn.Module) -> None:
        if rules.channel_axis(module) is not None:
            self._stack.callback(module.register_forward_pre_hook(self._starts).remove)
            self._stack.callback(module.register_forward_hook(self._ended).remove)
        if id(module) in self._names:
            self._stack.callback(module.register_forward_hook(self._fired).remove)

    def run(self, model: nn.Module, images: Tensor) -> Any:
        """Runs the model once with all of its modules watched, restores it, and returns its output.

        Args:
            model: not compiled.
            images: (N, C, H, W); a single image is doubled.
        """
        if len(images) == 1:
            images = images.repeat(2, 1, 1, 1)
        with self, frozen(model), torch.enable_grad():
            for module in model.modules():
                self.watch(module)
            # The input is not a leaf, so that in-place operations on it are allowed.
            self.images = images.detach().clone().requires_grad_()
            output = model(self.images * 1)
            self.finish(output)
        return output

    def watch_all(self, given: bool = False) -> None:
        """Watches every module that runs, in any model; with ``given``, layers are inputs of modules, not outputs."""
        before: list[Callable[..., None]] = [self._given, self._starts] if given else [self._starts]
        after: list[Callable[..., None]] = [self._ended] if given else [self._ended, self._put_out]
        for hook in before:
            self._stack.callback(register_module_forward_pre_hook(on_this_thread(hook)).remove)
        for hook in after:
            self._stack.callback(register_module_forward_hook(on_this_thread(hook)).remove)

    def _given(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if id(module) in self._names:
            self._fired(module, inputs, inputs[0] if inputs else None)

    def _put_out(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if id(module) in self._names:
            self._fired(module, inputs, output)

    def _starts(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        axis = rules.channel_axis(module)
        if axis is not None and inputs and isinstance(inputs[0], Tensor):
            for call in self._pending:
                call.after = (_axis_before_permuting(call, axis, inputs[0]), inputs[0].ndim)
            self._pending = []

    def _ended(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        axis = rules.channel_axis(module)
        if axis is not None and isinstance(output, Tensor) and output.ndim >= 2:
            self._before = (axis, output.shape[axis])

    def _fired(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        name = self._names[id(module)]
        if not isinstance(output, Tensor) or output.ndim < 2 or not output.is_floating_point():
            return  # it has no samples and units
        index = 1 + sum(call.name == name for call in self._calls)
        shape = tuple(output.shape)
        call = _Call(
            name,
            index,
            shape,
            output.requires_grad,
            self._is_sample_major(output),
            output.data_ptr(),
            output.stride(),
            self._before,
        )
        self._calls.append(call)
        self._pending.append(call)

    def _is_sample_major(self, output: Tensor) -> bool:
        """Whether the first axis has the samples in order, with k rows each, and no row depends on other samples."""
        batch = len(self.images)
        if len(output) == batch or not output.requires_grad:
            return True
        if len(output) % batch:
            return False
        first = output[: len(output) // batch].sum()
        (gradient,) = torch.autograd.grad(first, self.images, retain_graph=True, allow_unused=True)
        return gradient is not None and not gradient[1:].any()

    def finish(self, output: Any) -> None:
        """Makes layers from the watched calls; ``output`` is the output of the model."""
        calls = self._calls
        batch = len(self.images)
        if isinstance(output, Tensor):
            shape, storage = tuple(output.shape), output.data_ptr()
            calls = [call for call in calls if (call.shape, call.storage) != (shape, storage)]
            # Without gradients it is unknown which calls depend on the image: then all calls count.
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
            rows_per_sample=call.shape[0] // batch,
            rectified=not rules.is_non_negative(module),
        )


def _axis_before_permuting(call: _Call, axis: int, taken: Tensor) -> int:
    """The axis of a call's output that becomes ``axis`` of the next module's input, if the input is a view of it."""
    if taken.data_ptr() != call.storage or sorted(taken.shape) != sorted(call.shape):
        return axis
    wanted = (taken.shape[axis], taken.stride(axis))
    matches = [i for i, found in enumerate(zip(call.shape, call.strides, strict=True)) if found == wanted]
    return matches[0] if len(matches) == 1 else axis


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
