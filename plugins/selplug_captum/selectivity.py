"""Attributes class selectivity to the units of a layer, or to the pixels that drive them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from captum.attr import GradientAttribution, LayerAttribution
from captum.log import log_usage
from torch import Tensor, nn

from selplug.core.errors import CaptureError, InputError
from selplug.core.measures import functional
from selplug.core.measures.metrics import ClassSelectivity as SelectivitySums
from selplug.core.words import plural

from .activations import Activation, Inputs
from .method import UnitMethod, leaves

S = TypeVar("S", bound="_Selective")


class _Selective(UnitMethod):
    """The class means of every unit, and the selectivity indices computed from them."""

    _means: list[list[Tensor]] | None = None
    _given: bool | None = None

    def _start(self, class_means: Any) -> None:
        self._set_layers()
        if class_means is not None:
            self._learn(self._flat(class_means, "class_means"))

    def fit(
        self: S,
        loader: Iterable[Any],
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        num_classes: int | None = None,
    ) -> S:
        """Computes the class means in one pass over a loader. The model runs in eval mode, then is restored.

        Args:
            loader: batches (inputs, labels): a tensor (N, ...) or a tuple of the forward function's inputs, and labels
                (N,) in [0, C) or soft targets (N, C).
            additional_forward_args: as in :meth:`attribute`.
            attribute_to_layer_input: the same value as in :meth:`attribute`.
            num_classes: C; the default is the model's number of outputs.

        Returns:
            The method itself.

        Raises:
            InputError: the loader is empty, a batch or its labels have another form, or fewer than two classes have
                samples. An earlier fit is then kept.
        """

        def make(output: Any, call: Activation) -> SelectivitySums:
            if num_classes is None and not (isinstance(output, Tensor) and output.ndim == 2 and output.shape[1] > 1):
                raise InputError(
                    "the forward function does not return (N, C), one column per class: give fit(num_classes=C)"
                )
            return SelectivitySums(num_classes or output.shape[1], call.layer.units)

        def update(metric: SelectivitySums, responses: Tensor, labels: Any) -> None:
            if labels is None:
                raise InputError("expected a loader of (inputs, labels), got batches without labels")
            metric.update(responses, torch.as_tensor(labels).cpu())

        metrics = self._measured(loader, make, update, additional_forward_args, attribute_to_layer_input)
        self._learn([[_means_of(metric) for metric in calls] for calls in metrics])
        self._given = attribute_to_layer_input
        return self

    @property
    def class_means(self) -> Any:
        """Mean response of every unit to every class, (C, U), NaN in the rows of classes without samples.

        A list of them for a list of layers, a tuple for a module that runs more than once; may be given to another
        method of the same layers.
        """
        return self._nested(self._known())

    def unit_scores(self, target: int | None = None) -> Any:
        """The index of every unit, (U,), float64.

        Args:
            target: a class: the signed index ``s[u, target]`` in [-1, 1]. None: the unsigned ``SI[u]`` in [0, 1].

        Returns:
            A list for a list of layers, a tuple for a module that runs more than once.

        Raises:
            InputError: fit was not called, or the class has no samples.
        """
        return self._nested([[_scores(means, target, 1) for means in calls] for calls in self._known()])

    def _learn(self, means: list[list[Tensor]]) -> None:
        for calls in means:
            for each in calls:
                if not isinstance(each, Tensor) or each.ndim != 2 or not each.is_floating_point():
                    came = tuple(each.shape) if isinstance(each, Tensor) else type(each).__name__
                    raise InputError(f"expected class means (C, U), floating point, got {came}")
                functional.class_selectivity(each.nan_to_num(), _present(each))  # two classes at least
        self._means = [[each.detach().double().cpu() for each in calls] for calls in means]

    def _known(self) -> list[list[Tensor]]:
        if self._means is None:
            raise InputError(
                f"{type(self).__name__} has no class means yet: call fit(loader) first, or give class_means="
            )
        return self._means

    def _scored(self, found: list[list[Activation]], target: Any, given: bool) -> list[list[tuple[Activation, Tensor]]]:
        """Every activation with its scores, (1, U) or (N, U)."""
        known = self._known()
        if self._given not in (None, given):
            raise InputError(
                f"the class means are those of the layer's {'input' if self._given else 'output'}: call "
                f"fit(loader, attribute_to_layer_input={given})"
            )
        result = []
        for name, calls, means in zip(self._activations.names, found, known, strict=True):
            if len(calls) != len(means):
                raise InputError(
                    f"{name} runs {plural(len(calls), 'time')}, but has class means for {plural(len(means), 'call')}"
                )
            scored = []
            for call, each in zip(calls, means, strict=True):
                if each.shape[1] != call.layer.units:
                    raise InputError(
                        f"{name} has U={call.layer.units} units, its class means (C, U) {tuple(each.shape)}"
                    )
                scores = _scores(each, target, call.samples)
                scores = scores.to(call.tensor.device, torch.promote_types(call.tensor.dtype, torch.float32))
                scored.append((call, scores.expand(call.samples, -1)))
            result.append(scored)
        return result


class LayerClassSelectivity(_Selective, LayerAttribution):
    r"""Shows how much of a layer's activation comes from units that are selective for a class, and where.

    ``attribution = activation * s[u, target]`` with the signed, class-wise selectivity index

        ``s[u,c] = (mu[c,u] - mu_rest[c,u]) / (mu[c,u] + mu_rest[c,u] + eps)``

    where ``mu`` is the mean response per class, ``mu_rest`` the mean over the other classes and ``eps = 1e-6``. It is
    positive where active units respond more to the target than to other classes, negative where they respond less.
    Without a target the weights are the unsigned index ``SI[u]`` (Morcos et al., arXiv 1803.06959; Leavitt & Morcos,
    arXiv 2003.01262; the index per class is ours, and equals SI at a unit's largest class).

    A response is the activation's mean over positions, with negative values set to 0 first, so that ``s`` stays in
    [-1, 1]. The activation in the product keeps its negative values.

    Args:
        forward_func: the model, or any function of it.
        layer: a module, or a list of modules that share one forward pass.
        device_ids: as for Captum's layer methods.
        class_means: (C, U), NaN in the rows of absent classes, instead of :meth:`fit`; a list for a list of layers.

    Examples::

        >>> method = LayerClassSelectivity(model, model.layer4).fit(train_loader)
        >>> attribution = method.attribute(images, target=3)  # (N, U, h, w), as the layer
        >>> heat = LayerAttribution.interpolate(attribution.sum(1, keepdim=True), images.shape[2:])
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: nn.Module | list[nn.Module],
        device_ids: list[int] | None = None,
        class_means: Any = None,
    ) -> None:
        LayerAttribution.__init__(self, forward_func, layer, device_ids)
        self._start(class_means)

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        target: Any = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
    ) -> Any:
        """
        Args:
            inputs: (N, ...), or a tuple of tensors.
            target: a class for all samples, a list or tensor of N classes, or None for the unsigned index.
            additional_forward_args: further arguments of the forward function.
            attribute_to_layer_input: attribute to the layer's input instead of its output.

        Returns:
            Shaped like the layer, for instance (N, U, H, W) or (N, P, U); a list for a list of layers, a tuple for a
            module that runs more than once.

        Raises:
            InputError: fit was not called or does not match, or a class is unknown.
            CaptureError: the layer does not run, or has no units.
        """
        self._known()
        with torch.no_grad():
            _, found = self._activations(inputs, additional_forward_args, attribute_to_layer_input)
            scored = self._scored(found, target, attribute_to_layer_input)
            return self._results(
                (
                    [call.like(call.rows() * scores[:, None].to(call.tensor.dtype)) for call, scores in calls]
                    for calls in scored
                ),
                inputs,
            )

    @property
    def multiplies_by_inputs(self) -> bool:
        """True: the activation is a factor."""
        return True


