"""The input gradient of every unit of a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum.attr import GradientAttribution, LayerAttribution
from captum.log import log_usage
from torch import Tensor, nn

from selplug.core.errors import CaptureError, InputError

from .activations import Inputs
from .method import UnitMethod, leaves
from .modes import samples_apart


class InputUnitGradient(UnitMethod, LayerAttribution, GradientAttribution):
    r"""Norm of the input gradient of every unit of a layer.

    ``g[n,u] = || d r[n,u] / d x[n] ||_2`` with the response ``r`` the mean over positions of the activation, negative
    values set to 0 (Leavitt & Morcos, arXiv 2010.07693). Its variability over samples and units shows how evenly a
    layer reacts to changes of its input. Several input tensors count as one long vector.

    One forward pass, then one backward pass per unit through the part of the model before the layer. Each backward pass
    gives the exact gradients of all samples at once, since samples do not depend on each other. A batch norm in train
    mode makes them depend on each other and is an error.

    Args:
        forward_func: the model, or any function of it.
        layer: a module, or a list of modules that share one forward pass.
        device_ids: as for Captum's layer methods.
        units_per_pass: backward passes that run together; memory grows with their number. More than 1 is faster for
            small batches, but every operation must then work under ``torch.vmap``.

    Examples::

        >>> gradient = InputUnitGradient(model, model.layer1).attribute(images)  # (N, U)
        >>> variability = gradient.std(0) / gradient.mean(0)  # over samples, (U,)
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: nn.Module | list[nn.Module],
        device_ids: list[int] | None = None,
        units_per_pass: int = 1,
    ) -> None:
        LayerAttribution.__init__(self, forward_func, layer, device_ids)
        GradientAttribution.__init__(self, forward_func)
        if units_per_pass < 1:
            raise InputError(f"expected at least 1 unit per pass, got {units_per_pass}")
        self.units_per_pass = units_per_pass
        self._set_layers()

    @log_usage()
    def attribute(
        self, inputs: Inputs, additional_forward_args: Any = None, attribute_to_layer_input: bool = False
    ) -> Any:
        """
        Args:
            inputs: (N, ...), floating point, or a tuple of such tensors.
            additional_forward_args: further arguments of the forward function.
            attribute_to_layer_input: use the units of the layer's input instead of its output.

        Returns:
            (N, U), not negative, in units of the activation per unit of the input; a list for a list of layers, a tuple
            for a module that runs more than once.

        Raises:
            InputError: an input has no gradient, or a batch norm normalizes over the batch.
            CaptureError: the layer does not run, has no units, or does not depend on the inputs.
        """
        values = leaves(inputs)
        with torch.enable_grad(), samples_apart():
            # Copies, since a model may change its inputs in place.
            copies = tuple(value.clone() for value in values)
            _, found = self._activations(copies, additional_forward_args, attribute_to_layer_input)
            norms = [
                [self._norms(name, call.responses(), values) for call in calls]
                for name, calls in zip(self._activations.names, found, strict=True)
            ]
        return self._results(norms, inputs)

    def _norms(self, name: str, responses: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        if not responses.requires_grad:
            raise CaptureError(f"{name} has no gradient with respect to the inputs")
        units = responses.shape[1]
        norms = []
        for start in range(0, units, self.units_per_pass):
            chosen = range(start, min(start + self.units_per_pass, units))
            ones = responses.new_zeros(len(chosen), *responses.shape)
            ones[range(len(chosen)), :, chosen] = 1
            together = len(chosen) > 1
            gradients = torch.autograd.grad(
                responses,
                inputs,
                ones if together else ones[0],
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
                is_grads_batched=together,
            )
            flat = [g.reshape(len(chosen), len(responses), -1).to(responses.dtype) for g in gradients]
            norms.append(torch.linalg.vector_norm(torch.cat(flat, 2), dim=2))
        return torch.cat(norms).T.contiguous()
