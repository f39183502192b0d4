"""Records the units of a model while it trains, with permanent hooks that copies of the model do not have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CaptureError
from .layers import Layer, calls_by_module

#: What the hooks do. REPEAT saves the same tensors for backward as RECORD: gradient checkpointing runs blocks again in
#: the backward pass and requires that they save the same tensors.
SKIP, RECORD, REPEAT = range(3)

#: Whether to ignore passes. Global for the process, since the code that makes such a pass does not know the recorders.
_left_out = False


@contextmanager
def unrecorded() -> Iterator[None]:
    """Passes of a whole model in this block are not recorded, and earlier records are kept."""
    global _left_out  # noqa: PLW0603
    before, _left_out = _left_out, True
    try:
        yield
    finally:
        _left_out = before


class Recorder:
    """Pooled responses (N, U) of the last forward pass in training mode with gradients enabled.

    The hooks of :class:`~selplug.core.model.capture.Capture` exist for a block only; these stay until :meth:`close`,
    since a compiled model ignores hooks that are set later. Copies of the model, deep or pickled, record nothing.

    Args:
        model: the model given to :func:`~selplug.core.model.capture.find_layers`, not compiled; call it as a whole.
        layers: the result of that function.

    Attributes:
        active: whether to record. Compiled code depends on this bool and compiles again when it first changes.
    """

    #: Whether hooks get the module's own output, not an output that earlier hooks have changed.
    _before_others = True

    def __init__(self, model: nn.Module, layers: Sequence[Layer]) -> None:
        self.active = True
        self.layers = tuple(layers)
        self._model = model
        self._mode, self._recorded = SKIP, False
        self._counts: dict[str, int] = {}
        self._responses: dict[str, Tensor] = {}
        self._without_gradients: list[str] = []
        self._stack = ExitStack()
        modules = dict(model.named_modules())
        self._stack.callback(model.register_forward_pre_hook(Hook(self._start)).remove)
        for name, calls in calls_by_module(layers).items():
            hook = Hook(partial(self._fired, name, calls))
            handle = modules[name].register_forward_hook(hook, prepend=self._before_others)
            self._stack.callback(handle.remove)
        # Last, since the model may itself be a layer.
        self._stack.callback(model.register_forward_hook(Hook(self._end)).remove)

    def take(self) -> list[Tensor]:
        """Returns the responses of all layers, in order, and forgets them.

        Raises:
            CaptureError: nothing was recorded since the last call, or a layer ran without gradients.
        """
        responses = self.forget()
        silent = [layer.name for layer in self.layers if layer.name not in responses]
        if silent:
            raise CaptureError(
                f"{len(silent)} of {len(self.layers)} layers were not recorded since the last call, the first is "
                f"{silent[0]}; call the whole model once before each term of the loss, in training mode with "
                "gradients; set hooks before torch.compile (they do not work on a model that was compiled and run "
                "before; torch.compiler.reset() drops code that was compiled for another network of its class)"
            )
        if self._without_gradients:
            raise CaptureError(
                f"layers ran without gradients, the first is {self._without_gradients[0]}, so this term cannot train "
                "them: use checkpointing with use_reentrant=False, or leave these layers out"
            )
        return [responses[layer.name] for layer in self.layers]

    def forget(self) -> dict[str, Tensor]:
        """Forgets the recorded responses and returns them."""
        responses, self._responses = self._responses, {}
        return responses

    def close(self) -> None:
        """Removes the hooks and forgets the recorded responses."""
        self._stack.close()
        self.forget()

    def _start(self, module: nn.Module, inputs: Any) -> None:
        self._mode = SKIP
        if module.training and torch.is_grad_enabled():
            self._recorded = self.active
            if not _left_out:
                self._counts, self._responses, self._without_gradients = {}, {}, []
            if self._recorded:
                # In the backward pass, second runs of this pass look the same as those of a recorded pass.
                self._mode = REPEAT if _left_out else RECORD

    def _end(self, module: nn.Module, inputs: Any, output: Any) -> None:
        # Until the next pass of the whole model, only second runs of blocks can follow.
        self._mode = REPEAT if self._recorded else SKIP

    def _fired(self, name: str, calls: Mapping[int, Layer], module: nn.Module, inputs: Any, output: Tensor) -> None:
        # A pass in eval mode saved nothing, so its second run, which is also in eval mode, must not save anything.
        if self._mode == SKIP or not self._model.training:
            return
        layer = None
        if self._mode == RECORD:
            self._counts[name] = call = self._counts.get(name, 0) + 1
            layer = calls.get(call)
        if layer is not None:
            self._responses[layer.name] = layer.pool(output)
            if not torch.is_grad_enabled():
                self._without_gradients.append(layer.name)
        elif next(iter(calls.values())).rectified:
            output.clamp_min(0)  # the only operation of Layer.pool that saves a tensor


class Hook:
    """A hook with copies that do nothing, since copied and pickled models keep their hooks."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return Hook, (_nothing,)


def _nothing(*arguments: Any) -> None:
    pass
