"""Audits of training images beside those of test images of the same checkpoints, and the gap between the two.

They are given apart from the reports that are compared: their samples are others on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from ..audits.engine.results import LayerResult
from ..audits.record import AuditRecord
from ..core.errors import InputError
from ..report.style import listing
from .sources import Common, Source, common

#: Per network and layer, None where it is not known.
Gaps = Sequence[Sequence[float | None] | None]


def train_gaps(shared: Common, train: Sequence[Source], attacks: Sequence[str]) -> tuple[list[Any], list[str]]:
    """Of every network, CKA of clean and attacked responses on training less on test images, per layer.

    None for a network whose training images were not audited. The mean is over the attacks that all reports of both
    sets have with the same options.

    Returns:
        The gaps, and notes.

    Raises:
        InputError: audits of training images that do not fit each other, that are of no network of the comparison, two
            of one, or audits of the samples of the comparison itself.
    """
    if not train:
        return [None] * len(shared.sources), []
    alike = common(train)
    if alike.left_out:
        source, reasons = alike.left_out[0]
        raise InputError(
            f"--train-set: {source} cannot be used with the others ({'; '.join(reasons)}); audit the same training "
            "images of every network with the same settings"
        )
    found: list[Any] = [None] * len(shared.sources)
    names = [name for name in attacks if name in alike.kinds]
    for source in train:
        place = _network_of(source, shared.sources)
        if found[place] is not None:
            raise InputError(f"--train-set: {source} is the second audit of {shared.sources[place]}; give one of them")
        _check_other_samples(source, shared.sources[place])
        found[place] = _gap(source.report, shared.sources[place].report, names)
    without = [source.name for source, gap in zip(shared.sources, found, strict=True) if gap is None]
    split = _split(train[0].report) or "not told"
    notes = [f"training images (split {split}) were audited of {len(train)} of {len(found)} networks"]
    if names != list(attacks):
        notes.append(f"training images were not seen under {listing(name for name in attacks if name not in names)}")
    if without and len(without) < len(found):
        notes.append(f"training images were not audited of {listing(without)}")
    return found, notes


def told(train: Sequence[Source]) -> tuple[Mapping[str, Any], ...]:
    """Which audits of training images there were, JSON-ready."""
    return tuple({"name": s.name, "file": s.told_file, "sha256": s.sha256, "split": _split(s.report)} for s in train)


def _network_of(source: Source, sources: Sequence[Source]) -> int:
    own, others = _keys(source.report), [_keys(other.report) for other in sources]
    for key in own:
        places = [place for place, other in enumerate(others) if own[key] and other[key] == own[key]]
        # Other weights under the same name are another checkpoint.
        places = [
            p for p in places if None in (own["sha256"], others[p]["sha256"]) or own["sha256"] == others[p]["sha256"]
        ]
        if len(places) == 1:
            return places[0]
    raise InputError(
        f"--train-set: {source} is of a checkpoint that is not among the reports; there are "
        f"{listing(other.name for other in sources)}. Audit each checkpoint both on test and on training images"
    )


def _keys(report: AuditRecord) -> dict[str, Any]:
    """What tells a checkpoint, the surest first; None where it is not told."""
    checkpoint = report.subject.get("checkpoint")
    run = report.subject.get("training_run")
    told: Mapping[str, Any] = checkpoint if isinstance(checkpoint, Mapping) else {}
    trained: Mapping[str, Any] = run if isinstance(run, Mapping) else {}
    file = told.get("file")
    return {
        "sha256": told.get("sha256"),
        "file": None if file is None else (file, told.get("epoch"), trained.get("file"), _seed(trained)),
    }


def _seed(run: Mapping[str, Any]) -> Any:
    arguments = run.get("arguments")
    return arguments.get("seed") if isinstance(arguments, Mapping) else None


def _split(report: AuditRecord) -> Any:
    return (report.subject.get("data") or {}).get("split")


def _check_other_samples(train: Source, test: Source) -> None:
    digests = [(source.report.subject.get("data") or {}).get("samples_digest") for source in (train, test)]
    splits = [_split(source.report) for source in (train, test)]
    if digests[0] is not None and digests[0] == digests[1]:
        raise InputError(
            f"--train-set: {train} is of the same samples as {test}; audit the training images with --split train"
        )
    if None in digests and (splits[0] is None or splits[0] == splits[1]):
        raise InputError(
            f"--train-set: {train} does not tell that its samples are others than those of {test}; audit both "
            "anew, the training images with --split train"
        )


def _gap(train: AuditRecord, test: AuditRecord, attacks: Sequence[str]) -> list[float | None]:
    sides = [{layer.name: layer for layer in report.result.layers} for report in (train, test)]
    return [_less(sides[0].get(layer.name), layer, attacks) for layer in test.result.layers]


def _less(train: LayerResult | None, test: LayerResult, attacks: Sequence[str]) -> float | None:
    if train is None or not attacks:
        return None
    values = [[layer.value(name, "cka", "debiased") for name in attacks] for layer in (train, test)]
    if any(value is None for own in values for value in own):
        return None
    first, second = (fmean(value for value in own if value is not None) for own in values)
    return first - second
