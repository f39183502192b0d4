"""Any perturbation of selplug's registry as a ``captum.robust.Perturbation``.

It lets ``AttackComparator`` and ``MinParamPerturbation`` run every attack, noise and corruption of ``selplug plugins``.
Captum's own ``FGSM`` and ``PGD`` take the logarithm of the model's output, which must be probabilities: with logits,
they move in the wrong direction where a logit is negative. The perturbations here take logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from captum.robust import Perturbation
from torch import Tensor, nn

from selplug import specs
from selplug.core.errors import InputError
from selplug.core.model.state import frozen
from selplug.core.model.unit_range import UnitRangeModel
from selplug.core.perturb import TOLERANCE, batch_seed, run_perturbation


class RegistryPerturbation(Perturbation):
    """A perturbation given by its spec, as in ``selplug audit --perturb``.

    >>> smallest = MinParamPerturbation(
    ...     model, RegistryPerturbation(model, "pgd", normalize=(mean, std)), "eps", 0.0, 0.1, 1 / 255,
    ...     preproc_fn=normalize, apply_before_preproc=True,
    ... )
    >>> adversarial, eps = smallest.evaluate(images, target=labels, attack_kwargs={"target": labels})

    The model and the random generators are left unchanged. Call n (from 0) has the seed of batch n in an audit: calls
    differ from each other, and a new object repeats the same sequence.

    Args:
        forward_func: the classifier, images -> logits (N, K).
        spec: ``name`` or ``name:key=value,key=value``; sizes in pixel units of [0, 1].
        normalize: the model's normalization as (mean, std) per channel, None if it takes images in [0, 1].
        normalized_inputs: ``perturb`` takes and returns normalized images. Captum's tools pass such images without
            ``preproc_fn``, or with ``apply_before_preproc=False``.
        seed: seed of all calls.

    Raises:
        InputError: an option of the spec or a value is wrong, or ``forward_func`` is not a module.
        PluginError: there is no perturbation of this name.
    """

    def __init__(
        self,
        forward_func: nn.Module,
        spec: str,
        *,
        normalize: tuple[Sequence[float], Sequence[float]] | None = None,
        normalized_inputs: bool = False,
        seed: int = 0,
    ) -> None:
        if not isinstance(forward_func, nn.Module):
            raise InputError(f"expected the model as nn.Module, got {type(forward_func).__name__}")
        if normalized_inputs and normalize is None:
            raise InputError("normalized_inputs needs the normalization: give normalize=(mean, std)")
        self.perturbation = specs.perturbation(spec)
        self.model = UnitRangeModel(forward_func, normalize, 0)
        self.normalized_inputs = normalized_inputs
        self.seed = seed
        self.calls = 0

    def perturb(self, inputs: Any, target: Any = None, **options: Any) -> Any:
        """Perturbed images, with the type and shape of ``inputs``.

        Args:
            inputs: (N, C, H, W) in float32, or a tuple of this one tensor; in [0, 1] unless ``normalized_inputs``.
            target: the true classes: one number for all, or (N,). Noise and corruptions need none.
            options: override those of the spec, so that ``MinParamPerturbation`` can vary them.

        Raises:
            InputError: inputs, target or options are wrong.
            PerturbationError: the perturbation returned invalid images.
        """
        images = inputs[0] if isinstance(inputs, tuple) and len(inputs) == 1 else inputs
        if not isinstance(images, Tensor):
            what = f"{len(inputs)} inputs" if isinstance(inputs, tuple) else type(inputs).__name__
            raise InputError(f"expected one tensor of images (N, C, H, W), got {what}")
        unit = self._unit_range(images) if self.normalized_inputs else images
        name, factory = self.perturbation.name, self.perturbation.factory
        checked = specs.check_options(name, factory, {**self.perturbation.options, **options})
        if not self.model.num_classes:
            with torch.no_grad(), frozen(self.model):
                self.model.num_classes = self.model(unit[:1]).shape[1]
        result = run_perturbation(
            self.model,
            replace(self.perturbation, options=checked).build(self.model),
            unit,
            self._labels(target, images),
            seed=batch_seed(self.seed, self.calls),
            name=name,
        ).images
        self.calls += 1
        if self.normalized_inputs:
            result = (result - self.model.mean) / self.model.std
        return (result,) if isinstance(inputs, tuple) else result

    def _unit_range(self, images: Tensor) -> Tensor:
        """Undoes the normalization and corrects rounding errors; values further outside [0, 1] are an error later."""
        unit = images.detach() * self.model.std + self.model.mean
        return torch.where((unit - unit.clamp(0, 1)).abs() <= TOLERANCE, unit.clamp(0, 1), unit)

    def _labels(self, target: Any, images: Tensor) -> Tensor:
        if target is None:
            if self.perturbation.kind == "attack":
                raise InputError(
                    f"{self.perturbation.name} needs the true classes: give target. AttackComparator.add_attack takes "
                    'it as additional_attack_arg_names=["target"], MinParamPerturbation.evaluate as '
                    'attack_kwargs={"target": ...}'
                )
            target = 0
        labels = torch.as_tensor(target, device=images.device)
        if labels.is_floating_point() or labels.numel() not in (1, len(images)) or labels.ndim > 1:
            raise InputError(
                f"expected as target a class number or ({len(images)},) of them, got {labels.dtype} of shape "
                f"{tuple(labels.shape)}"
            )
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= self.model.num_classes:
            raise InputError(f"expected as target classes from 0 to {self.model.num_classes - 1}, got {low} to {high}")
        return labels.long().reshape(-1).expand(len(images))
