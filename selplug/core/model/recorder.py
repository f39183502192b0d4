"""Records the units of a model while it trains: hooks that stay, and that copies of the model do not take along."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CaptureError
from .layers import Layer, calls_by_module

#: What the hooks do: nothing; record; save for backward what recording saved, for gradient checkpointing runs blocks
#: a second time during the backward pass and demands that they save the same tensors.
SKIP, RECORD, REPEAT = range(3)

#: Whether passes are to be left out. Of the process, since whoever makes such a pass knows of no recorder.
_left_out = False


@contextmanager
def unrecorded() -> Iterator[None]:
    """Passes of a model in this block, called as a whole, are not recorded, and what was recorded before is kept."""
    global _left_out  # noqa: PLW0603
    before, _left_out = _left_out, True
    try:
        yield
    finally:
        _left_out = before


class Recorder:
    """Pooled responses (N, U) of the last forward pass in training mode with gradients enabled.

    :class:`~selplug.core.model.capture.Capture` has hooks for a block; these stay until :meth:`close`, since a compiled
    model does not see hooks that come later. Copies of the model, deep or pickled, record nothing.

    Args:
        model: as it was given to :func:`~selplug.core.model.capture.find_layers`, not compiled; called as a whole.
        layers: what that returned.

    Attributes:
        active: whether to record. A bool, on which compiled code depends: it compiles anew once when this changes.
    """

    #: Whether hooks see what a module puts out, and not what hooks made of it that were set before them.
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
        # Last, for the model may be a layer itself.
        self._stack.callback(model.register_forward_hook(Hook(self._end)).remove)

    def take(self) -> list[Tensor]:
        """Responses of all layers, in order; they are forgotten here.

        Raises:
            CaptureError: nothing was recorded since the last time, or a layer ran without gradients.
        """
        responses = self.forget()
        silent = [layer.name for layer in self.layers if layer.name not in responses]
        if silent:
            raise CaptureError(
                f"{len(silent)} of {len(self.layers)} layers have not run since the last time, the first is "
                f"{silent[0]}; call the model as a whole, in training mode with gradients, once before each term of "
                "the loss, and set hooks before torch.compile (those on a model that was compiled and run stay silent; "
                "torch.compiler.reset() drops code that was compiled for another network of its class)"
            )
        if self._without_gradients:
            raise CaptureError(
                f"layers ran without gradients inside the model, the first is {self._without_gradients[0]}, and so "
                "cannot be trained by this term: use checkpointing with use_reentrant=False, or leave them out"
            )
        return [responses[layer.name] for layer in self.layers]

    def forget(self) -> dict[str, Tensor]:
        """Drops what was recorded, and returns it."""
        responses, self._responses = self._responses, {}
        return responses

    def close(self) -> None:
        """Removes the hooks and drops what was recorded."""
        self._stack.close()
        self.forget()

    def _start(self, module: nn.Module, inputs: Any) -> None:
        self._mode = SKIP
        if module.training and torch.is_grad_enabled():
            self._recorded = self.active
            if not _left_out:
                self._counts, self._responses, self._without_gradients = {}, {}, []
            if self._recorded:
                # In the backward pass, second runs of this pass cannot be told from those of one that is recorded.
                self._mode = REPEAT if _left_out else RECORD

    def _end(self, module: nn.Module, inputs: Any, output: Any) -> None:
        # What runs from here to the next pass of the whole model can only be a block's second run.
        self._mode = REPEAT if self._recorded else SKIP

    def _fired(self, name: str, calls: Mapping[int, Layer], module: nn.Module, inputs: Any, output: Tensor) -> None:
        # A pass in eval mode saved nothing, so neither does its second run, which comes before train mode is back.
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
            output.clamp_min(0)  # the one operation of Layer.pool that saves a tensor


class Hook:
    """A hook whose copies do nothing: copied and pickled models take their hooks along."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return Hook, (_nothing,)


def _nothing(*arguments: Any) -> None:
    pass
