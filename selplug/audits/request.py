from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from .. import specs
from ..core.errors import InputError
from ..core.measures.unit_gradients import DIRECTIONS
from ..core.model.compiled import resolve_backend
from ..core.plugins.measure import Measure, measure
from ..core.plugins.measure import measures as checked_measures
from ..core.plugins.perturbation import BuiltPerturbation
from ..core.types import MeasureFactory, Perturb, Perturbation
from ..registry import find, load
from ..run.device import resolve_device
from .baseline import load_baseline
from .plan import AuditPlan


@dataclass(frozen=True)
class AuditRequest:
    """A plan whose names have become objects, all of them checked. ``device`` None: where the model is."""

    plan: AuditPlan
    perturbations: tuple[Perturbation, ...]
    worst_case: tuple[Perturbation, ...]
    measures: Mapping[str, Measure]
    device: torch.device | None
    amp: torch.dtype | None
    torchcompile: str | None
    baseline: Mapping[str, Any] | None = None

    @property
    def on_gradients(self) -> bool:
        """Whether a measure of gradients is among the measures."""
        return any(each.on_gradients for each in self.measures.values())

    @property
    def gradient_probes(self) -> int:
        return DIRECTIONS if self.plan.gradient_probes is None else self.plan.gradient_probes

    def digest(self) -> str:
        """SHA-256 over what decides the numbers: not the device, nor what the subject declares as ``aside``.

        Perturbations count with all their options, so that another default is another digest.
        """
        plan = self.plan.to_dict()
        aside = load("selplug.subjects", self.plan.subject).aside if self.plan.subject else ()
        decisive = {key: value for key, value in plan.items() if key not in ("schema_version", "device", *aside)}
        for key, chosen in (("perturb", self.perturbations), ("worst_case", self.worst_case)):
            decisive[key] = [[p.name, dict(p.options)] for p in chosen]
        decisive |= {"baseline": self.baseline, "gradient_probes": self.gradient_probes if self.on_gradients else None}
        text = json.dumps(decisive, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def facts(self) -> dict[str, Any]:
        """The plan as a report records it."""
        return {**self.plan.to_dict(), "digest": self.digest()}


def resolve(
    plan: AuditPlan,
    *,
    device: str | torch.device | None,
    perturbations: Sequence[str | Perturbation | Perturb] | None = None,
    worst_case: Sequence[str | Perturbation] | None = None,
    measures: Mapping[str, MeasureFactory] | None = None,
) -> AuditRequest:
    """The request that a plan stands for.

    Args:
        plan: names and numbers.
        device: where to run, None for where the model is.
        perturbations, worst_case, measures: what stands behind the plan's names where not all of it are plugins.

    Raises:
        InputError: an option, a device or a backend is not what it has to be.
        PluginError: a name is unknown, or its plugin cannot be loaded.
    """
    given = plan.perturb if perturbations is None else perturbations
    chosen = tuple(each for one in given for each in _all_of(one))
    place = resolve_device(device)
    dtype = plan.amp_dtype or ("float16" if place and place.type == "cuda" else "bfloat16")
    request = AuditRequest(
        plan=plan,
        perturbations=chosen,
        worst_case=tuple(specs.worst_case_attacks(plan.worst_case if worst_case is None else worst_case, chosen)),
        measures=checked_measures(measures) if measures else _measures(plan.measure),
        device=place,
        amp=getattr(torch, dtype) if plan.amp else None,
        torchcompile=resolve_backend(plan.torchcompile),
        baseline=load_baseline(plan.baseline) if plan.baseline else None,
    )
    for option in ("gradient_probes", "gradient_conditions"):
        if getattr(plan, option) is not None and not request.on_gradients:
            raise InputError(
                f"--{option.replace('_', '-')} ({option}=) is for measures of gradients: add --measure gradients to "
                f"the measures {', '.join(request.measures)}, or leave it out"
            )
    return request


def name_of(perturbation: str | Perturbation | Perturb) -> str:
    """What a plan calls a perturbation: its spec, or the name of the object."""
    if isinstance(perturbation, str):
        return perturbation
    if isinstance(perturbation, Perturbation):
        return perturbation.name
    if callable(perturbation):
        return str(getattr(perturbation, "__name__", type(perturbation).__name__))
    raise InputError(f"expected a spec, a Perturbation or a callable, got {type(perturbation).__name__}")


def _all_of(perturbation: str | Perturbation | Perturb) -> list[Perturbation]:
    name = name_of(perturbation)
    if isinstance(perturbation, str):
        return specs.perturbations(perturbation)
    if isinstance(perturbation, Perturbation):
        return [replace(perturbation, options=dict(perturbation.options))]
    perturb = perturbation
    kind = BuiltPerturbation(perturb, f"perturbation {name}", name).kind
    return [Perturbation(name, lambda model: perturb, kind=kind)]


def _measures(names: Sequence[str]) -> dict[str, Measure]:
    found = {name: find("selplug.measures", name) for name in names}
    return {name: measure(plugin.load(), plugin.title) for name, plugin in found.items()}
