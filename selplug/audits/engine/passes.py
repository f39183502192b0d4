"""The passes over the data that an audit takes: every batch clean, perturbed, and attacked where it survived."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor

from ...core.clean import CLEAN
from ...core.measures.unit_gradients import UnitGradients, unit_gradients
from ...core.model.capture import Capture
from ...core.model.layers import Layer
from ...core.model.unit_range import UnitRangeModel
from ...core.perturb import Perturbed, batch_seed, run_perturbation
from ...core.plugins.blame import blamed
from ...core.plugins.measure import Measure
from ...core.plugins.perturbation import BuiltPerturbation
from ...core.types import Perturbation, Progress, Samples, Subject
from .attack_probe import probe_attacks
from .batches import batches, digest, finite_logits
from .collect import Collector
from .condition_sums import ConditionSums
from .examples import ExampleKeeper
from .layer_metrics import LayerMetrics
from .plain_values import plain_values
from .results import AttackProbe, AuditResult
from .survivors import Survivors

logger = logging.getLogger("selplug")


#: A perturbation as asked for, and what its factory made for the model.
Built = tuple[Perturbation, BuiltPerturbation]


@dataclass(frozen=True)
class AuditSetup:
    """What all passes of an audit share: the model on images in [0, 1], its layers, and how they are measured."""

    model: UnitRangeModel
    layers: Sequence[Layer]
    measures: Mapping[str, Measure]
    seed: int
    device: torch.device
    amp: torch.dtype | None
    gradient_probes: int
    gradient_conditions: Sequence[str] | None
    on_progress: Progress | None


class Passes:
    """Measures a subject, clean and under perturbations.

    Args:
        setup: how.
        subject: model and images.
        targets: the labels of all samples (N,), on the CPU.
        own: the perturbation that gave the subject's images as they are; None for clean images.
    """

    def __init__(self, setup: AuditSetup, subject: Subject, targets: Tensor, own: Perturbation | None = None) -> None:
        self.setup, self.subject, self.targets, self.own = setup, subject, targets, own
        self.name = own.name if own else CLEAN
        self.indices = range(len(targets)) if subject.indices is None else subject.indices
        self.tables = LayerMetrics(setup.layers, setup.measures, targets, setup.seed, setup.device)
        self.findings, self.pictures = Collector(setup.layers, setup.measures), ExampleKeeper(targets)
        self.between_layers: dict[str, Any] = {}
        self.probe: AttackProbe | None = None
        self.first_correct: dict[str, int] = {}
        self.done = self.total = 0

    def run(self, perturbations: Sequence[Built], last: Sequence[Built], state_bytes: int) -> AuditResult:
        """Measures all; ``last`` are attacks for the worst case alone, ``state_bytes`` is room for sums."""
        per_pass = max(1, state_bytes // max(1, self.tables.sums(clean=False).bytes()))
        groups = [perturbations[i : i + per_pass] for i in range(0, len(perturbations), per_pass)] or [[]]
        if len(groups) > 1:
            logger.info("the sums of all conditions are large: the data is read in %d passes", len(groups))
        self.total = len(self.targets) * (len(perturbations) + len(groups) + len(last))
        self.attacks = [p for p, _ in perturbations if p.kind == "attack"]
        self.survivors = Survivors(len(self.targets), self.attacks, [p for p, _ in last])
        for number, group in enumerate(groups):
            # Who survived all others is known in the last pass, batch by batch.
            self._pass(group, last if number == len(groups) - 1 else [], measure_clean=number == 0)
        if self.probe:
            noise = {name: (right, self.first_correct[name]) for name, (right, _) in self.probe.noise.items()}
            self.probe = replace(self.probe, noise=noise)
        return AuditResult(
            conditions=tuple(self.findings.conditions),
            worst_case=self.survivors.worst_case(CLEAN),
            layers=self.findings.layers(),
            between_layers=self.between_layers,
            samples_digest=digest(self.targets, self.subject),
            samples_per_class=tuple(torch.bincount(self.targets, minlength=self.setup.model.num_classes).tolist()),
            examples=self.pictures.examples(),
            probe=self.probe,
        )

    def _pass(self, perturbations: Sequence[Built], last: Sequence[Built], measure_clean: bool) -> None:
        """One pass over the data: clean, a group of perturbations, and the attacks on survivors alone."""
        sums = {p.name: self.tables.sums(clean=False, gradients=self._chosen(p.name)) for p, _ in perturbations}
        clean_sums = self.tables.sums(clean=True, gradients=self._chosen(self.name)) if measure_clean else None
        between = self.tables.between_layers() if measure_clean else {}
        for number, (where, images, labels) in enumerate(batches(self.subject, self.targets, self.setup.device)):
            seed = batch_seed(self.setup.seed, number)
            if number == 0 and measure_clean and (self.attacks or last):
                self.probe = probe_attacks(self.setup.model, images, labels, self.attacks, self.setup.seed)
            clean = self._observe(self.name, images, where, clean_sums)
            for name, metric in between.items():
                with blamed(self.setup.measures[name].plugin, self.name):
                    metric.update(list(clean.values()))
            for perturbation, perturb in perturbations:
                self._perturb(perturbation, perturb, sums[perturbation.name], clean, images, labels, where, seed)
            for step, (perturbation, perturb) in enumerate(last):
                self._attack_survivors(step, perturbation, perturb, images, labels, where, seed)
        if clean_sums:
            self._finish(self.own, {}, clean_sums)
            for name, metric in between.items():
                with blamed(self.setup.measures[name].plugin, self.name):
                    self.between_layers[name] = plain_values(metric.compute())
        for perturbation, perturb in perturbations:
            self._finish(perturbation, perturb.facts or {}, sums.pop(perturbation.name))

    def _perturb(
        self,
        perturbation: Perturbation,
        perturb: BuiltPerturbation,
        sums: ConditionSums,
        clean: Mapping[str, Tensor],
        images: Tensor,
        labels: Tensor,
        where: slice,
        seed: int,
    ) -> None:
        """One perturbation of a batch, measured beside its clean responses."""
        names = self.subject.names and self.subject.names[where]
        perturbed = run_perturbation(
            self.setup.model,
            perturb,
            images,
            labels,
            seed=seed,
            name=perturbation.name,
            samples=Samples(self.indices[where], self.setup.seed, names),
        )
        is_attack = perturbation.kind == "attack"
        responses = self._observe(perturbation.name, perturbed.images, where, sums, perturbed, is_attack)
        name, differences = perturbation.name, {k: responses[k] - clean[k] for k in sums.differences}
        self.tables.update(sums.differences, differences, where, condition=name)
        for layer, table in sums.pairs.items():
            for measure, metric in table.items():
                with blamed(self.setup.measures[measure].plugin, name):
                    metric.update(clean[layer], responses[layer])

    def _attack_survivors(
        self,
        step: int,
        perturbation: Perturbation,
        perturb: BuiltPerturbation,
        images: Tensor,
        labels: Tensor,
        where: slice,
        seed: int,
    ) -> None:
        """One attack on those samples of a batch that are right under everything so far."""
        left = self.survivors.of(where)
        if len(left):
            chosen = left.to(self.setup.device)
            perturbed = run_perturbation(
                self.setup.model,
                perturb,
                images[chosen],
                labels[chosen],
                seed=seed,
                name=perturbation.name,
                samples=Samples([self.indices[where.start + i] for i in left.tolist()], self.setup.seed),
            )
            logits = finite_logits(self.setup.model, perturbed.images, self.setup.amp, perturbation.name, where)
            right = logits.argmax(1).cpu() == self.targets[where][left]
            self.survivors.attacked(step, where, left, right, perturbed)
        self._advance(perturbation.name, len(images))

    def _observe(
        self,
        name: str,
        images: Tensor,
        where: slice,
        sums: ConditionSums | None,
        perturbed: Perturbed | None = None,
        is_attack: bool = True,
    ) -> dict[str, Tensor]:
        """One forward pass that measures; returns the responses of every layer."""
        with Capture(self.setup.model.model, self.setup.layers) as capture:
            logits = finite_logits(self.setup.model, images, self.setup.amp, name, where)
        responses = capture.responses
        if sums is not None:
            if self.subject.candidates is not None:
                chosen = torch.tensor(self.subject.candidates, device=logits.device)
                logits = torch.full_like(logits, -torch.inf).index_copy(1, chosen, logits[:, chosen])
            predicted, targets = logits.argmax(1).cpu(), self.targets[where]
            right = predicted == targets
            sums.count(predicted, targets, perturbed)
            if where.start == 0:
                self.first_correct[name] = int(right.sum())
            if is_attack:
                self.survivors.observed(where, right, perturbed)
            self.tables.update(sums.measures, responses, where, self._gradients(images, where, sums), name)
            self.pictures.add(name, where, images, predicted)
        self._advance(name, len(images))
        return responses

    def _chosen(self, name: str) -> bool:
        """Whether gradients are measured in a condition."""
        globs = self.setup.gradient_conditions
        return globs is None or any(fnmatchcase(name, glob) for glob in globs)

    def _gradients(self, images: Tensor, where: slice, sums: ConditionSums) -> dict[str, UnitGradients]:
        if not self.tables.want_gradients(sums):
            return {}
        # Not the seed of the perturbations: noise would lie along the first direction.
        seed = batch_seed(self.setup.seed, where.start, 1)
        return unit_gradients(self.setup.model, self.setup.layers, images, self.setup.gradient_probes, seed)

    def _advance(self, name: str, samples: int) -> None:
        self.done += samples
        if self.setup.on_progress:
            self.setup.on_progress(name, self.done, self.total)

    def _finish(self, perturbation: Perturbation | None, facts: Mapping[str, Any], sums: ConditionSums) -> None:
        """Makes a condition of its sums; ``facts`` is what the perturbation says of itself after the run."""
        described = perturbation.described(self.setup.model.num_classes) if perturbation else {}
        condition = sums.condition(perturbation, {**described, **facts})
        if self.setup.on_progress:  # the eigenvalues of wide layers take a while
            self.setup.on_progress(f"{condition.name}: computing", self.done, self.total)
        self.findings.add(condition, sums)
