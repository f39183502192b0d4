"""Attributes a sample's energy outside the clean subspace to the units of a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from captum.attr import LayerAttribution
from captum.log import log_usage
from torch import Tensor, nn

from selplug.core.errors import InputError
from selplug.core.measures import functional
from selplug.core.measures.metrics import Dimensionality

from .activations import Activation, Inputs
from .method import UnitMethod


class LayerDimensionality(UnitMethod, LayerAttribution):
    r"""Attributes the energy of a sample outside the principal subspace of clean responses to units and positions.

    With the clean responses' mean ``m`` and their first principal directions ``V``, the residual of a sample is
    ``e = (I - V V^T)(r - m)``, and unit u has the share ``e[u]^2`` of its energy ``E = ||e||^2``. Corruptions and
    attacks raise this energy (the shares are ours; for dimensionality and robustness see Leavitt & Morcos, arXiv
    2010.07693). A unit's share is divided over positions by their contribution: since ``r`` is a mean over P
    positions, so is ``e``, and

        ``attribution[u,p] = e[u] e[u,p] / P``,    ``e[.,p] = (I - V V^T)(a[.,p] - m)``

    sums exactly to ``e[u]^2`` over positions and to E over the layer. The attribution is negative where a position
    reduces its unit's residual. Negative activations are set to 0 before the mean, as in every response.

    Args:
        forward_func: the model, or any function of it.
        layer: a module, or a list of modules that share one forward pass.
        components: a float in (0, 1] is the fraction of the clean variance inside the subspace, an int the number of
            its directions. With 1.0 or U the subspace holds all the variance of the clean samples.
        device_ids: as for Captum's layer methods.

    Examples::

        >>> method = LayerDimensionality(model, model.layer1).fit(clean_loader)
        >>> attribution = method.attribute(images)  # (N, U, h, w), as the layer
        >>> energy = attribution.flatten(1).sum(1)  # (N,)
        >>> method.unit_scores()  # (U,): what each unit adds to the participation ratio
    """

    _sums: list[list[Dimensionality]] | None = None
    _subspaces: list[list[tuple[Tensor, Tensor]]]
    _given = False

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: nn.Module | list[nn.Module],
        components: float = 0.95,
        device_ids: list[int] | None = None,
    ) -> None:
        LayerAttribution.__init__(self, forward_func, layer, device_ids)
        whole = isinstance(components, int) and not isinstance(components, bool)
        if not (components >= 1 if whole else isinstance(components, float) and 0 < components <= 1):
            raise InputError(f"expected components as a fraction in (0, 1] or a number from 1, got {components!r}")
        self.components = components
        self._set_layers()

    def fit(
        self, loader: Iterable[Any], additional_forward_args: Any = None, attribute_to_layer_input: bool = False
    ) -> LayerDimensionality:
        """Computes mean and covariance in one pass over clean samples. The model runs in eval mode, then is restored.

        Args:
            loader: batches (inputs, labels) or tensors of inputs; labels are ignored.
            additional_forward_args: as in :meth:`attribute`.
            attribute_to_layer_input: the same value as in :meth:`attribute`.

        Returns:
            The method itself.

        Raises:
            InputError: fewer than two samples, a batch of another form, or more components than units. An earlier fit
                is then kept.
        """

        def make(output: Any, call: Activation) -> Dimensionality:
            return Dimensionality(call.layer.units)

        def update(metric: Dimensionality, responses: Tensor, labels: Any) -> None:
            metric.update(responses)

        sums = self._measured(loader, make, update, additional_forward_args, attribute_to_layer_input)
        self._subspaces = [
            [
                (metric.total / metric.seen, functional.principal_subspace(metric.covariance(), self.components))
                for metric in calls
            ]
            for calls in sums
        ]
        self._sums, self._given = sums, attribute_to_layer_input
        return self

    def unit_scores(self) -> Any:
        """The contribution of each unit: participation ratio of all units minus that without it, (U,), float64.

        Returns:
            A list for a list of layers, a tuple for a module that runs more than once.

        Raises:
            InputError: fit was not called.
        """
        return self._nested(
            [functional.participation_ratio_contributions(metric.covariance()) for metric in calls]
            for calls in self._known()
        )

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        return_convergence_delta: bool = False,
    ) -> Any:
        """
        Args:
            inputs: (N, ...), or a tuple of tensors.
            additional_forward_args: further arguments of the forward function.
            attribute_to_layer_input: attribute to the layer's input instead of its output.
            return_convergence_delta: also return :meth:`compute_convergence_delta`, of the same forward pass.

        Returns:
            Shaped like the layer, in squared units of its activation, float32 or wider; with the delta a pair. Either
            is a list for a list of layers, a tuple for a module that runs more than once.

        Raises:
            InputError: fit was not called, or only for the other of input and output.
            CaptureError: the layer does not run, or has no units.
        """
        found = self._found(inputs, additional_forward_args, attribute_to_layer_input)
        attributions = [[_shares(call, *space) for call, space in calls] for calls in found]
        if not return_convergence_delta:
            return self._results(attributions, inputs)
        return self._results(attributions, inputs), self._nested(_deltas(attributions, found))

    def has_convergence_delta(self) -> bool:
        """True: the shares should sum to the energy."""
        return True

    def compute_convergence_delta(
        self,
        attributions: Any,
        inputs: Inputs,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
    ) -> Any:
        """Sum of a sample's attributions minus its energy outside the subspace, (N,): about 0.

        The energy is computed without the residual, as ``||r - m||^2 - ||V^T (r - m)||^2``.

        Args:
            attributions: the result of :meth:`attribute`.
            inputs, additional_forward_args, attribute_to_layer_input: the same as for :meth:`attribute`.

        Returns:
            A list for a list of layers, a tuple for a module that runs more than once.
        """
        found = self._found(inputs, additional_forward_args, attribute_to_layer_input)
        return self._nested(_deltas(self._flat(attributions, "attributions"), found))

    def _known(self) -> list[list[Dimensionality]]:
        if self._sums is None:
            raise InputError(f"{type(self).__name__} has no clean subspace yet: call fit(loader) first")
        return self._sums

    def _found(
        self, inputs: Inputs, arguments: Any, given: bool
    ) -> list[list[tuple[Activation, tuple[Tensor, Tensor]]]]:
        """Every activation with the mean and the basis of its subspace."""
        self._known()
        if self._given != given:
            raise InputError(
                f"the subspace is that of the layer's {'input' if self._given else 'output'}: call fit(loader, "
                f"attribute_to_layer_input={given})"
            )
        with torch.no_grad():
            _, found = self._activations(inputs, arguments, given)
        return [list(zip(calls, spaces, strict=True)) for calls, spaces in zip(found, self._subspaces, strict=True)]


def _shares(call: Activation, mean: Tensor, basis: Tensor) -> Tensor:
    # float64: the residual can be a small part of the activation.
    rows = call.rows().detach().double()
    if call.layer.rectified:
        rows = rows.clamp_min(0)
    residual = functional.outside_subspace(rows - mean.to(rows.device), basis.to(rows.device))
    shares = residual * residual.mean(1, keepdim=True) / residual.shape[1]
    return call.like(shares).to(torch.promote_types(call.tensor.dtype, torch.float32))


def _deltas(
    attributions: list[list[Any]], found: list[list[tuple[Activation, tuple[Tensor, Tensor]]]]
) -> list[list[Tensor]]:
    result = []
    for layer, calls in zip(attributions, found, strict=True):
        deltas = []
        for attribution, (call, (mean, basis)) in zip(layer, calls, strict=True):
            centred = call.exact_responses() - mean.to(call.tensor.device)
            inside = (centred @ basis.to(centred.device)).square().sum(1)
            total = attribution.double().reshape(call.samples, -1).sum(1)
            deltas.append((total - (centred.square().sum(1) - inside)).to(attribution.dtype))
        result.append(deltas)
    return result
