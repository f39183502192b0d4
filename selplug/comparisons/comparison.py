from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError, ReportError
from ..report.jsonable import jsonable
from ..report.saving import save_files
from ..report.style import printable
from .record import PAGE, ComparisonRecord, claim_facts
from .verdicts import Judged

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Comparison(ComparisonRecord):
    """What :func:`selplug.compare` found; ``save`` writes it."""

    def frame(self) -> pd.DataFrame:
        """A row per network, as in ``comparison.csv``; needs pandas.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise InputError("data frames need pandas: pip install 'selplug[notebook]'") from error
        return pd.DataFrame(self.rows()).set_index("name")

    def save(self, folder: str | Path) -> Path:
        """Writes ``compare.html``, ``comparison.json``, ``comparison.csv`` and ``claims.csv``, all of them or none.

        Raises:
            ReportError: the folder cannot be made or written, or the disk is full.
        """
        return save_files(lambda staging: self._write(staging, Path(folder)), folder)

    def summary(self) -> str:
        """The tables of the terminal as plain text."""
        from rich.console import Console

        from ..report.tables import WIDTH
        from .tables import print_comparison

        console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False)
        with console.capture() as capture:
            print_comparison(self, console)
        return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"

    def _write(self, staging: Path, folder: Path) -> None:
        from .page import render

        try:
            text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ReportError(
                f"comparison.json: expected numbers, strings, lists and mappings only ({error})"
            ) from error
        (staging / "comparison.json").write_bytes(text.encode("ascii") + b"\n")
        _write_csv(self.rows(), staging / "comparison.csv")
        _write_csv([_claim_row(judged) for judged in self.claims], staging / "claims.csv")
        (staging / PAGE).write_bytes(render(self, folder).encode("utf-8"))


def _claim_row(judged: Judged) -> dict[str, Any]:
    row = claim_facts(judged)
    interval, parts = row.pop("ci95") or (None, None), row.pop("parts")
    ends = {"ci95_low": interval[0], "ci95_high": interval[1]}
    several = parts if len(parts) > 1 else ()
    return row | ends | {"parts": "; ".join(_part(part) for part in several)}


def _part(part: Mapping[str, Any]) -> str:
    value, interval = part["value"], part["ci95"]
    shown = "not defined" if value is None else f"{value:.6g}"
    return f"{part['label']}: {shown}" + (f" [{interval[0]:.6g}, {interval[1]:.6g}]" if interval else "")


def _write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([_cell(column) for column in columns])
        writer.writerows([[_cell(row.get(column)) for column in columns] for row in rows])


def _cell(value: Any) -> Any:
    """Empty if not defined; text that a spreadsheet would run as a formula becomes plain text."""
    if not isinstance(value, str):
        return jsonable(value)
    text = printable(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
