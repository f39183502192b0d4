"""Records the activations of some layers in one forward pass."""

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
from selplug.core.words import plural

from .modes import evaluating

Inputs = Tensor | tuple[Any, ...]


@dataclass(frozen=True)
class Activation:
    """The output (or input) of one call of a layer for N samples, in the model's own shape."""

    layer: Layer
    tensor: Tensor

    @property
    def samples(self) -> int:
        return len(self.tensor) // self.layer.rows_per_sample

    def responses(self) -> Tensor:
        """Mean over positions, rectified where values can be negative: (N, U), float32 or wider."""
        return self.layer.pool(self.tensor)

    def exact_responses(self) -> Tensor:
        """The same in float64: float32 cannot represent small differences from a large mean."""
        return self.layer.pool(self.tensor.double())

    def rows(self) -> Tensor:
        """The values with the units last: (N, P, U), P positions."""
        return self.tensor.permute(self._order).reshape(self.samples, -1, self.layer.units)

    def like(self, rows: Tensor) -> Tensor:
        """The inverse of :meth:`rows`: values (N, P, U) in the shape of the layer."""
        shape = [self.tensor.shape[axis] for axis in self._order]
        back = sorted(range(self.tensor.ndim), key=self._order.__getitem__)
        return rows.reshape(shape).permute(back).contiguous()

    @property
    def _order(self) -> list[int]:
        positions = [axis for axis in range(1, self.tensor.ndim) if axis not in self.layer.axes]
        return [0, *positions, *self.layer.axes]


class Activations:
    """Runs a forward function and returns the activations of some layers, one tuple of calls per layer.

    The unit axis is found from the modules before and after the layer
    (:class:`~selplug.core.model.calibration.Calibration`). This takes one extra pass before the first one, in eval
    mode, with at most two samples. Hooks are attached only while the forward function runs.

    Args:
        forward_func: any callable. A compiled model (``torch.compile``) is run uncompiled, since it ignores hooks that
            are added after compilation.
        layers: modules that the forward function calls.
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
            given: record the layers' inputs instead of their outputs.

        Raises:
            CaptureError: a layer did not run, ran more or less often than before, or its tensor is not (N, ...).
        """
        arguments = _format_additional_forward_args(arguments)
        if given not in self._known:
            self._known[given] = self._calibrate(inputs, arguments, given)
        output, tensors = self._run(self.forward_func, inputs, arguments, given)
        count = len(inputs[0] if isinstance(inputs, tuple) else inputs)
        found = []
        for name, calls, layers in zip(self.names, tensors, self._known[given], strict=True):
            if len(calls) != len(layers):
                raise CaptureError(
                    f"{name} ran {plural(len(calls), 'time')}, but {plural(len(layers), 'time')} in the first pass"
                )
            found.append([_activation(*call, count) for call in zip(layers, calls, strict=True)])
        return output, found

    def device(self) -> torch.device | None:
        """The device of the model's parameters, None if it has none."""
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
                    what = "takes" if given else "returns"
                    raise CaptureError(
                        f"expected a layer with one tensor, but {self.names[number]} {what} {_words(value)}"
                    )
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
                raise CaptureError(f"{name} did not run: choose a module that the forward function calls")
        return output, [self._gather(found) for found in saved]

    def _gather(self, saved: dict[torch.device, list[Tensor]]) -> list[Tensor]:
        """One tensor per call: the samples of all devices, in the order of the batch."""
        device_ids = self.device_ids or getattr(self.forward_func, "device_ids", None)
        if len(saved) > 1 and device_ids is None:
            raise InputError("the layer ran on several devices: give their order in the batch as device_ids=")
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
            # The inputs of a layer can be negative even if its outputs cannot.
            layers = [
                replace(layer, rectified=layer.rectified or given)
                for layer in calibration.layers
                if layer.module == name
            ]
            if len(layers) != len(calls):
                shapes = ", ".join(str(tuple(call.shape)) for call in calls)
                raise CaptureError(
                    f"expected a layer of floating-point tensors (N, ...) with N={len(values[0])} samples on the first "
                    f"axis, got {shapes} from {name}"
                )
            found.append(layers)
        return found


def _activation(layer: Layer, tensor: Tensor, samples: int) -> Activation:
    """The layer with its present number of windows per sample, which grows with the image."""
    units = 1
    for axis in layer.axes:
        units *= tensor.shape[axis] if axis < tensor.ndim else 0
    if units != layer.units or len(tensor) % samples:
        raise CaptureError(
            f"expected {layer.units} units of {samples} samples from {layer.name}, got a tensor {tuple(tensor.shape)}"
        )
    return Activation(replace(layer, rows_per_sample=len(tensor) // samples), tensor)


def _few(value: Any, batch: int) -> Any:
    """The first two samples of a batch, or its only one twice; other values as they are.

    The result is a copy, since the model may change its input in place.
    """
    if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != batch:
        return value
    return torch.cat([value, value]) if batch == 1 else value[:2].clone()


def moved(value: Any, device: torch.device | None) -> Any:
    if isinstance(value, tuple):
        return tuple(moved(part, device) for part in value)
    return value.to(device) if isinstance(value, Tensor) else value


def _words(value: Any) -> str:
    return f"{len(value)} values" if isinstance(value, (tuple, list)) else type(value).__name__
