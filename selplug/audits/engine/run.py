"""The audit: a subject under perturbations, every layer measured, one pass over the data."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import torch

from ...core.clean import CLEAN
from ...core.errors import InputError
from ...core.inputs import count_classes, to_unit_range
from ...core.measures.unit_gradients import DIRECTIONS, check_directions
from ...core.model.capture import find_layers, uncompiled
from ...core.model.compiled import CompiledModel
from ...core.model.settings import deterministic
from ...core.model.state import frozen, placed, uncompiled_calls
from ...core.model.unit_range import UnitRangeModel
from ...core.plugins.measure import measures as checked_measures
from ...core.types import STATE_BYTES, MeasureFactory, Perturbation, Progress, Subject
from .batches import survey
from .collect import joined
from .passes import AuditSetup, Built, Passes
from .results import AuditResult

logger = logging.getLogger("selplug")


def run_audit(
    subject: Subject,
    perturbations: Sequence[Perturbation],
    measures: Mapping[str, MeasureFactory],
    *,
    worst_case: Sequence[Perturbation] = (),
    layers: Sequence[str] | None = None,
    seed: int = 0,
    device: torch.device | None = None,
    amp: torch.dtype | None = None,
    channels_last: bool = False,
    torchcompile: str | None = None,
    gradient_probes: int = DIRECTIONS,
    gradient_conditions: Sequence[str] | None = None,
    on_progress: Progress | None = None,
    state_bytes: int = STATE_BYTES,
) -> AuditResult:
    """Measures every layer and the accuracy of a subject, clean and under each perturbation.

    The model is in eval mode while it runs and is left as it was. Perturbations run in float32; ``amp`` is the autocast
    dtype of the passes that measure. All perturbations see the same seeds, one per batch. Measures with a true
    ``on_gradients`` are fed with :func:`unit_gradients` from ``gradient_probes`` directions instead of responses; the
    directions are the same for all conditions. Gradients cost many forward passes, so ``gradient_conditions``, globs
    over names of conditions, can limit them. What a factory returns may have a method ``prepare(subject)``, called
    before anything is measured; a subject that it gives back is measured in its place, as a condition with images of
    its own.

    Args:
        torchcompile: backend of ``torch.compile`` for the model that perturbations get, see :class:`CompiledModel`.
        worst_case: attacks for the worst-case accuracy alone. Each runs only on the samples that are right under
            everything before it: clean, the attacks among ``perturbations``, and those before it here. Where those of
            them that have a ball all have the same one, an image counts in the worst case only if it lies in it.

    Raises:
        InputError: images, labels or logits are not what they have to be, what is no attack is in ``worst_case``, or
            the model cannot be compiled.
        CaptureError: the model has nothing to record.
        PerturbationError: a perturbation broke its promise.
        PluginError: a plugin breaks its contract, or fails while it runs.
    """
    names = [CLEAN, *(perturbation.name for perturbation in perturbations)]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"each condition needs its own name, but {', '.join(repeated)} comes twice")
    check_directions(gradient_probes)
    for glob in gradient_conditions or ():
        if not any(fnmatchcase(name, glob) for name in names):
            raise InputError(
                f"--gradient-conditions (gradient_conditions=): {glob!r} is none of the conditions {', '.join(names)}"
            )
    for perturbation in worst_case:
        if perturbation.kind != "attack":
            raise InputError(f"the worst case is taken over attacks, but {perturbation.name} is {perturbation.kind}")
    chosen = checked_measures(measures)
    targets = survey(subject, chosen)
    model = uncompiled(subject.model)
    # Attacks need gradients whatever mode the caller is in: tensors made in inference mode can never have any.
    with (
        torch.inference_mode(False),
        placed(model, device) as place,
        deterministic(),
        frozen(model),
        uncompiled_calls(model),
    ):
        batch = to_unit_range(next(iter(subject.loader))[0]).to(place)
        first = batch[:2]
        num_classes = count_classes(model, subject, first, targets, channels_last)
        wrapped = UnitRangeModel(model, subject.normalize, num_classes, channels_last)
        found = find_layers(model, wrapped.prepare(first), layers)
        logger.info("%d layers, %d units", len(found), sum(layer.units for layer in found))
        setup = AuditSetup(wrapped, found, chosen, seed, place, amp, gradient_probes, gradient_conditions, on_progress)
        attacked = CompiledModel(wrapped, torchcompile, batch) if torchcompile else wrapped
        built = [(p, p.build(attacked)) for p in (*perturbations, *worst_case)]
        for _, perturb in built:
            perturb.check(first)
        paired: list[Built] = []
        others: list[Passes] = []
        for perturbation, perturb in built[: len(perturbations)]:
            other = perturb.prepare(subject)
            if other is None:
                paired.append((perturbation, perturb))
            else:
                others.append(_unpaired(setup, other, perturbation))
        result = Passes(setup, subject, targets).run(paired, built[len(perturbations) :], state_bytes)
        return joined(result, [other.run([], [], state_bytes) for other in others], names)


def _unpaired(setup: AuditSetup, subject: Subject, perturbation: Perturbation) -> Passes:
    """The passes over images of their own, checked like those of the audit's own subject."""
    try:
        labels = survey(subject, setup.measures)
        images = to_unit_range(next(iter(subject.loader))[0])[:2].to(setup.device)
        count_classes(setup.model.model, subject, images, labels, setup.model.channels_last)
    except InputError as error:
        raise InputError(f"{perturbation.name}: {error}") from error
    return Passes(setup, subject, labels, perturbation)
