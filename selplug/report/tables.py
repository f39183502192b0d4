from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Table:
    """``numeric`` says which columns to align right. Cells are printable but not escaped for HTML."""

    title: str
    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]


WIDTH = 120
#: What a narrow terminal can do without, first things first: the page and the JSON have all of it.
EXPENDABLE = (
    *("explained class", "kind", "part. ratio", "dead", "null level", "CV units", "noise", "worst case"),
    *("configurations", "p", "networks"),
)
#: More layers than this are shown as the first and the last half of it.
MANY_LAYERS = 24


def shortened(table: Table, files: str) -> Table:
    """The first and the last rows of a long table; ``files``, named in its title, hold all of them."""
    if len(table.rows) <= MANY_LAYERS + 1:
        return table
    half = MANY_LAYERS // 2
    gap = (f"… {len(table.rows) - MANY_LAYERS} more", *[""] * (len(table.columns) - 1))
    rows = (*table.rows[:half], gap, *table.rows[-half:])
    return Table(f"{table.title} (all of them: {files})", table.columns, table.numeric, rows)


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


def html_table(table: Table) -> str:
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
