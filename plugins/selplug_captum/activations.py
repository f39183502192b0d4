"""One forward pass, and what the layers put out in it: every call, samples in order, units on a known axis."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from captum._utils.common import _format_additional_forward_args, _reduce_list, _run_forward, _sort_key_list
from torch import Tensor, nn

from selplug.core.errors import CaptureError, InputError
from selplug.core.model.calibration import Calibration
from selplug.core.model.capture import uncompiled
from selplug.core.model.layers import Layer

from .modes import evaluating

Inputs = Tensor | tuple[Any, ...]


@dataclass(frozen=True)
class Activation:
    """What one call of a layer put out (or was given) for N samples, as the model has it."""

    layer: Layer
    tensor: Tensor

    @property
    def samples(self) -> int:
        return len(self.tensor) // self.layer.groups

    def responses(self) -> Tensor:
        """Mean over positions, rectified where values can be negative: (N, U), float32 or wider."""
        return self.layer.pool(self.tensor)

    def exact_responses(self) -> Tensor:
        """The same in float64: where samples differ little from their mean, float32 has lost the difference."""
        return self.layer.pool(self.tensor.double())

    def rows(self) -> Tensor:
        """The values with the units last: (N, P, U), P positions."""
        return self.tensor.permute(self._order).reshape(self.samples, -1, self.layer.units)

    def like(self, rows: Tensor) -> Tensor:
        """The way back: values (N, P, U) in the shape that the layer has."""
        shape = [self.tensor.shape[axis] for axis in self._order]
        back = sorted(range(self.tensor.ndim), key=self._order.__getitem__)
        return rows.reshape(shape).permute(back).contiguous()

    @property
    def _order(self) -> list[int]:
        positions = [axis for axis in range(1, self.tensor.ndim) if axis not in self.layer.axes]
        return [0, *positions, *self.layer.axes]


class Activations:
    """Runs a forward function and returns the activations of some layers, one tuple of calls per layer.

    The unit axis is found as everywhere in selplug, from the modules before and after the layer
    (:class:`~selplug.core.model.calibration.Calibration`), by one pass of at most two samples in eval mode before the
    first one. Hooks are there only while the forward function runs.

    Args:
        forward_func: any callable; a model after ``torch.compile`` is run as it was before, since hooks that come later
            stay silent in it.
        layers: its modules.
        device_ids: order of the devices of a DataParallel model, needed only if ``forward_func`` is not that model.
    """

    def __init__(
        self, forward_func: Callable[..., Any], layers: Sequence[nn.Module], device_ids: list[int] | None
    ) -> None:
        self.forward_func = uncompiled(forward_func) if isinstance(forward_func, nn.Module) else forward_func
        self.layers, self.device_ids = tuple(layers), device_ids
        known = self.forward_func.named_modules() if isinstance(self.forward_func, nn.Module) else ()
        names = {id(module): name for name, module in known if name}
        for number, module in enumerate(self.layers):
            if not isinstance(module, nn.Module):
                raise InputError(f"expected a module of the model or a list of them as layer, got {module!r}")
            names.setdefault(id(module), f"{type(module).__name__} (layer {number})")
        self.names = [names[id(module)] for module in self.layers]
        self._known: dict[bool, list[list[Layer]]] = {}

    def __call__(
        self, inputs: Inputs, arguments: Any = None, given: bool = False
    ) -> tuple[Any, list[list[Activation]]]:
        """The output, and the activations per layer and call.

        Args:
            inputs: a tensor (N, ...) or a tuple of them.
            arguments: Captum's ``additional_forward_args``.
            given: what the layers are given instead of what they put out.

        Raises:
            CaptureError: a layer did not run, or not as often as before, or not on tensors (N, ...) of units.
        """
        arguments = _format_additional_forward_args(arguments)
        if given not in self._known:
            self._known[given] = self._calibrate(inputs, arguments, given)
        output, tensors = self._run(self.forward_func, inputs, arguments, given)
        count = len(inputs[0] if isinstance(inputs, tuple) else inputs)
        found = []
        for name, calls, layers in zip(self.names, tensors, self._known[given], strict=True):
            if len(calls) != len(layers):
                raise CaptureError(f"{name} ran {len(calls)} times, but {len(layers)} times when it was first seen")
            found.append([_activation(*call, count) for call in zip(layers, calls, strict=True)])
        return output, found

    def device(self) -> torch.device | None:
        """Where the model's inputs go, None if it has no parameter to tell."""
        models = (self.forward_func, *self.layers)
        parameters = (p for model in models if isinstance(model, nn.Module) for p in model.parameters())
        return next((parameter.device for parameter in parameters), None)

    def _run(
        self, forward_func: Callable[..., Any], inputs: Inputs, arguments: Any, given: bool
    ) -> tuple[Any, list[list[Tensor]]]:
        saved: list[dict[torch.device, list[Tensor]]] = [{} for _ in self.layers]
        lock = threading.Lock()  # the replicas of DataParallel run in threads

        def hook(number: int) -> Callable[..., None]:
            def save(module: nn.Module, values: Any, output: Any = None) -> None:
                value = values if given else output
                if isinstance(value, (tuple, list)) and len(value) == 1:
                    value = value[0]
                if not isinstance(value, Tensor):
                    what = "given" if given else "returns"
                    raise CaptureError(f"expected a layer of one tensor, {self.names[number]} {what} {_words(value)}")
                with lock:
                    # A copy: an in-place operation may follow.
                    saved[number].setdefault(value.device, []).append(value.clone())

            return save

        with ExitStack() as stack:
            for number, module in enumerate(self.layers):
                register = module.register_forward_pre_hook if given else module.register_forward_hook
                stack.callback(register(hook(number)).remove)
            output = _run_forward(forward_func, inputs, None, arguments)
        for name, found in zip(self.names, saved, strict=True):
            if not found:
                raise CaptureError(f"{name} did not run: give a module that the forward function calls")
        return output, [self._gather(found) for found in saved]

    def _gather(self, saved: dict[torch.device, list[Tensor]]) -> list[Tensor]:
        """Call by call, the samples of all devices in the order of the batch."""
        device_ids = self.device_ids or getattr(self.forward_func, "device_ids", None)
        if len(saved) > 1 and device_ids is None:
            raise InputError("the layer ran on several devices: give the order of its batch by device_ids=")
        order = _sort_key_list(list(saved), device_ids)
        return [_reduce_list(list(parts)) for parts in zip(*(saved[device] for device in order), strict=True)]

    def _calibrate(self, inputs: Inputs, arguments: Any, given: bool) -> list[list[Layer]]:
        forward_func = self.forward_func
        if isinstance(forward_func, nn.DataParallel):
            forward_func = forward_func.module  # two samples need no replicas
            inputs = moved(inputs, self.device())
            arguments = moved(arguments, self.device())
        samples = inputs if isinstance(inputs, tuple) else (inputs,)
        batch = len(samples[0])
        values = [_few(value, batch) for value in samples]
        arguments = arguments and tuple(_few(value, batch) for value in arguments)
        watched = next(
            (i for i, value in enumerate(values) if isinstance(value, Tensor) and value.is_floating_point()), None
        )
        picked = dict(zip(self.names, self.layers, strict=True))
        with Calibration(picked) as calibration, evaluating(), torch.set_grad_enabled(watched is not None):
            calibration.images = values[watched or 0].detach()
            if watched is not None:
                calibration.images = calibration.images.clone().requires_grad_()
                values[watched] = calibration.images * 1
            calibration.watch_all(given)
            _, tensors = self._run(forward_func, tuple(values), arguments, given)
            calibration.finish(None)
        found = []
        for name, calls in zip(self.names, tensors, strict=True):
            # Values that a layer is given can be negative whatever the layer makes of them.
            layers = [
                replace(layer, rectified=layer.rectified or given)
                for layer in calibration.layers
                if layer.module == name
            ]
            if len(layers) != len(calls):
                shapes = ", ".join(str(tuple(call.shape)) for call in calls)
                raise CaptureError(
                    f"expected a layer of floating-point tensors (N, ...) with N={len(values[0])} samples first, "
                    f"{name} has {shapes}"
                )
            found.append(layers)
        return found


def _activation(layer: Layer, tensor: Tensor, samples: int) -> Activation:
    """With as many parts per sample as there are now: windows grow in number with the image."""
    units = 1
    for axis in layer.axes:
        units *= tensor.shape[axis] if axis < tensor.ndim else 0
    if units != layer.units or len(tensor) % samples:
        raise CaptureError(
            f"expected {layer.units} units of {samples} samples from {layer.name}, got a tensor {tuple(tensor.shape)}"
        )
    return Activation(replace(layer, groups=len(tensor) // samples), tensor)


def _few(value: Any, batch: int) -> Any:
    """Two samples of what has one row per sample, a single one doubled; a copy, for the model may work in place."""
    if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != batch:
        return value
    return torch.cat([value, value]) if batch == 1 else value[:2].clone()


def moved(value: Any, device: torch.device | None) -> Any:
    if isinstance(value, tuple):
        return tuple(moved(part, device) for part in value)
    return value.to(device) if isinstance(value, Tensor) else value


def _words(value: Any) -> str:
    return f"{len(value)} values" if isinstance(value, (tuple, list)) else type(value).__name__