class ClassSelectivity(_Selective, GradientAttribution):
    r"""Shows which pixels drive the class-selective units of a layer.

    ``attribution = x * dF/dx`` with the layer's selectivity-weighted response to the target,
    ``F(x) = sum_u s[u, target] r[u](x)``: ``s`` as in :class:`LayerClassSelectivity`, the response ``r`` the mean over
    positions of the activation, negative values set to 0. Without a target the weights are the unsigned ``SI[u]``. If a
    module runs more than once, its calls are summed (ours; gradient times input: Shrikumar et al., arXiv 1605.01713).

    With batch norm in train mode, samples and hence their attributions depend on each other, as for any gradient
    method: call ``model.eval()``.

    Args:
        forward_func, layer: as for :class:`LayerClassSelectivity`.
        device_ids: as for Captum's layer methods.
        class_means: (C, U), NaN in the rows of absent classes, instead of :meth:`fit`; a list for a list of layers.

    Examples::

        >>> method = ClassSelectivity(model, model.layer4).fit(train_loader)
        >>> attribution = method.attribute(images, target=3)  # (N, 3, H, W), as the images
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: nn.Module | list[nn.Module],
        device_ids: list[int] | None = None,
        class_means: Any = None,
    ) -> None:
        GradientAttribution.__init__(self, forward_func)
        self.layer, self.device_ids = layer, device_ids
        self._start(class_means)

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        target: Any = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
    ) -> Any:
        """
        Args:
            inputs: (N, ...), floating point, or a tuple of such tensors.
            target, additional_forward_args: as for :class:`LayerClassSelectivity`.
            attribute_to_layer_input: units of what the layer is given instead of what it puts out.

        Returns:
            Shaped like ``inputs``, a tuple if they are a tuple; a list of these for a list of layers.

        Raises:
            InputError: fit was not called or does not match, a class is unknown, or an input has no gradient.
            CaptureError: the layer does not run, has no units, or does not depend on the inputs.
        """
        self._known()
        values = leaves(inputs)
        attributions = []
        with torch.enable_grad():
            # Copies, since a model may change its inputs in place.
            copies = tuple(value.clone() for value in values)
            _, found = self._activations(copies, additional_forward_args, attribute_to_layer_input)
            for name, calls in zip(
                self._activations.names, self._scored(found, target, attribute_to_layer_input), strict=True
            ):
                response = torch.stack([(call.responses() * scores).sum() for call, scores in calls]).sum()
                if not response.requires_grad:
                    raise CaptureError(f"{name} has no gradient with respect to the inputs")
                gradients = torch.autograd.grad(
                    response, values, retain_graph=True, allow_unused=True, materialize_grads=True
                )
                attributions.append(tuple(v.detach() * g for v, g in zip(values, gradients, strict=True)))
        each = [attribution if isinstance(inputs, tuple) else attribution[0] for attribution in attributions]
        return each[0] if isinstance(self.layer, nn.Module) else each

    @property
    def multiplies_by_inputs(self) -> bool:
        """True: gradient times input."""
        return True


def _means_of(metric: SelectivitySums) -> Tensor:
    means = functional.means_of_sums(metric.sums, metric.weights)
    return torch.where(metric.weights[:, None] > 0, means, torch.nan)


def _present(means: Tensor) -> Tensor:
    """Weights (C,) of class means: 0 where a row is NaN."""
    return (~means.isnan().any(1)).to(means.dtype)


def _scores(means: Tensor, target: Any, samples: int) -> Tensor:
    """The index (U,) for one target or none, (N, U) for a target per sample."""
    weights, values = _present(means), means.nan_to_num()
    if target is None:
        return functional.class_selectivity(values, weights)
    classes = _classes(target, samples)
    if not 0 <= int(classes.min()) <= int(classes.max()) < len(means):
        raise InputError(
            f"expected classes in [0, {len(means)}) as target, got {int(classes.min())} to {int(classes.max())}"
        )
    absent = sorted(set(classes[weights[classes] == 0].flatten().tolist()))
    if absent:
        raise InputError(f"classes {absent} had no sample in fit, so no unit has an index for them")
    return functional.class_wise_selectivity(values, weights)[classes]


def _classes(target: Any, samples: int) -> Tensor:
    """Converts Captum's forms of a target to one class for all samples, (), or one per sample, (N,)."""
    if isinstance(target, list) and all(isinstance(each, tuple) and len(each) == 1 for each in target):
        target = [each[0] for each in target]
    if isinstance(target, tuple) and len(target) == 1:
        target = target[0]
    try:
        classes = torch.as_tensor(target).cpu()
    except (TypeError, ValueError, RuntimeError):
        classes = torch.empty(0)
    if classes.dtype == torch.bool or classes.is_floating_point() or classes.is_complex() or classes.ndim > 1:
        raise InputError(f"expected a class, or a list or tensor of {samples} classes, as target, got {target!r}")
    if isinstance(target, list) and len(target) != samples:
        raise InputError(f"expected {samples} classes as target, one per sample, got {len(target)}")
    if classes.numel() == 1:
        return classes.reshape(()).long()
    if classes.shape != (samples,):
        raise InputError(f"expected {samples} classes as target, one per sample, got {tuple(classes.shape)}")
    return classes.long()
