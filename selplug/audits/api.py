"""``selplug.audit``: names resolved through the registry, progress shown, the result with its provenance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import specs
from ..core.errors import InputError
from ..core.types import MeasureFactory, Perturb, Perturbation, Subject
from ..run.device import place_of
from ..run.environment import Environment
from ..run.progress import progress_bar
from ..run.subject_flags import load_subject
from .engine.run import run_audit
from .plan import AuditPlan
from .report import Report
from .request import AuditRequest, name_of, resolve

MEASURES = AuditPlan("").measure


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
    if isinstance(measures, str):
        raise InputError(f"expected a list of measures, got the text {measures!r}")
    if seed < 0:
        raise InputError(f"expected a seed >= 0, got {seed}")
    last = specs.split_specs(worst_case) if isinstance(worst_case, str) else list(worst_case)
    plan = AuditPlan(
        model=subject.name,
        subject=None,
        perturb=tuple(map(name_of, perturbations)),
        worst_case=tuple(map(name_of, last)),
        measure=tuple(measures),
        gradient_probes=gradient_probes,
        gradient_conditions=None if gradient_conditions is None else tuple(gradient_conditions),
        layers=None if layers is None else tuple(layers),
        seed=seed,
        batch_size=getattr(subject.loader, "batch_size", None),
        device=None if device is None else str(device),
        amp=amp is not None,
        amp_dtype=str(amp).removeprefix("torch.") if amp else None,
        channels_last=channels_last,
        torchcompile="inductor" if torchcompile is True else torchcompile or None,
    )
    request = resolve(
        plan,
        device=device,
        perturbations=perturbations,
        worst_case=last,
        measures=dict(measures) if isinstance(measures, Mapping) else None,
    )
    return _audited(subject, request, progress, settings or {})


def audit_plan(plan: AuditPlan, *, progress: bool = True, settings: Mapping[str, Any] | None = None) -> Report:
    """Carries out a plan whose model and data come from a subject plugin; ``settings`` are further facts.

    Raises:
        SelplugError: bad input, in one of its children; the message says what to do.
    """
    return audit_request(request_of(plan), progress=progress, settings=settings)


def request_of(plan: AuditPlan) -> AuditRequest:
    """The request of a plan whose model and data come from a plugin: on CUDA if there is one, unless it says where."""
    if plan.subject is None:
        raise InputError("model and data of this plan were given from Python, so it cannot be carried out again")
    return resolve(plan, device=plan.device or ("cuda" if torch.cuda.is_available() else "cpu"))


def audit_request(request: AuditRequest, *, progress: bool, settings: Mapping[str, Any] | None = None) -> Report:
    """Carries out what :func:`request_of` gave."""
    plan = request.plan
    shared = {"batch_size": plan.batch_size, "seed": plan.seed, "channels_last": plan.channels_last}
    subject = load_subject(str(plan.subject), plan.model, {**plan.options, **shared})
    return _audited(subject, request, progress, settings or {})


def _audited(subject: Subject, request: AuditRequest, progress: bool, settings: Mapping[str, Any]) -> Report:
    plan = request.plan
    environment = Environment()
    with progress_bar(progress) as on_progress:
        result = run_audit(
            subject,
            request.perturbations,
            request.measures,
            worst_case=request.worst_case,
            layers=plan.layers,
            seed=plan.seed,
            device=request.device,
            amp=request.amp,
            channels_last=plan.channels_last,
            torchcompile=request.torchcompile,
            gradient_probes=request.gradient_probes,
            gradient_conditions=plan.gradient_conditions,
            on_progress=on_progress,
        )
    classes = len(result.samples_per_class)
    place = place_of(subject.model, request.device)
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
            "seed": plan.seed,
            "batch_size": getattr(subject.loader, "batch_size", None),
            "device": place.type,
            "amp": str(request.amp).removeprefix("torch.") if request.amp else None,
            "channels_last": plan.channels_last,
            "torchcompile": request.torchcompile,
            "perturbations": [_told(c.name, c.kind, c.options, c.threat) for c in result.conditions[1:]],
            "worst_case": [_told(p.name, p.kind, p.described(classes), p.threat) for p in request.worst_case],
            "measures": list(request.measures),
            "gradient_probes": request.gradient_probes if request.on_gradients else None,
            "gradient_conditions": None if plan.gradient_conditions is None else list(plan.gradient_conditions),
            "layers": None if plan.layers is None else list(plan.layers),
            "rectified_layers": [layer.name for layer in result.layers if layer.rectified],
            **({"baseline": request.baseline} if request.baseline else {}),
            **settings,
        },
        environment=environment(place),
        result=result,
        plan=request.facts(),
    )


def _told(name: str, kind: str, options: Mapping[str, Any], threat: Mapping[str, Any]) -> dict[str, Any]:
    """A perturbation as the settings of a report tell it."""
    entry = {"name": name, "kind": kind, "options": dict(options)}
    return {**entry, "threat": dict(threat)} if threat else entry
