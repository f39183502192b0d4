"""The base class of all methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from selplug.core.errors import InputError

from .activations import Activation, Activations, Inputs, moved
from .modes import evaluating

T = TypeVar("T")
SomeMetric = TypeVar("SomeMetric", bound=Metric)


class UnitMethod:
    """A method on the units of one layer or of a list of layers.

    Results have Captum's form: one for a single layer, a list for a list of layers. A module that runs more than once
    in a forward pass has a tuple of results, one per call in order (Captum's own methods return the last call only).
    For inputs in a tuple of one, the result is a tuple of one too: ``captum.metrics.sensitivity_max`` calls methods in
    this way and would otherwise take each sample for a separate tensor (as it does with Captum's layer methods).
    """

    forward_func: Callable[..., Any]
    layer: nn.Module | list[nn.Module]
    device_ids: list[int] | None

    def _set_layers(self) -> None:
        layers = [self.layer] if isinstance(self.layer, nn.Module) else list(self.layer)
        if not layers:
            raise InputError("expected a module or a list of modules as layer, got an empty list")
        self._activations = Activations(self.forward_func, layers, self.device_ids)

    def _nested(self, values: Iterable[Iterable[T]]) -> Any:
        """Values per layer and call, in the form that users get."""
        each = [calls[0] if len(calls) == 1 else calls for calls in map(tuple, values)]
        return each[0] if isinstance(self.layer, nn.Module) else each

    def _results(self, values: Iterable[Iterable[Tensor]], inputs: Inputs) -> Any:
        """The same for attributions; in a tuple if the input was a tuple of one tensor."""
        nested = self._nested(values)
        return (nested,) if isinstance(nested, Tensor) and isinstance(inputs, tuple) and len(inputs) == 1 else nested

    def _flat(self, values: Any, what: str) -> list[list[Any]]:
        """The inverse of ``_nested``: values per layer and call from the form that users give."""
        each = [values] if isinstance(self.layer, nn.Module) else values
        count = len(self._activations.layers)
        if not isinstance(each, (list, tuple)) or len(each) != count:
            raise InputError(f"expected {what} as a list of {count}, one for each layer, got {type(values).__name__}")
        return [list(calls) if isinstance(calls, (list, tuple)) else [calls] for calls in each]

    def _measured(
        self,
        loader: Iterable[Any],
        make: Callable[[Any, Activation], SomeMetric],
        update: Callable[[SomeMetric, Tensor, Any], None],
        additional_forward_args: Any,
        given: bool,
    ) -> list[list[SomeMetric]]:
        """One metric per layer and call, from one pass over a loader in eval mode, without gradients."""
        metrics: list[list[SomeMetric]] = []
        for batch in loader:
            inputs, labels = _inputs_and_labels(batch)
            inputs = moved(inputs, self._activations.device())
            with torch.no_grad(), evaluating():
                output, found = self._activations(inputs, additional_forward_args, given)
            metrics = metrics or [[make(output, call) for call in calls] for calls in found]
            for row, calls in zip(metrics, found, strict=True):
                for metric, call in zip(row, calls, strict=True):
                    update(metric, call.exact_responses().cpu(), labels)
        if not metrics:
            raise InputError("fit needs at least one batch (inputs, labels), but the loader is empty")
        return metrics


def leaves(inputs: Inputs) -> tuple[Tensor, ...]:
    """Copies of the inputs that require gradients, whether the originals do or not.

    Raises:
        InputError: an input is not floating point.
    """
    values = inputs if isinstance(inputs, tuple) else (inputs,)
    for value in values:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            came = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise InputError(
                f"expected floating-point inputs to take gradients of, got {came}; pass all others as "
                "additional_forward_args"
            )
    return tuple(value.detach().requires_grad_() for value in values)


def _inputs_and_labels(batch: Any) -> tuple[Inputs, Any]:
    if isinstance(batch, Tensor):
        return batch, None
    if not isinstance(batch, (tuple, list)) or not batch:
        raise InputError(f"expected a loader of (inputs, labels), got batches of {type(batch).__name__}")
    inputs = tuple(batch[0]) if isinstance(batch[0], list) else batch[0]
    first = inputs[0] if isinstance(inputs, tuple) and inputs else inputs
    if not isinstance(first, Tensor) or first.ndim == 0:
        raise InputError(f"expected a loader of (inputs, labels), got batches that begin with {type(first).__name__}")
    return inputs, batch[1] if len(batch) > 1 else None
