"""The tables of a comparison, for the terminal and the page, as plain text cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..report.result import Shown
from ..report.style import percent, plural, printable, short_number
from ..report.tables import Table, shortened
from .claims import SUPPORTED, Judged
from .network_values import VALUES, called, is_accuracy
from .resampling import Estimate

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
    return f"{estimate.ci95[0]:.3f} to {estimate.ci95[1]:.3f}"


def claims_table(claims: Sequence[Judged]) -> Table:
    """A row per claim: the number, its interval, and the verdict."""
    return Table(
        "Claims of the papers",
        ("claim", "number", "95 % interval", "networks", "verdict"),
        (False, True, True, True, True),
        tuple(
            (
                judged.claim.text,
                short_number(judged.estimate.value, spec=".3f"),
                show_interval(judged.estimate),
                str(judged.estimate.n),
                judged.verdict,
            )
            for judged in claims
        ),
    )


def groups_table(comparison: ComparisonRecord, intervals: bool = True) -> Table:
    """A row per group: number of networks and means of the main values, with ``intervals`` also their intervals."""
    shown = {
        title: key
        for title, key in OVERVIEW.items()
        if any(group.values[key].value is not None for group in comparison.groups)
    }
    text_of = show_estimate if intervals else lambda key, estimate: show(key, estimate.value)
    return Table(
        "Groups: mean over seeds" + (" [95 % bootstrap interval]" if intervals else ""),
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
        "Rank correlations over standard networks, within families that differ only in seed and regularizer",
        ("value", "with", "Spearman's rho", "95 % interval", "networks"),
        (False, False, True, True, True),
        tuple(
            (
                called(one.x),
                called(one.y),
                short_number(one.estimate.value, spec=".3f"),
                show_interval(one.estimate),
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
    left_out = [
        f"left out: {printable(origin)}: {printable('; '.join(reasons))}" for origin, reasons in comparison.left_out
    ]
    remarks = [*left_out, *(printable(note) for note in comparison.notes)]
    return Shown([shortened(table, files) for table in tables], remarks=remarks)
