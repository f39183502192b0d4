"""The audit: a subject under perturbations, every layer measured, one pass over the data."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from . import functional
from .capture import Capture, Layer, find_layers, uncompiled
from .errors import InputError
from .intake import count_classes, image_batch, survey, to_unit_range
from .perturb import Perturbed, UnitRangeModel, batch_seed, run_perturbation
from .probe import probe
from .probes import PROBES, UnitGradients, check_probes, unit_gradients
from .state import deterministic, frozen, placed
from .types import (
    AuditResult,
    Condition,
    Examples,
    LayerResult,
    MeasureFactory,
    Perturb,
    Perturbation,
    Probe,
    Samples,
    Sections,
    Step,
    Subject,
    TargetSuccess,
    WorstCase,
)
from .values import plain_values, sort_values

logger = logging.getLogger("selplug")

CLEAN = "clean"
#: Sums of all conditions are kept at once up to this many bytes; beyond it the data is read in several passes.
STATE_BYTES = 2 * 2**30
NUM_EXAMPLES = 6
#: An image lies in a ball if it leaves it by no more than this, which is rounding.
BALL_TOLERANCE = 1e-5

#: ``(condition, samples done, samples in all)``, samples counted once per condition.
Progress = Callable[[str, int, int], None]


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
    gradient_probes: int = PROBES,
    on_progress: Progress | None = None,
    state_bytes: int = STATE_BYTES,
) -> AuditResult:
    """Measures every layer and the accuracy of a subject, clean and under each perturbation.

    The model is in eval mode while it runs and is left as it was. Perturbations run in float32; ``amp`` is the autocast
    dtype of the passes that measure. All perturbations see the same seeds, one per batch. Measures with a true
    ``on_gradients`` are fed with :func:`unit_gradients` from ``gradient_probes`` directions instead of responses; the
    directions are the same for all conditions. What a factory returns may have a method ``prepare(subject)``, called
    before anything is measured; a subject that it gives back is measured in its place, as a condition with images of
    its own.

    Args:
        worst_case: attacks for the worst-case accuracy alone. Each runs only on the samples that are right under
            everything before it: clean, the attacks among ``perturbations``, and those before it here. Where those of
            them that have a ball all have the same one, an image counts in the worst case only if it lies in it.

    Raises:
        InputError: images, labels or logits are not what they have to be, or what is no attack is in ``worst_case``.
        CaptureError: the model has nothing to record.
        PerturbationError: a perturbation broke its promise.
    """
    names = [CLEAN, *(perturbation.name for perturbation in perturbations)]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"each condition needs its own name, but {', '.join(repeated)} comes twice")
    check_probes(gradient_probes)
    for perturbation in worst_case:
        if perturbation.kind != "attack":
            raise InputError(f"the worst case is taken over attacks, but {perturbation.name} is {perturbation.kind}")
    targets = survey(subject, measures)
    model = uncompiled(subject.model)
    # Attacks need gradients whatever mode the caller is in: tensors made in inference mode can never have any.
    with torch.inference_mode(False), placed(model, device) as place, deterministic(), frozen(model):
        first = to_unit_range(next(iter(subject.loader))[0])[:2].to(place)
        num_classes = count_classes(model, subject, first, targets, channels_last)
        wrapped = UnitRangeModel(model, subject.normalize, num_classes, channels_last)
        found = find_layers(model, wrapped.prepare(first), layers)
        logger.info("%d layers, %d units", len(found), sum(layer.units for layer in found))
        built = [(p, p.factory(wrapped, **p.options)) for p in (*perturbations, *worst_case)]
        paired: list[tuple[Perturbation, Perturb]] = []
        others: list[_Run] = []
        for _, perturb in built:
            if hasattr(perturb, "check"):
                perturb.check(first)
        for perturbation, perturb in built[: len(perturbations)]:
            other = perturb.prepare(subject) if hasattr(perturb, "prepare") else None
            if other is None:
                paired.append((perturbation, perturb))
                continue
            name, spec = perturbation.name, perturbation.spec
            try:
                labels = survey(other, measures)
                images = to_unit_range(next(iter(other.loader))[0])[:2].to(place)
                count_classes(model, other, images, labels, channels_last)
            except InputError as error:
                raise InputError(f"{name}: {error}") from error
            others.append(
                _Run(
                    other, wrapped, found, measures, labels, seed, place, amp, gradient_probes, on_progress, name, spec
                )
            )
        run = _Run(subject, wrapped, found, measures, targets, seed, place, amp, gradient_probes, on_progress)
        result = run.result(paired, built[len(perturbations) :], state_bytes)
        return _joined(result, [other.result([], [], state_bytes) for other in others], names)


def _joined(result: AuditResult, others: Sequence[AuditResult], names: Sequence[str]) -> AuditResult:
    """A result with the conditions of others that were measured on images of their own, in the order of ``names``."""
    if not others:
        return result
    conditions = {c.name: c for c in result.conditions}
    for other in others:
        (own,) = other.conditions
        conditions[own.name] = replace(own, l2_mean=None, linf_max=None)
    layers = []
    for layer, *same in zip(result.layers, *(other.layers for other in others), strict=True):
        sections = dict(layer.conditions) | {name: value for each in same for name, value in each.conditions.items()}
        arrays = dict(layer.arrays) | {key: array for each in same for key, array in each.arrays.items()}
        ordered = {name: sections[name] for name in names if name in sections}
        layers.append(replace(layer, conditions=ordered, arrays=arrays))
    return replace(result, conditions=tuple(conditions[name] for name in names), layers=tuple(layers))


@dataclass
class _State:
    """What is summed over one condition, and over its difference from clean."""

    measures: dict[str, dict[str, Metric]]
    differences: dict[str, dict[str, Metric]]
    pairs: dict[str, dict[str, Metric]]
    correct: int = 0
    samples: int = 0
    l2_sum: float = 0.0
    linf_max: float = 0.0
    aimed: int | None = None
    hits: int = 0

    def bytes(self) -> int:
        tables = (self.measures, self.differences, self.pairs)
        metrics = [metric for table in tables for layer in table.values() for metric in layer.values()]
        tensors = [getattr(metric, name) for metric in metrics for name in metric._defaults]
        # Twice: torchmetrics keeps a copy of each state to reset it.
        return 2 * sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))


@dataclass
class _Run:
    subject: Subject
    model: UnitRangeModel
    layers: tuple[Layer, ...]
    measures: Mapping[str, MeasureFactory]
    targets: Tensor
    seed: int
    device: torch.device
    amp: torch.dtype | None
    gradient_probes: int
    on_progress: Progress | None
    name: str = CLEAN
    spec: str = ""
    done: int = 0
    total: int = 0
    conditions: list[Condition] = field(default_factory=list)
    values: dict[str, dict[str, Sections]] = field(default_factory=dict)
    differences: dict[str, dict[str, Sections]] = field(default_factory=dict)
    arrays: dict[str, dict[tuple[str, str], np.ndarray]] = field(default_factory=dict)
    pictures: dict[str, list[np.ndarray]] = field(default_factory=dict)
    predictions: dict[str, list[int]] = field(default_factory=dict)
    ball: tuple[str, float] | None = None
    probe: Probe | None = None
    first_correct: dict[str, int] = field(default_factory=dict)
    between_layers: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Measures see the classes that have samples, as 0 to C - 1: a head may have 20,000 more.
        present, self.classes = torch.unique(self.targets, return_inverse=True)
        self.num_present = len(present)
        self.shuffled = functional.shuffle_targets(self.classes, self.seed)
        self.survived = torch.ones(len(self.targets), dtype=torch.bool)
        self.indices = range(len(self.targets)) if self.subject.indices is None else self.subject.indices
        self.shown = np.unique(np.linspace(0, len(self.targets) - 1, NUM_EXAMPLES).astype(int))
        self.arrays = {layer.name: {} for layer in self.layers}
        self.on_gradients = any(getattr(factory, "on_gradients", False) for factory in self.measures.values())

    def result(
        self,
        attacks: list[tuple[Perturbation, Perturb]],
        last: list[tuple[Perturbation, Perturb]],
        state_bytes: int,
    ) -> AuditResult:
        per_pass = max(1, state_bytes // max(1, self._new_state(difference=True).bytes()))
        groups = [attacks[i : i + per_pass] for i in range(0, len(attacks), per_pass)] or [[]]
        if len(groups) > 1:
            logger.info("the sums of all conditions are large: the data is read in %d passes", len(groups))
        self.total = len(self.targets) * (len(attacks) + len(groups) + len(last))
        balls = {(t["norm"], float(t["eps"])) for p, _ in last if "eps" in (t := p.threat)}
        self.ball = balls.pop() if len(balls) == 1 else None
        self.attacked = [p for p, _ in attacks if p.kind == "attack"]
        self.steps = [Step(p.name, 0, 0) for p, _ in last]
        for number, group in enumerate(groups):
            # Who survived all others is known in the last pass, batch by batch.
            self._pass(group, last if number == len(groups) - 1 else [], measure_clean=number == 0)
        if self.probe:
            noise = {name: (right, self.first_correct[name]) for name, (right, _) in self.probe.noise.items()}
            self.probe = replace(self.probe, noise=noise)
        return AuditResult(
            conditions=tuple(self.conditions),
            worst_case=self._worst_case() if self.attacked or last else None,
            layers=tuple(self._layer_result(layer) for layer in self.layers),
            between_layers=self.between_layers,
            samples_digest=_digest(self.targets, self.subject),
            samples_per_class=tuple(torch.bincount(self.targets, minlength=self.model.num_classes).tolist()),
            examples=Examples(
                labels=tuple(self.targets[torch.from_numpy(self.shown)].tolist()),
                images={name: np.stack(pictures) for name, pictures in self.pictures.items()},
                predictions={name: tuple(classes) for name, classes in self.predictions.items()},
            ),
            facts={p.name: dict(perturb.facts) for p, perturb in attacks if hasattr(perturb, "facts")},
            probe=self.probe,
        )

    def _worst_case(self) -> WorstCase:
        survivors, samples = int(self.survived.sum()), len(self.targets)
        return WorstCase(
            accuracy=survivors / samples,
            accuracy_ci95=functional.wilson_interval(survivors, samples),
            samples=samples,
            conditions=(CLEAN, *(p.name for p in self.attacked), *(step.name for step in self.steps)),
            norm=self.ball[0] if self.ball else None,
            eps=self.ball[1] if self.ball else None,
            steps=tuple(self.steps),
        )

    def _pass(
        self,
        attacks: list[tuple[Perturbation, Perturb]],
        last: list[tuple[Perturbation, Perturb]],
        measure_clean: bool,
    ) -> None:
        """One pass over the data: clean, a group of perturbations, and the attacks on survivors alone."""
        states = {p.name: self._new_state(difference=True) for p, _ in attacks}
        clean_state = self._new_state(difference=False) if measure_clean else None
        between = self._new_between() if measure_clean else {}
        for number, (start, images, labels) in enumerate(self._batches()):
            where = slice(start, start + len(labels))
            if number == 0 and measure_clean and (self.attacked or self.steps):
                self.probe = probe(self.model, images, labels.to(self.device), self.attacked, self.seed)
            clean = self._observe(self.name, images, where, clean_state)
            for metric in between.values():
                metric.update(list(clean.values()))
            for perturbation, perturb in attacks:
                state = states[perturbation.name]
                perturbed = run_perturbation(
                    self.model,
                    perturb,
                    images,
                    labels.to(self.device),
                    seed=batch_seed(self.seed, number),
                    name=perturbation.name,
                    samples=Samples(self.indices[where], self.seed, self.subject.names and self.subject.names[where]),
                )
                state.l2_sum += float(perturbed.l2.sum())
                state.linf_max = max(state.linf_max, float(perturbed.linf.max()))
                responses = self._observe(
                    perturbation.name, perturbed.images, where, state, perturbed, perturbation.kind == "attack"
                )
                self._update(state.differences, {k: responses[k] - clean[k] for k in state.differences}, where)
                for layer, table in state.pairs.items():
                    for metric in table.values():
                        metric.update(clean[layer], responses[layer])
            for place, (perturbation, perturb) in enumerate(last):
                self._attack_survivors(
                    place, perturbation, perturb, images, labels, where, batch_seed(self.seed, number)
                )
        if clean_state:
            self._finish(self.name, self.spec, clean_state)
            self.between_layers = {name: plain_values(metric.compute()) for name, metric in between.items()}
        for perturbation, _ in attacks:
            self._finish(perturbation.name, perturbation.spec, states[perturbation.name])

    def _batches(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        start = 0
        for images, labels in map(image_batch, self.subject.loader):
            if not torch.equal(labels.cpu().long(), self.targets[start : start + len(labels)]):
                raise InputError(
                    "the loader gave other samples than before; it has to give the same ones in the same order each "
                    "time: turn shuffling off"
                )
            yield start, to_unit_range(images).to(self.device), labels.long()
            start += len(labels)
        if start != len(self.targets):
            raise InputError(f"the loader gave {start} samples, but {len(self.targets)} were announced")

    def _attack_survivors(
        self,
        place: int,
        perturbation: Perturbation,
        perturb: Perturb,
        images: Tensor,
        labels: Tensor,
        where: slice,
        seed: int,
    ) -> None:
        """One attack on those samples of a batch that are right under everything so far."""
        left = self.survived[where].nonzero().flatten()
        if len(left):
            perturbed = run_perturbation(
                self.model,
                perturb,
                images[left.to(self.device)],
                labels[left.to(labels.device)].to(self.device),
                seed=seed,
                name=perturbation.name,
                samples=Samples([self.indices[where.start + i] for i in left.tolist()], self.seed),
            )
            classes = self._logits(perturbation.name, perturbed.images, where).argmax(1).cpu()
            right = (classes == self.targets[where][left]) | self._outside(perturbed)
            self.survived[where.start + left] = right
            step = self.steps[place]
            self.steps[place] = Step(step.name, step.samples + len(left), step.survived + int(right.sum()))
        self._advance(perturbation.name, len(images))

    def _outside(self, perturbed: Perturbed) -> Tensor:
        """Which images (N,) do not count in the worst case, since they lie outside of its ball."""
        if self.ball is None:
            return torch.zeros(len(perturbed.images), dtype=torch.bool)
        norm, eps = self.ball
        sizes = perturbed.linf if norm == "Linf" else perturbed.l2
        return (sizes > eps + BALL_TOLERANCE).cpu()

    def _logits(self, name: str, images: Tensor, where: slice) -> Tensor:
        autocast = torch.autocast(self.device.type, dtype=self.amp, enabled=self.amp is not None)
        with torch.no_grad(), autocast:
            logits: Tensor = self.model(images)
        if not torch.isfinite(logits).all():
            bad = int((~torch.isfinite(logits)).any(1).sum())
            raise InputError(
                f"{name}: the model gave logits that are not finite for {bad} of the samples {where.start} to "
                f"{where.stop - 1}; check the weights, the normalization, or leave out --amp"
            )
        return logits

    def _observe(
        self,
        name: str,
        images: Tensor,
        where: slice,
        state: _State | None,
        perturbed: Perturbed | None = None,
        is_attack: bool = True,
    ) -> dict[str, Tensor]:
        """One forward pass that measures; returns the responses of every layer."""
        with Capture(self.model.model, self.layers) as capture:
            logits = self._logits(name, images, where)
        responses = capture.responses
        if state is not None:
            if self.subject.candidates is not None:
                chosen = torch.tensor(self.subject.candidates, device=logits.device)
                logits = torch.full_like(logits, -torch.inf).index_copy(1, chosen, logits[:, chosen])
            classes = logits.argmax(1).cpu()
            correct = classes == self.targets[where]
            state.correct += int(correct.sum())
            state.samples += len(correct)
            if where.start == 0:
                self.first_correct[name] = int(correct.sum())
            if is_attack:
                self.survived[where] &= correct if perturbed is None else correct | self._outside(perturbed)
            if perturbed is not None and perturbed.targets is not None:
                targets = perturbed.targets.cpu()
                aimed = targets != self.targets[where]
                state.aimed = (state.aimed or 0) + int(aimed.sum())
                state.hits += int((aimed & (classes == targets)).sum())
            self._update(state.measures, responses, where, self._gradients(images, where))
            for index in self.shown[(self.shown >= where.start) & (self.shown < where.stop)] - where.start:
                picture = (images[index] * 255).round().to(torch.uint8).cpu().numpy()
                self.pictures.setdefault(name, []).append(picture)
                self.predictions.setdefault(name, []).append(int(classes[index]))
        self._advance(name, len(images))
        return responses

    def _advance(self, name: str, samples: int) -> None:
        self.done += samples
        if self.on_progress:
            self.on_progress(name, self.done, self.total)

    def _gradients(self, images: Tensor, where: slice) -> dict[str, UnitGradients]:
        if not self.on_gradients:
            return {}
        # Not the seed of the perturbations: noise would lie along the first direction.
        seed = batch_seed(self.seed, where.start, 1)
        return unit_gradients(self.model, self.layers, images, self.gradient_probes, seed)

    def _update(
        self,
        metrics: dict[str, dict[str, Metric]],
        responses: dict[str, Tensor],
        where: slice,
        gradients: Mapping[str, UnitGradients] | None = None,
    ) -> None:
        targets, shuffled = self.classes[where].to(self.device), self.shuffled[where].to(self.device)
        for layer, table in metrics.items():
            for metric in table.values():
                if gradients and getattr(metric, "on_gradients", False):
                    metric.update(gradients[layer], targets)
                elif _takes_shuffled(metric):
                    metric.update(responses[layer], targets, shuffled_targets=shuffled)
                else:
                    metric.update(responses[layer], targets)

    def _new_state(self, difference: bool) -> _State:
        def build(factories: Mapping[str, MeasureFactory]) -> dict[str, dict[str, Metric]]:
            if not factories:
                return {}
            return {
                layer.name: {
                    name: factory(num_units=layer.units, num_classes=self.num_present, seed=self.seed).to(self.device)
                    for name, factory in factories.items()
                }
                for layer in self.layers
            }

        def those_with(attribute: str) -> dict[str, MeasureFactory]:
            return {n: f for n, f in self.measures.items() if getattr(f, attribute, False)}

        pairs = those_with("on_pairs")
        single = {n: f for n, f in self.measures.items() if n not in pairs}
        if not difference:
            return _State(build(single), {}, {})
        return _State(build(single), build(those_with("on_differences")), build(pairs))

    def _new_between(self) -> dict[str, Metric]:
        units = [layer.units for layer in self.layers]
        factories = {n: getattr(f, "between_layers", None) for n, f in self.measures.items()}
        return {
            name: factory(num_units=units, num_classes=self.num_present, seed=self.seed).to(self.device)
            for name, factory in factories.items()
            if factory is not None
        }

    def _finish(self, name: str, spec: str, state: _State) -> None:
        """Turns sums into numbers and lets the sums go."""
        if self.on_progress:  # the eigenvalues of wide layers take a while
            self.on_progress(f"{name}: computing", self.done, self.total)
        self.conditions.append(
            Condition(
                name=name,
                spec=spec or name,
                accuracy=state.correct / state.samples,
                accuracy_ci95=functional.wilson_interval(state.correct, state.samples),
                samples=state.samples,
                l2_mean=state.l2_sum / state.samples,
                linf_max=state.linf_max,
                targeted=_target_success(state),
            )
        )
        own = {
            layer.name: {**state.measures.get(layer.name, {}), **state.pairs.get(layer.name, {})}
            for layer in self.layers
        }
        for prefix, metrics, values in (
            ("", own, self.values),
            ("difference:", state.differences, self.differences),
        ):
            for layer, table in metrics.items():
                sections, arrays = sort_values({measure: metric.compute() for measure, metric in table.items()})
                values.setdefault(layer, {})[name] = sections
                self.arrays[layer].update({(prefix + name, key): array for key, array in arrays.items()})

    def _layer_result(self, layer: Layer) -> LayerResult:
        values = self.values.get(layer.name, {})
        return LayerResult(
            name=layer.name,
            kind=layer.kind,
            units=layer.units,
            dead_units=values.get(CLEAN, {}).get("selectivity", {}).get("dead_units"),
            conditions=values,
            differences=self.differences.get(layer.name, {}),
            rectified=layer.rectified,
            arrays=self.arrays[layer.name],
        )


def _target_success(state: _State) -> TargetSuccess | None:
    if not state.aimed:
        return None if state.aimed is None else TargetSuccess(None, None, 0)
    return TargetSuccess(
        state.hits / state.aimed, functional.wilson_interval(state.hits, state.aimed), samples=state.aimed
    )


def _digest(targets: Tensor, subject: Subject) -> str:
    which = subject.indices if subject.names is None else subject.names
    text = json.dumps([targets.tolist(), None if which is None else list(which)])
    return hashlib.sha256(text.encode()).hexdigest()


def _takes_shuffled(metric: Metric) -> bool:
    return "shuffled_targets" in inspect.signature(type(metric).update).parameters
