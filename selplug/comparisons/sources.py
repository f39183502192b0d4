"""Which reports of a comparison belong together: the same samples, prepared alike, measured with the same settings.

The reference is what most reports have in common, not the first of them. What differs there keeps a report out; what
cannot change a number by much (versions, device, batch size) is a note.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..audits.engine.results import Condition
from ..audits.record import AuditRecord
from ..report.style import listing, printable

_NOTED = ("amp", "channels_last", "batch_size", "device", "gradient_probes", "gradient_conditions")
_VERSIONS = ("selplug", "torch", "timm", "torchattacks", "numpy", "python", "device")


@dataclass(frozen=True)
class Source:
    """A report to compare. ``name`` is its own, ``group`` the label that the user gave it, empty without one.

    ``path`` and ``sha256`` are those of its ``report.json``, None for a report that was never a file.
    """

    name: str
    report: AuditRecord = field(repr=False)
    group: str = ""
    path: Path | None = None
    sha256: str | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.path})" if self.path else self.name

    @property
    def told_file(self) -> str | None:
        """The report's file as it was given; absolute paths tell of a machine that nobody else has."""
        if self.path is None:
            return None
        return printable("/".join(self.path.parts[-2:]) if self.path.is_absolute() else self.path.as_posix())


@dataclass(frozen=True)
class Common:
    """What the reports that fit share.

    ``facts`` must agree; ``kinds`` has the conditions that all have with the same options, in order, with their kind
    ("clean", "attack", "noise", "corruption", "shift"); ``left_out`` are reports that do not fit, with what differs.
    """

    sources: tuple[Source, ...]
    facts: Mapping[str, Any]
    kinds: Mapping[str, str]
    left_out: tuple[tuple[Source, tuple[str, ...]], ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        left_out = f", {len(self.left_out)} left out" if self.left_out else ""
        return f"Common({len(self.sources)} reports, {len(self.kinds)} conditions{left_out})"

    def of_kind(self, *kinds: str) -> list[str]:
        """The names of the common conditions of some kinds."""
        return [name for name, kind in self.kinds.items() if kind in kinds]

    def of(self, source: Source) -> list[Condition]:
        """The common conditions as one of the reports has them, in its own order."""
        return [condition for condition in source.report.result.conditions if condition.name in self.kinds]


def common(sources: Sequence[Source]) -> Common:
    """Finds the reference, the reports that fit it, and the conditions that these have in common."""
    facts = _facts([source.report for source in sources])
    keys = [json.dumps(each, sort_keys=True, default=str) for each in facts]
    reference = facts[keys.index(Counter(keys).most_common(1)[0][0])]
    fitting, left_out = [], []
    for source, own in zip(sources, facts, strict=True):
        differing = tuple(
            f"{name}: {_shown(own[name])}, most have {_shown(reference[name])}"
            for name in reference
            if own[name] != reference[name]
        )
        if differing:
            left_out.append((source, differing))
        else:
            fitting.append(source)
    kinds, lacking = _conditions(fitting)
    notes = [*lacking, *_notes(fitting)]
    return Common(tuple(fitting), reference, kinds, tuple(left_out), tuple(notes))


def _facts(reports: Sequence[AuditRecord]) -> list[dict[str, Any]]:
    """What must agree, per report. Without a digest, the data facts have to tell which samples they were."""
    data = [_samples(report) for report in reports]
    digests: dict[str, set[str]] = {}
    for report, each in zip(reports, data, strict=True):
        digest = _digest(report)
        if digest:
            digests.setdefault(json.dumps(each), set()).add(digest)
    found = []
    for report, each in zip(reports, data, strict=True):
        known = digests.get(json.dumps(each), set())
        digest = _digest(report) or (next(iter(known)) if len(known) == 1 else None)
        subject, settings = report.subject, report.settings
        found.append(
            {
                "samples": f"{each[0]}, digest {digest}" if digest else each,
                "classes": subject.get("class_names") or subject.get("num_classes"),
                "input size": subject.get("input_size"),
                "crop": [subject.get("crop_pct"), subject.get("crop_mode")],
                "interpolation": subject.get("interpolation"),
                "seed": settings.get("seed"),
                "layers": settings.get("layers"),
            }
        )
    return found


def _samples(report: AuditRecord) -> list[Any]:
    data = report.subject.get("data") or {}
    return [data.get(key) for key in ("samples", "total", "dataset", "split", "draw_seed", "samples_per_class")]


def _digest(report: AuditRecord) -> str | None:
    return (report.subject.get("data") or {}).get("samples_digest")


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return listing(map(str, value))
    text = "not told" if value is None else printable(value)
    head, mark, digest = text.partition("digest ")
    return f"{head}{mark}{digest[:12]}"


def _conditions(sources: Sequence[Source]) -> tuple[dict[str, str], list[str]]:
    """The common conditions by kind, and notes on all others."""
    tables = [_options(source.report) for source in sources]
    everywhere: dict[str, str] = {}
    missing: dict[tuple[str, ...], list[str]] = {}
    other: list[str] = []
    for name in dict.fromkeys(name for table in tables for name in table):
        lacking = tuple(source.name for source, table in zip(sources, tables, strict=True) if name not in table)
        if lacking:
            missing.setdefault(lacking, []).append(name)
        elif len({table[name] for table in tables}) > 1:
            other.append(name)
        else:
            everywhere[name] = tables[0][name][0]
    notes = [
        f"{len(names)} {'condition is' if len(names) == 1 else 'conditions are'} not in {listing(lacking)}, and so "
        f"not compared: {listing(names)}"
        for lacking, names in missing.items()
    ]
    if other:
        notes.append(f"not compared, since their options are not the same in all reports: {listing(other)}")
    return everywhere, notes


def _options(report: AuditRecord) -> dict[str, tuple[str, str]]:
    """Condition -> (kind, options as text)."""
    found = {}
    for condition in report.result.conditions:
        options = {key: value for key, value in condition.options.items() if key not in ("parts", "left_out")}
        found[condition.name] = (condition.kind, json.dumps(options, sort_keys=True, default=str))
    return found


def _notes(sources: Sequence[Source]) -> Iterator[str]:
    """What differs between the reports, or is not told, and does not keep any out."""
    without = [source.name for source in sources if not _digest(source.report)]
    if without and len(sources) > 1:
        yield (
            "no digest of the samples (reports of an older version), taken for the same by size, split, draw seed and "
            f"samples per class: {listing(without)}"
        )
    for what, keys, section in (
        ("settings", _NOTED, "settings"),
        ("versions and machines", _VERSIONS, "environment"),
    ):
        differing = []
        for key in keys:
            values = dict.fromkeys(str(getattr(source.report, section).get(key)) for source in sources)
            if len(values) > 1:
                differing.append(f"{key} ({listing(values)})")
        if differing:
            yield f"{what} that differ: {', '.join(differing)}"
    places = dict.fromkeys(str((source.report.subject.get("data") or {}).get("source")) for source in sources)
    if len(places) > 1:
        yield f"the data lay in different places: {listing(places)}"
    measures = {source.name: set(source.report.settings.get("measures", ())) for source in sources}
    for measure in sorted(set().union(*measures.values())) if measures else ():
        lacking = [name for name, own in measures.items() if measure not in own]
        if lacking:
            yield f"the measure {printable(measure)} was not taken in {listing(lacking)}"
