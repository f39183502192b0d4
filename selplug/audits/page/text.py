"""A report in a terminal, as plain text and in a notebook."""

from __future__ import annotations

import html
import io
from typing import TYPE_CHECKING

from ...report.style import interval, percent, plural, printable
from ...report.tables import WIDTH, html_table, print_table, shortened
from ..engine.results import WorstCase
from ..record import AuditRecord
from .notes import notes
from .tables import conditions_table, layers_table, survivors_table

if TYPE_CHECKING:
    from rich.console import Console


def summary(report: AuditRecord) -> str:
    """The tables of the terminal as plain text of fixed width, without colour codes."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False, legacy_windows=False)
    with console.capture() as capture:
        print_summary(report, console)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def print_summary(report: AuditRecord, console: Console) -> None:
    """Writes accuracy, worst case, layers and warnings to a console."""
    from rich.text import Text

    # Text, not str: rich would read [brackets] in the name of a model or layer as markup.
    console.print(Text(title(report), style="bold"))
    for table in (conditions_table(report), shortened(layers_table(report))):
        console.print()
        print_table(table, console)
    console.print()
    survivors = survivors_table(report)
    if survivors:
        print_table(survivors, console)
        console.print()
    console.print(Text(worst_case(report)))
    checked = report.attack_checks
    if checked:
        console.print(Text(f"Checks of the attacks: {sum(c['passed'] for c in checked)} of {len(checked)} passed."))
    if report.corruptions is not None:
        lines = corruption_lines(report)
        console.print(
            Text(f"Mean corruption accuracy {percent(report.corruptions['mean_accuracy'])}: {'; '.join(lines)}.")
        )
    for note in notes(report):
        console.print(Text(f"! {note}"))


def notebook(report: AuditRecord) -> str:
    """Small HTML tables, every text escaped."""
    parts = [f"<p><strong>{html.escape(title(report))}</strong><br>{html.escape(worst_case(report))}</p>"]
    parts += [html_table(table) for table in (conditions_table(report), shortened(layers_table(report)))]
    found = "".join(f"<li>{html.escape(note)}</li>" for note in notes(report))
    return "<div>" + "".join(parts) + (f"<ul>{found}</ul>" if found else "") + "</div>"


def title(report: AuditRecord) -> str:
    """Model, data and number of samples in one line."""
    data = report.subject.get("data")
    source = data.get("source") if isinstance(data, dict) else None
    samples = report.result.conditions[0].samples if report.result.conditions else 0
    name = printable(report.subject.get("model", "model"))
    return f"{name} on {printable(source) if source else 'the given data'}, {plural(samples, 'sample')}"


def worst_case(report: AuditRecord) -> str:
    """The worst-case accuracy as a sentence, with its conditions."""
    worst = report.result.worst_case
    if worst is None:
        return "Worst-case accuracy: none, since there was no attack."
    names = ", ".join(printable(name) for name in worst.conditions)
    return (
        f"Worst-case accuracy {percent(worst.accuracy)} (95 % interval {interval(worst.accuracy_ci95)}): correct under "
        f"all of {names}{ball(worst)}."
    )


def ball(worst: WorstCase) -> str:
    """The ball that images must be in to count, as text; empty if all images count."""
    if worst.norm is None or worst.eps is None:
        return ""
    eps = f"{255 * worst.eps:.4g}/255" if worst.norm == "Linf" else f"{worst.eps:.4g}"
    return f"; only images within {printable(worst.norm)} {eps} of the clean image count"


def corruption_lines(report: AuditRecord) -> list[str]:
    """The number of corruptions and their strengths, and with a baseline mCE and relative mCE."""
    summary = report.corruptions
    if summary is None:
        return []
    count = plural(len(summary["accuracy"]), "corruption")
    lines = [f"{count}, strengths of {printable(summary['strengths'])}"]
    if summary["baseline"] is None:
        return lines
    base = printable(summary["baseline"])
    if summary["mce"] is None:
        return [*lines, f"no mCE: the baseline {base} has no corruption with the same severities and strengths"]
    relative = "undefined" if summary["relative_mce"] is None else percent(summary["relative_mce"])
    count = plural(len(summary["corruption_error"]), "corruption")
    return [*lines, f"mCE {percent(summary['mce'])}, relative mCE {relative}, over {count}, baseline {base}"]
