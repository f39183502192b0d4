"""The tables of a comparison, for the terminal and the page, as plain text cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..report.result import Shown
from ..report.style import listing, percent, plural, printable, short_number
from ..report.tables import Table, shortened
from .network_values import VALUES, called, is_accuracy
from .statistics import Estimate
from .verdicts import NOT_ENOUGH, SUPPORTED, Judged

if TYPE_CHECKING:
    from .record import ComparisonRecord

#: Columns of the table of groups -> values; other tables of the page have all values.
OVERVIEW = {
    "selectivity": "selectivity",
    "clean": "clean_accuracy",
    "corruptions": "corruption_accuracy",
    "attacks": "adversarial_accuracy",
    "noise": "noise_accuracy",
    "worst case": "worst_case",
}
TRAINED = {True: "robust", False: "standard", None: "unknown"}


def show(key: str, value: float | None) -> str:
    """A value as text: accuracies in percent."""
    if value is None:
        return "–"
    return percent(value) if is_accuracy(key) else short_number(value, spec=".3f")


def show_estimate(key: str, estimate: Estimate) -> str:
    """Mean and interval as text."""
    text = show(key, estimate.value)
    if estimate.ci95 is None:
        return text
    scale, spec = (100, ".1f") if is_accuracy(key) else (1, ".3f")
    low, high = (f"{scale * end:{spec}}" for end in estimate.ci95)
    return f"{text} [{low}, {high}]"


def show_interval(estimate: Estimate | None) -> str:
    """The interval as text."""
    if estimate is None or estimate.ci95 is None:
        return "–"
    low, high = (show_number(end) for end in estimate.ci95)
    return f"{low} to {high}"


def show_number(value: float | None) -> str:
    """A statistic as text; nothing is below 0 by less than is shown."""
    text = short_number(value, spec=".3f")
    return text.removeprefix("-") if text.strip("-0.") == "" and value is not None else text


def claims_table(claims: Sequence[Judged]) -> Table:
    """A row per claim with a verdict: the number, its interval, and p-values; see :func:`undecided` for the others."""
    return Table(
        "Claims of the papers",
        ("claim", "number", "95 % interval", "p", "adjusted p", "configurations", "networks", "verdict"),
        (False, True, True, True, True, True, True, True),
        tuple(
            (
                judged.claim.text + (" (not in the protocol)" if judged.in_protocol is False else ""),
                show_number(judged.estimate.value),
                show_interval(judged.estimate),
                show_p(judged.p),
                show_p(judged.p_adjusted),
                str(judged.estimate.configurations),
                str(judged.estimate.n),
                judged.verdict,
            )
            for judged in claims
            if judged.verdict != NOT_ENOUGH
        ),
    )


def undecided(claims: Sequence[Judged]) -> str:
    """One line on the claims without enough data, empty without any."""
    names = [judged.claim.id for judged in claims if judged.verdict == NOT_ENOUGH]
    return f"not enough data for {len(names)} of {len(claims)} claims: {listing(names)}" if names else ""


def show_p(value: float | None) -> str:
    """A p-value as text."""
    if value is None:
        return "–"
    return f"{value:.4f}" if value >= 0.0001 else "< 0.0001"


def protocol_lines(protocol: Mapping[str, Any] | None) -> list[str]:
    """What a protocol fixed and what came of it, a line each; none without a protocol."""
    if protocol is None:
        return []
    beyond = protocol["not_in_protocol"]
    lines = [f"protocol {printable(protocol['file'] or 'given in Python')}, SHA-256 {protocol['sha256']}"]
    if protocol["missing"]:
        lines.append(f"in the protocol, but missing: {listing(map(printable, protocol['missing']))}")
    lines += [
        f"not in the protocol: {what} {listing(map(printable, beyond[what]))}"
        for what in ("claims", "conditions", "networks")
        if beyond[what]
    ]
    return lines


def groups_table(comparison: ComparisonRecord, intervals: bool = True) -> Table:
    """A row per group: number of networks and means of the main values, with ``intervals`` also their intervals."""
    shown = {
        title: key
        for title, key in OVERVIEW.items()
        if any(group.values[key].value is not None for group in comparison.groups)
    }
    text_of = show_estimate if intervals else lambda key, estimate: show(key, estimate.value)
    return Table(
        "Groups: mean over seeds" + (" [95 % t interval]" if intervals else ""),
        ("group", *(("training", "networks") if intervals else ("n",)), *shown),
        (False, *((False,) if intervals else ()), True, *(True,) * len(shown)),
        tuple(
            (
                printable(group.name),
                *((TRAINED[group.networks[0].training.robust],) if intervals else ()),
                str(len(group.networks)),
                *(text_of(key, group.values[key]) for key in shown.values()),
            )
            for group in comparison.groups
        ),
    )


def values_table(comparison: ComparisonRecord) -> Table:
    """All values, a row per value and a column per group."""
    return _by_group(
        comparison, "All values, mean over seeds [95 % interval]", VALUES, [group.values for group in comparison.groups]
    )


def accuracies_table(comparison: ComparisonRecord) -> Table:
    """Accuracy under every common condition, a column per group."""
    names = {name: name for name in comparison.conditions}
    return _by_group(comparison, "Accuracy per condition", names, [group.accuracies for group in comparison.groups])


def _by_group(
    comparison: ComparisonRecord, title: str, names: Mapping[str, str], found: Sequence[Mapping[str, Estimate]]
) -> Table:
    rows = [
        (printable(text), *(show_estimate(key, own[key]) for own in found))
        for key, text in names.items()
        if any(own[key].value is not None for own in found)
    ]
    columns = ("value", *(printable(group.name) for group in comparison.groups))
    return Table(title, columns, (False, *(True,) * len(found)), tuple(rows))


def correlations_table(comparison: ComparisonRecord) -> Table:
    """Rank correlations within families, with their intervals."""
    return Table(
        "Rank correlations over training configurations of standard networks, within families that differ only in the "
        "regularizer; p-values are not adjusted",
        ("value", "with", "Spearman's rho", "95 % interval", "p", "configurations", "networks"),
        (False, False, True, True, True, True, True),
        tuple(
            (
                called(one.x),
                called(one.y),
                show_number(one.estimate.value),
                show_interval(one.estimate),
                show_p(one.estimate.p),
                str(one.estimate.configurations),
                str(one.estimate.n),
            )
            for one in comparison.correlations
        ),
    )


def title(comparison: ComparisonRecord) -> str:
    """The numbers of networks and groups in one line."""
    return f"{plural(len(comparison.networks), 'network')} in {plural(len(comparison.groups), 'group')}"


def verdicts(comparison: ComparisonRecord) -> str:
    """The number of supported claims, as text."""
    supported = sum(judged.verdict == SUPPORTED for judged in comparison.claims)
    return f"{supported} of {len(comparison.claims)}"


def shown(comparison: ComparisonRecord, files: str) -> Shown:
    """Groups, claims and notes; ``files`` hold what is too long to show."""
    tables = (groups_table(comparison, intervals=False), claims_table(comparison.claims))
    lines = [line for line in (undecided(comparison.claims), *protocol_lines(comparison.protocol)) if line]
    left_out = [
        f"left out: {printable(origin)}: {printable('; '.join(reasons))}" for origin, reasons in comparison.left_out
    ]
    remarks = [*left_out, *(printable(note) for note in comparison.notes)]
    return Shown([shortened(table, files) for table in tables if table.rows], lines, remarks)
