"""``selplug.audit``: names resolved through the registry, progress shown, the result with its provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from .. import registry, specs
from ..core.errors import InputError
from ..core.measures.unit_gradients import DIRECTIONS
from ..core.model.compiled import resolve_backend
from ..core.plugins.measure import Measure, measure
from ..core.plugins.measure import measures as checked_measures
from ..core.plugins.perturbation import BuiltPerturbation
from ..core.types import MeasureFactory, Perturb, Perturbation, Subject, describe
from ..run.device import place_of, resolve_device
from ..run.environment import Environment
from ..run.progress import progress_bar
from ..specs.budgets import worst_case_attacks
from .engine.run import run_audit
from .report import Report

MEASURES = ("selectivity", "dimensionality")


def audit(
    model: nn.Module,
    loader: Iterable[Sequence[Tensor]],
    perturbations: Sequence[str | Perturbation | Perturb] = (),
    measures: Sequence[str] | Mapping[str, MeasureFactory] = MEASURES,
    layers: Sequence[str] | None = None,
    num_classes: int | None = None,
    normalize: tuple[Sequence[float], Sequence[float]] | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
    *,
    worst_case: str | Sequence[str | Perturbation] = (),
    amp: torch.dtype | None = None,
    channels_last: bool = False,
    torchcompile: bool | str | None = None,
    gradient_probes: int | None = None,
    gradient_conditions: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    name: str | None = None,
    progress: bool = True,
) -> Report:
    """Audits any classifier on any labelled images, clean and under perturbations.

    Args:
        model: takes images (N, C, H, W) normalized by ``normalize``, returns logits (N, K). Left as it was.
        loader: yields ``(images, labels)``, images in [0, 1] (or uint8), labels (N,) in [0, K); iterated at least twice
            and so not shuffled.
        perturbations: specs such as ``"pgd:eps=8/255,steps=20"``, :class:`~selplug.core.types.Perturbation` objects, or
            callables ``(images, labels) -> images``.
        measures: names of measures, or a mapping of names to measure classes.
        layers: globs over module names; None records every activation.
        num_classes: K, if it is to be checked against the model's.
        normalize: per-channel ``(mean, std)`` of the model, None if it takes images in [0, 1] as they are.
        device: where to run; None for where the model is. The model goes back afterwards.
        seed: of the perturbations and of the shuffled labels behind the null level.
        worst_case: further attacks that run on the samples that survive all others alone, as a list or as one text,
            ``"apgd:eps=2/255,fab,square"``; they count in the worst-case accuracy and are not measured. An eps left out
            is that of the others, see :func:`~selplug.specs.budgets.worst_case_attacks`.
        amp: autocast dtype of the measuring passes; attacks run in float32.
        channels_last: memory format of the images.
        torchcompile: True or the name of a backend of ``torch.compile`` compiles what attacks see of the model; the
            passes that measure run uncompiled.
        gradient_probes: directions per image for the measure ``gradients``, an even number; None for 16. Its passes run
            in float32.
        gradient_conditions: globs over names of conditions that these are measured in; None for all, ``["clean"]`` for
            clean images alone.
        class_names: K names for the report.
        name: what to call the model in the report; its class by default.
        progress: a progress bar on the terminal's error stream.

    Raises:
        SelplugError: bad input, in one of its children; the message says what to do.
    """
    subject = Subject(
        model,
        loader,
        num_classes=num_classes,
        normalize=normalize,
        name=name or type(model).__name__,
        class_names=class_names,
    )
    return audit_subject(
        subject,
        perturbations,
        measures,
        layers,
        device=device,
        seed=seed,
        worst_case=worst_case,
        amp=amp,
        channels_last=channels_last,
        torchcompile=torchcompile,
        gradient_probes=gradient_probes,
        gradient_conditions=gradient_conditions,
        progress=progress,
    )


def audit_subject(
    subject: Subject,
    perturbations: Sequence[str | Perturbation | Perturb] = (),
    measures: Sequence[str] | Mapping[str, MeasureFactory] = MEASURES,
    layers: Sequence[str] | None = None,
    *,
    device: str | torch.device | None = None,
    seed: int = 0,
    worst_case: str | Sequence[str | Perturbation] = (),
    amp: torch.dtype | None = None,
    channels_last: bool = False,
    torchcompile: bool | str | None = None,
    gradient_probes: int | None = None,
    gradient_conditions: Sequence[str] | None = None,
    progress: bool = True,
    settings: Mapping[str, Any] | None = None,
) -> Report:
    """:func:`audit` of a :class:`~selplug.core.types.Subject`; ``settings`` are further facts for the report."""
    if seed < 0:
        raise InputError(f"expected a seed >= 0, got {seed}")
    chosen = [each for perturbation in perturbations for each in _perturbations(perturbation)]
    last = worst_case_attacks(worst_case, chosen)
    factories = _measures(measures)
    on_gradients = any(each.on_gradients for each in factories.values())
    given = {"gradient_probes": gradient_probes, "gradient_conditions": gradient_conditions}
    for option, value in given.items():
        if value is not None and not on_gradients:
            raise InputError(
                f"--{option.replace('_', '-')} ({option}=) is for measures of gradients: add --measure gradients to "
                f"the measures {', '.join(factories)}, or leave it out"
            )
    probes = DIRECTIONS if gradient_probes is None else gradient_probes
    place, backend = resolve_device(device), resolve_backend(torchcompile)
    environment = Environment()
    with progress_bar(progress) as on_progress:
        result = run_audit(
            subject,
            chosen,
            factories,
            worst_case=last,
            layers=layers,
            seed=seed,
            device=place,
            amp=amp,
            channels_last=channels_last,
            torchcompile=backend,
            gradient_probes=probes,
            gradient_conditions=gradient_conditions,
            on_progress=on_progress,
        )
    classes = len(result.samples_per_class)
    place = place_of(subject.model, place)
    return Report(
        subject={
            "model": subject.name,
            "parameters": sum(parameter.numel() for parameter in subject.model.parameters()),
            "num_classes": classes,
            "class_names": list(subject.class_names) if subject.class_names else None,
            "mean": list(subject.normalize[0]) if subject.normalize else None,
            "std": list(subject.normalize[1]) if subject.normalize else None,
            **subject.info,
            "data": {
                **subject.info.get("data", {}),
                "samples": sum(result.samples_per_class),
                "samples_per_class": list(result.samples_per_class),
                "samples_digest": result.samples_digest,
                "skipped": sorted(set(subject.skipped)),
            },
        },
        settings={
            "seed": seed,
            "batch_size": getattr(subject.loader, "batch_size", None),
            "device": place.type,
            "amp": str(amp).removeprefix("torch.") if amp else None,
            "channels_last": channels_last,
            "torchcompile": backend,
            "perturbations": [describe(perturbation, classes, result.facts) for perturbation in chosen],
            "worst_case": [describe(perturbation, classes, {}) for perturbation in last],
            "measures": list(factories),
            "gradient_probes": probes if on_gradients else None,
            "gradient_conditions": list(gradient_conditions) if gradient_conditions is not None else None,
            "layers": list(layers) if layers is not None else None,
            "rectified_layers": [layer.name for layer in result.layers if layer.rectified],
            **(settings or {}),
        },
        environment=environment(place),
        result=result,
    )


def _perturbations(perturbation: str | Perturbation | Perturb) -> list[Perturbation]:
    if isinstance(perturbation, str):
        return specs.perturbations(perturbation)
    if isinstance(perturbation, Perturbation):
        return [replace(perturbation, options=dict(perturbation.options))]
    if callable(perturbation):
        perturb = perturbation
        name = getattr(perturb, "__name__", type(perturb).__name__)
        kind = BuiltPerturbation(perturb, f"perturbation {name}", name).kind
        return [Perturbation(name, lambda model: perturb, kind=kind)]
    raise InputError(f"expected a spec, a Perturbation or a callable, got {type(perturbation).__name__}")


def _measures(measures: Sequence[str] | Mapping[str, MeasureFactory]) -> dict[str, Measure]:
    if isinstance(measures, Mapping):
        return checked_measures(measures)
    if isinstance(measures, str):
        raise InputError(f"expected a list of measures, got the text {measures!r}")
    found = {name: registry.find("selplug.measures", name) for name in measures}
    return {name: measure(plugin.load(), plugin.title) for name, plugin in found.items()}
