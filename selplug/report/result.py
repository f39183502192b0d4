"""What all results have in common: files, tables for a terminal and a notebook, JSON, and one line to call them by."""

from __future__ import annotations

import html
import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .saving import save_files
from .style import shorten
from .tables import WIDTH, Table, html_table, print_table

if TYPE_CHECKING:
    from rich.console import Console

#: Characters of the one line that stands for a result.
LINE = 160


@dataclass(frozen=True)
class Shown:
    """What a terminal and a notebook show below the title, in this order.

    ``lines`` are sentences on the result as a whole; ``remarks`` what to know before trusting it. Both are printable
    but not escaped for HTML.
    """

    tables: Sequence[Table] = ()
    lines: Sequence[str] = ()
    remarks: Sequence[str] = ()


class Result(ABC):
    """An audit, a comparison, a similarity or an explanation: what each says of itself, and what follows for all."""

    #: The files that :meth:`save` always writes: the page to read, and the JSON that :func:`selplug.read` takes.
    PAGE: ClassVar[str]
    JSON: ClassVar[str]

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The content of the JSON file: plain dicts, lists, numbers and strings; undefined numbers are None."""

    @abstractmethod
    def _title(self) -> str:
        """Of which model or models, and on how many samples, in one line."""

    @abstractmethod
    def _counts(self) -> str:
        """How much it holds, in a few words."""

    @abstractmethod
    def _shown(self) -> Shown: ...

    @abstractmethod
    def _write(self, staging: Path, folder: Path) -> None:
        """Writes every file into ``staging``; they move to ``folder`` afterwards."""

    def save(self, folder: str | Path) -> Path:
        """Writes the page, the JSON and what belongs to them, all of them or none; returns the folder.

        The folder is made if it is missing. Files that are there under the same names are replaced, others are kept.

        Raises:
            ReportError: the folder cannot be made or written, the disk is full, or the result holds what JSON cannot.
        """
        return save_files(lambda staging: self._write(staging, Path(folder)), folder)

    def print_to(self, console: Console) -> None:
        """Writes what the command shows to a console of rich."""
        from rich.text import Text

        # Text, not str: rich would read [brackets] in a name as markup.
        shown = self._shown()
        console.print(Text(self._title(), style="bold"))
        for table in shown.tables:
            console.print()
            print_table(table, console)
        if shown.lines or shown.remarks:
            console.print()
        for line in (*shown.lines, *(f"! {remark}" for remark in shown.remarks)):
            console.print(Text(line))

    def summary(self) -> str:
        """The tables of the terminal as plain text of fixed width, without colour codes."""
        from rich.console import Console

        console = Console(
            file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False, legacy_windows=False
        )
        with console.capture() as capture:
            self.print_to(console)
        return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"

    def _repr_html_(self) -> str:
        """Small tables for a notebook, every text escaped."""
        shown = self._shown()
        title = "<br>".join([f"<strong>{html.escape(self._title())}</strong>", *map(html.escape, shown.lines)])
        remarks = "".join(f"<li>{html.escape(remark)}</li>" for remark in shown.remarks)
        parts = [f"<p>{title}</p>", *map(html_table, shown.tables), f"<ul>{remarks}</ul>" if remarks else ""]
        return f"<div>{''.join(parts)}{self._pictures()}</div>"

    def _pictures(self) -> str:
        """HTML to stand below the tables in a notebook."""
        return ""

    def __repr__(self) -> str:
        counts = self._counts()
        return f"<{type(self).__name__}: {shorten(self._title(), LINE - len(counts))}; {counts}>"
