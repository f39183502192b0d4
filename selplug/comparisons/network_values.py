"""The numbers of one network that a comparison sets beside those of others, from its report alone.

Values over depth come first, one per layer; most values of the network are means of them. A layer where such a value is
not defined in one network is left out in all networks with the same layers: means over other layers would not compare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from ..audits.engine.results import LayerResult
from ..audits.facts.corruptions import summarize
from ..audits.record import AuditRecord
from ..report.style import listing, number, printable
from .attack_types import TYPES, counted
from .matched import Matched, matched
from .sources import Common, Source
from .sweeps import Sweep, sweeps_of
from .train_set import train_gaps

#: key of a value over depth -> what it is
CURVES = {
    "selectivity": "class selectivity, clean images",
    "dimensionality": "dimensionality, clean images (participation ratio / units)",
    "gain_attack": "dimensionality gain under attacks (perturbed − clean) / units",
    "gain_corruption": "dimensionality gain under corruptions (perturbed − clean) / units",
    "gain_difference": "dimensionality gain, attacks − corruptions, / units",
    "exponent": "exponent of the eigenspectrum, clean images",
    "cka_attack": "CKA of clean and attacked responses",
    "cka_corruption": "CKA of clean and corrupted responses",
    "gradient": "mean input gradient, clean images",
    "cv_samples": "variation of input gradients over samples",
    "cv_units": "variation of input gradients over units",
}
#: key of a value of the network -> what it is
VALUES = {
    "alpha": "selectivity regularizer's alpha",
    "selectivity": "class selectivity",
    "selectivity_alive": "class selectivity, without dead units",
    "selectivity_null": "null level of class selectivity",
    "clean_accuracy": "clean accuracy",
    "corruption_accuracy": "mean corruption accuracy",
    "corruption_relative": "mean corruption accuracy / clean accuracy",
    "adversarial_accuracy": "adversarial accuracy, mean over attacks",
    "adversarial_relative": "adversarial accuracy / clean accuracy",
    **{f"adversarial_{key}": f"accuracy under {text}, mean" for key, text in TYPES.items()},
    "noise_accuracy": "accuracy under noise, mean",
    "worst_case": "worst-case accuracy",
    "dimensionality_early": "dimensionality / units, early layers",
    "dimensionality_late": "dimensionality / units, late layers",
    "gain_attack_early": "dimensionality gain under attacks / units, early layers",
    "gain_corruption_early": "dimensionality gain under corruptions / units, early layers",
    "gain_difference_early": "dimensionality gain, attacks − corruptions, / units, early layers",
    "exponent_last": "exponent, last hidden layer",
    "exponent_mean": "exponent, mean over layers",
    "gradient": "mean input gradient",
    "cv_samples": "variation of input gradients over samples",
    "cv_units": "variation of input gradients over units",
    "cka_attack": "CKA of clean and attacked responses",
    "cka_corruption": "CKA of clean and corrupted responses",
    "block_score": "block-structure score",
    "cka_between": "CKA between layers, mean off the diagonal",
    "nonmonotonic_noise": "loss of a monotonic fit, noise",
    "nonmonotonic_fgsm": "loss of a monotonic fit, FGSM",
}


_ACCURACIES = {"worst_case", *(f"adversarial_{key}" for key in TYPES)}


def called(key: str) -> str:
    """What a key of :data:`VALUES`, or the name of a condition, stands for."""
    return VALUES.get(key) or f"accuracy under {printable(key)}"


def is_accuracy(key: str) -> bool:
    """Whether a value is one to show in percent."""
    return key not in VALUES or key.endswith("_accuracy") or key in _ACCURACIES


@dataclass(frozen=True)
class Measured:
    """``layers`` are names; ``curves`` has for each key of :data:`CURVES` a value or None per layer.

    ``accuracies``: condition -> accuracy. ``similarity``: the clean map layer x layer (CKA), None without one, and
    ``blocks`` its blocks. ``matched`` sets attacks beside corruptions, see :mod:`~selplug.comparisons.matched`.
    ``train_gap``: CKA of clean and attacked responses on training less on test images, per layer, None without.
    """

    layers: tuple[str, ...]
    values: Mapping[str, float | None]
    accuracies: Mapping[str, float]
    curves: Mapping[str, Sequence[float | None]] = field(repr=False)
    sweeps: tuple[Sweep, ...] = field(repr=False)
    similarity: Sequence[Sequence[float | None]] | None = field(repr=False)
    blocks: Sequence[Sequence[int]] = field(repr=False)
    matched: Matched = field(default_factory=dict, repr=False)
    train_gap: Sequence[float | None] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        held = sum(value is not None for value in self.values.values())
        return f"Measured({len(self.layers)} layers, {held} values, {len(self.accuracies)} accuracies)"


def early(layers: int) -> slice:
    """The first third of the layers, at least one."""
    return slice(0, max(1, round(layers / 3)))


def late(layers: int) -> slice:
    """The last third of the layers, at least one."""
    return slice(layers - max(1, round(layers / 3)), layers)


def measure(
    common: Common, alphas: Sequence[float | None], train: Sequence[Source] = ()
) -> tuple[list[Measured], list[str]]:
    """The values of every network that is compared, and notes on layers that had to be left out.

    Args:
        common: the reports, and the conditions they share.
        alphas: of the selectivity regularizer, per report.
        train: audits of the same checkpoints on training images.
    """
    notes: list[str] = []
    conditions = _perturbed(common)
    attacks, remarks = counted(common, conditions[0])
    notes += remarks
    found: dict[int, dict[str, list[float | None]]] = {}
    plain: dict[int, set[int]] = {}
    alike: dict[tuple[str, ...], list[int]] = {}
    for place, source in enumerate(common.sources):
        alike.setdefault(tuple(layer.name for layer in source.report.result.layers), []).append(place)
    for layers, places in alike.items():
        reports = [common.sources[place].report for place in places]
        drawn, uncorrected, remarks = _curves(reports, layers, *conditions)
        notes += remarks
        found |= dict(zip(places, drawn, strict=True))
        plain |= dict.fromkeys(places, uncorrected)
    worst, remark = _worst_cases([source.report for source in common.sources])
    notes += remark
    every = [source.report for source in common.sources]
    pairs, remark = matched(
        every,
        attacks,
        conditions[1],
        _corruptions(common),
        [early(len(report.result.layers)) for report in every],
        [plain[place] for place in range(len(every))],
    )
    notes += remark
    gaps, remark = train_gaps(common, train, [name for names in attacks.values() for name in names])
    notes += remark
    return [
        replace(
            _measured(source, common, found[place], attacks, alphas[place], worst[place]),
            matched=pairs[place],
            train_gap=gaps[place],
        )
        for place, source in enumerate(common.sources)
    ], notes


def _corruptions(common: Common) -> list[str]:
    """The common corruptions, without their severities."""
    conditions = [c for c in common.of(common.sources[0]) if c.kind == "corruption"]
    return list(dict.fromkeys(str(condition.options.get("corruption", condition.name)) for condition in conditions))


def _perturbed(common: Common) -> tuple[list[str], list[str]]:
    """The common attacks that may change an image, and the common corruptions."""
    none = {condition.name for condition in common.of(common.sources[0]) if condition.options.get("eps") == 0}
    return [name for name in common.of_kind("attack") if name not in none], common.of_kind("corruption")


def _curves(
    reports: Sequence[AuditRecord], layers: Sequence[str], attacks: Sequence[str], corruptions: Sequence[str]
) -> tuple[list[dict[str, list[float | None]]], set[int], list[str]]:
    """Values over depth of networks with the same layers, gaps alike in all that have the measure, and the layers whose
    dimensionality is the plain one."""
    notes = []
    clean = reports[0].clean.name
    used = [clean, *attacks, *corruptions]
    plain = {
        place
        for place in range(len(layers))
        if any(
            "dimensionality" in layer.sections(name)
            and layer.value(name, "dimensionality", "participation_ratio_corrected") is None
            for layer in (report.result.layers[place] for report in reports)
            for name in used
        )
    }
    if plain:
        notes.append(
            "dimensionality is the plain participation ratio, not the corrected one, where a network does not resolve "
            f"it, in layer {listing(layers[place] for place in sorted(plain))}"
        )

    def dimension(layer: LayerResult, condition: str, place: int) -> float | None:
        key = "participation_ratio" if place in plain else "participation_ratio_corrected"
        value = layer.value(condition, "dimensionality", key)
        return None if value is None else value / layer.units

    def gain(layer: LayerResult, place: int, names: Sequence[str]) -> float | None:
        before = dimension(layer, clean, place)
        after = _mean([dimension(layer, name, place) for name in names])
        return None if before is None or after is None else after - before

    def at(section: str, key: str, names: Sequence[str]) -> Callable[[LayerResult, int], float | None]:
        return lambda layer, _: _mean([layer.value(name, section, key) for name in names])

    def gap(layer: LayerResult, place: int) -> float | None:
        attacked, corrupted = gain(layer, place, attacks), gain(layer, place, corruptions)
        return None if attacked is None or corrupted is None else attacked - corrupted

    reads: dict[str, Callable[[LayerResult, int], float | None]] = {
        "selectivity": at("selectivity", "mean", [clean]),
        "dimensionality": lambda layer, place: dimension(layer, clean, place),
        "gain_attack": lambda layer, place: gain(layer, place, attacks),
        "gain_corruption": lambda layer, place: gain(layer, place, corruptions),
        "gain_difference": gap,
        "exponent": at("spectrum", "exponent", [clean]),
        "cka_attack": at("cka", "debiased", attacks),
        "cka_corruption": at("cka", "debiased", corruptions),
        "gradient": at("gradients", "mean", [clean]),
        "cv_samples": at("gradients", "cv_samples", [clean]),
        "cv_units": at("gradients", "cv_units", [clean]),
    }
    drawn = [
        {key: [read(layer, place) for place, layer in enumerate(report.result.layers)] for key, read in reads.items()}
        for report in reports
    ]
    for key in reads:
        having = [each[key] for each in drawn if any(value is not None for value in each[key])]
        some = {place for place in range(len(layers)) if any(values[place] is None for values in having)}
        shared = {place for place in some if any(values[place] is not None for values in having)}
        for values in having:
            for place in some:
                values[place] = None
        if shared:
            notes.append(
                f"{CURVES[key]}: not defined in every network, and so left out in all, in layer "
                f"{listing(layers[place] for place in sorted(shared))}"
            )
    return drawn, plain, notes


def _measured(
    source: Source,
    common: Common,
    over_depth: Mapping[str, list[float | None]],
    counting: Mapping[str, Sequence[str]],
    alpha: float | None,
    worst: float | None,
) -> Measured:
    report = source.report
    layers = report.result.layers
    shared = common.of(source)
    accuracies = {condition.name: float(condition.accuracy) for condition in shared}
    clean = float(report.clean.accuracy)
    attacks, _ = _perturbed(common)
    # The mean over severities, then corruptions, of those conditions alone that all have.
    corrupted = summarize(shared)
    noisy = common.of_kind("noise")
    similarity, blocks, score = _similarity(report)
    sweeps = sweeps_of(shared, layers[-1] if layers else None)
    first, last = early(len(layers)), late(len(layers))

    def over(key: str, part: slice = slice(None)) -> float | None:
        known = [value for value in over_depth[key][part] if value is not None]
        return fmean(known) if known else None

    def of(kind: str) -> float | None:
        return _mean([sweep.loss for sweep in sweeps if sweep.kind == kind and sweep.loss is not None])

    corruption = number(corrupted["mean_accuracy"]) if corrupted else None
    adversarial = _mean([accuracies[name] for name in attacks])
    exponents = over_depth["exponent"]
    values: dict[str, float | None] = {
        "alpha": alpha,
        "selectivity": over("selectivity"),
        "selectivity_alive": _mean([layer.value(report.clean, "selectivity", "mean_alive") for layer in layers]),
        "selectivity_null": _mean([layer.value(report.clean, "selectivity", "null") for layer in layers]),
        "clean_accuracy": clean,
        "corruption_accuracy": corruption,
        "corruption_relative": corruption / clean if corruption is not None and clean > 0 else None,
        "adversarial_accuracy": adversarial,
        "adversarial_relative": adversarial / clean if adversarial is not None and clean > 0 else None,
        **{f"adversarial_{key}": _mean([accuracies[name] for name in counting.get(key, ())]) for key in TYPES},
        "noise_accuracy": _mean([accuracies[name] for name in noisy]),
        "worst_case": worst,
        "dimensionality_early": over("dimensionality", first),
        "dimensionality_late": over("dimensionality", last),
        "gain_attack_early": over("gain_attack", first),
        "gain_corruption_early": over("gain_corruption", first),
        "gain_difference_early": over("gain_difference", first),
        "exponent_last": exponents[-1] if exponents else None,
        "exponent_mean": over("exponent"),
        "gradient": over("gradient"),
        "cv_samples": over("cv_samples"),
        "cv_units": over("cv_units"),
        "cka_attack": over("cka_attack"),
        "cka_corruption": over("cka_corruption"),
        "block_score": score,
        "cka_between": _off_diagonal(similarity),
        "nonmonotonic_noise": of("noise"),
        "nonmonotonic_fgsm": of("fgsm"),
    }
    return Measured(
        layers=tuple(layer.name for layer in layers),
        values=values,
        accuracies=accuracies,
        curves=over_depth,
        sweeps=sweeps,
        similarity=similarity,
        blocks=blocks,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """None without any value, or where one of them is not defined."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _worst_cases(reports: Sequence[AuditRecord]) -> tuple[list[float | None], list[str]]:
    """Worst-case accuracies, if they are over the same attacks in all reports that have one."""
    cases = [report.result.worst_case for report in reports]
    known = [case for case in cases if case is not None]
    if len({(frozenset(case.conditions), case.norm, case.eps) for case in known}) > 1:
        return [None] * len(cases), ["worst-case accuracies are over different attacks, and so not compared"]
    return [None if case is None else float(case.accuracy) for case in cases], []


def _similarity(
    report: AuditRecord,
) -> tuple[list[list[float | None]] | None, Sequence[Sequence[int]], float | None]:
    """The clean CKA map, the blocks in it and their score."""
    found = report.result.between_layers.get("cka")
    if not found or not found.get("debiased"):
        return None, (), None
    structure = found.get("block_structure") or {}
    rows = [[number(value) for value in row] for row in found["debiased"]]
    return rows, report.result.blocks("cka"), number(structure.get("score"))


def _off_diagonal(rows: Sequence[Sequence[float | None]] | None) -> float | None:
    known = [value for i, row in enumerate(rows or ()) for value in row[i + 1 :] if value is not None]
    return fmean(known) if known else None
