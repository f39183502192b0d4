"""``selplug.compare``: reports of any number of audits, read, checked and set beside each other."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..audits.reading import read
from ..audits.report import Report
from ..core.errors import InputError
from ..run.environment import versions
from .build import compare_sources
from .comparison import Comparison
from .protocol import read_protocol
from .ranks import DRAWS
from .sources import Source

Given = Report | str | Path


def compare(
    reports: Sequence[Given] | Mapping[str, Given | Sequence[Given]],
    *,
    robust: Collection[str] = (),
    leave_out: bool = False,
    resamples: int = DRAWS,
    seed: int = 0,
    train_set: Given | Sequence[Given] = (),
    protocol: str | Path | Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Comparison:
    """Compares audits of networks trained in different ways, or alike but for the seed.

    Args:
        reports: at least two reports, their ``report.json`` or the folders that hold it; or label -> report or reports,
            where a label of several reports names a group of networks that were trained alike but for the seed.
        robust: globs over names and labels of networks trained on adversarial images whose reports do not tell; with
            any, all others whose reports do not tell count as not robust.
        leave_out: reports that cannot be compared with most others are left out and named, instead of an error.
        resamples, seed: permutations drawn where there are too many to try all.
        train_set: audits of the same checkpoints on training images, for the claim on overfitting; given apart, since
            their samples are others.
        protocol: a YAML, JSON or TOML file, or its entries: which ``claims`` are decided, at which ``alphas`` and under
            which ``conditions``. What it does not name is marked, and weighs on no verdict that it does name.
        settings: further facts for the result.

    Raises:
        InputError: fewer than two reports, one that cannot be read, the same one twice, or reports of other samples or
            settings; the message lists what differs. A protocol with an unknown claim or condition, or audits of
            training images of other checkpoints.
    """
    if isinstance(reports, (str, Path, Report)):
        raise InputError(f"expected a list or a mapping of reports, got {type(reports).__name__}")
    if isinstance(reports, Mapping):
        pairs = [(str(label), one) for label, given in reports.items() for one in _several(given)]
    else:
        pairs = [("", one) for one in reports]
    return compare_labelled(
        pairs,
        robust=robust,
        leave_out=leave_out,
        resamples=resamples,
        seed=seed,
        train_set=train_set,
        protocol=protocol,
        settings=settings,
    )


def compare_labelled(
    pairs: Sequence[tuple[str, Given]],
    *,
    robust: Collection[str] = (),
    leave_out: bool = False,
    resamples: int = DRAWS,
    seed: int = 0,
    train_set: Given | Sequence[Given] = (),
    protocol: str | Path | Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Comparison:
    """:func:`compare` of ``(label, report)``, the label empty where none is given."""
    if len(pairs) < 2:
        raise InputError(f"expected at least two reports to compare, got {len(pairs)}")
    planned = None if protocol is None else read_protocol(protocol)
    return compare_sources(
        _named([_source(label, given) for label, given in pairs]),
        train_set=_named([_source("", given) for given in _several(train_set)]),
        protocol=planned,
        robust=robust,
        leave_out=leave_out,
        resamples=resamples,
        seed=seed,
        settings=settings,
        environment=versions(),
    )


def _several(given: Given | Sequence[Given]) -> Sequence[Given]:
    return [given] if isinstance(given, (str, Path, Report)) else given


def _source(label: str, given: Given) -> Source:
    """A report under its label, not named yet."""
    if isinstance(given, Report):
        return Source("", given, label)
    if not isinstance(given, (str, Path)):
        raise InputError(f"expected a Report or a path, got {type(given).__name__}")
    report = read(given, arrays=False)
    path = Path(given)
    path = path / "report.json" if path.is_dir() else path
    return Source("", report, label, path, hashlib.sha256(path.read_bytes()).hexdigest())


def _named(sources: Sequence[Source]) -> list[Source]:
    """A name for each: its label if no other has it, else as much of the path as tells them apart."""
    labels = [source.group for source in sources]
    depth = 1
    while depth < 50 and len({_path_name(source, depth) for source in sources if source.path}) < len(
        {source.path for source in sources if source.path}
    ):
        depth += 1
    found: list[Source] = []
    for number, source in enumerate(sources, 1):
        alone = labels.count(source.group) == 1
        own = _path_name(source, depth) if source.path else f"{source.report.subject.get('model', 'report')} {number}"
        name = source.group if source.group and alone else f"{source.group} {own}".strip()
        found.append(replace(source, name=name))
    return found


def _path_name(source: Source, depth: int) -> str:
    """The last parts of the folder; of a file with a name of its own, that name too."""
    path = source.path.absolute() if source.path else Path()
    path = path.parent if path.name == "report.json" else path.with_suffix("")
    return "/".join(path.parts[-depth:])
