"""A report in a terminal, as plain text and in a notebook."""

from __future__ import annotations

import html
import io
from typing import TYPE_CHECKING

from ..core.types import WorstCase
from .notes import notes
from .report import Report
from .style import interval, percent, printable
from .tables import Table, conditions_table, layers_table, survivors_table

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 120
#: What a narrow terminal can do without, first things first: the page and the JSON have all of it.
EXPENDABLE = ("explained class", "kind", "part. ratio", "dead", "null level", "CV units", "noise", "worst case")
#: More layers than this are shown as the first and the last half of it.
MANY_LAYERS = 24


def summary(report: Report) -> str:
    """The tables of the terminal as plain text of fixed width, without colour codes."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False, legacy_windows=False)
    with console.capture() as capture:
        print_summary(report, console)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def print_summary(report: Report, console: Console) -> None:
    """Writes accuracy, worst case, layers and warnings to a console."""
    from rich.text import Text

    # Text, not str: rich would read [brackets] in a model's or layer's name as markup.
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


def notebook(report: Report) -> str:
    """Small HTML tables, every text escaped."""
    parts = [f"<p><strong>{html.escape(title(report))}</strong><br>{html.escape(worst_case(report))}</p>"]
    parts += [_html_table(table) for table in (conditions_table(report), shortened(layers_table(report)))]
    found = "".join(f"<li>{html.escape(note)}</li>" for note in notes(report))
    return "<div>" + "".join(parts) + (f"<ul>{found}</ul>" if found else "") + "</div>"


def title(report: Report) -> str:
    """Model, data and number of samples in one line."""
    data = report.subject.get("data")
    source = data.get("source") if isinstance(data, dict) else None
    samples = report.result.conditions[0].samples if report.result.conditions else 0
    name = printable(report.subject.get("model", "model"))
    return f"{name} on {printable(source) if source else 'the given data'}, {samples} samples"


def worst_case(report: Report) -> str:
    """The worst-case accuracy as a sentence, with the conditions that it is taken over."""
    worst = report.result.worst_case
    if worst is None:
        return "Worst-case accuracy: none, no attack took part."
    names = ", ".join(printable(name) for name in worst.conditions)
    return (
        f"Worst-case accuracy {percent(worst.accuracy)} (95 % interval {interval(worst.accuracy_ci95)}): right under "
        f"all of {names}{ball(worst)}."
    )


def ball(worst: WorstCase) -> str:
    """Which images count, where not all do."""
    if worst.norm is None or worst.eps is None:
        return ""
    eps = f"{255 * worst.eps:.4g}/255" if worst.norm == "Linf" else f"{worst.eps:.4g}"
    return f"; images within {printable(worst.norm)} {eps} of the clean one count"


def corruption_lines(report: Report) -> list[str]:
    """How many corruptions with which strengths, and mCE and relative mCE if there is a baseline."""
    summary = report.corruptions
    if summary is None:
        return []
    lines = [f"{len(summary['accuracy'])} corruptions, strengths of {printable(summary['strengths'])}"]
    if summary["baseline"] is None:
        return lines
    base = printable(summary["baseline"])
    if summary["mce"] is None:
        return [*lines, f"no mCE: no corruption at the same severities and strengths in the baseline {base}"]
    relative = "not defined" if summary["relative_mce"] is None else percent(summary["relative_mce"])
    count = len(summary["corruption_error"])
    return [*lines, f"mCE {percent(summary['mce'])}, relative mCE {relative}, over {count} against {base}"]


def shortened(table: Table) -> Table:
    """The first and the last rows of a long table, with a row between that says what is left out."""
    if len(table.rows) <= MANY_LAYERS + 1:
        return table
    half = MANY_LAYERS // 2
    gap = (f"… {len(table.rows) - MANY_LAYERS} more", *[""] * (len(table.columns) - 1))
    rows = (*table.rows[:half], gap, *table.rows[-half:])
    return Table(f"{table.title} (all of them: report.html, report.json)", table.columns, table.numeric, rows)


def _fitted(table: Table, width: int) -> Table:
    """Without the columns that do not fit: squeezed, rich would rather drop the names than half a number."""
    columns = list(range(len(table.columns)))

    def needed() -> int:
        widths = [max(len(line[i]) for line in (table.columns, *table.rows)) for i in columns]
        return sum(min(w, 16) if not table.numeric[i] else w for i, w in zip(columns, widths, strict=True)) + 2 * len(
            columns
        )

    for expendable in EXPENDABLE:
        if needed() > width and expendable in table.columns:
            columns.remove(table.columns.index(expendable))
    keep = [[line[i] for i in columns] for line in (table.columns, *table.rows)]
    numeric = tuple(table.numeric[i] for i in columns)
    return Table(table.title, tuple(keep[0]), numeric, tuple(map(tuple, keep[1:])))


def print_table(table: Table, console: Console) -> None:
    """Writes a table without the columns that a narrow console has no room for."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    table = _fitted(table, console.width)
    shown = RichTable(
        title=Text(table.title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for column, numeric in zip(table.columns, table.numeric, strict=True):
        # Names may wrap, numbers must not: half a number misleads.
        shown.add_column(Text(column), justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(cell) for cell in row))
    console.print(shown)


def _html_table(table: Table) -> str:
    def cell(tag: str, text: str, numeric: bool, extra: str = "") -> str:
        style = ' style="text-align:right"' if numeric else ' style="text-align:left"'
        return f"<{tag}{extra}{style}>{html.escape(text)}</{tag}>"

    head = "".join(
        cell("th", text, numeric, ' scope="col"') for text, numeric in zip(table.columns, table.numeric, strict=True)
    )
    body = "".join(
        "<tr>"
        + cell("th", row[0], False, ' scope="row"')
        + "".join(cell("td", text, numeric) for text, numeric in zip(row[1:], table.numeric[1:], strict=True))
        + "</tr>"
        for row in table.rows
    )
    caption = f"<caption>{html.escape(table.title)}</caption>"
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
