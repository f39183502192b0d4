"""The two files for machines: ``report.json`` with every number, ``units.npz`` with every array."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..core.errors import ReportError
from .report import Report

if TYPE_CHECKING:
    from rich.console import Console


class Result(Protocol):
    """What has a content for programs."""

    def to_dict(self) -> dict[str, Any]: ...


R = TypeVar("R", bound=Result)


def write_json(report: Report, folder: Path) -> Path:
    """Writes ``report.json``; its schema is ``report.schema.json`` of this package. Same content, same bytes.

    Raises:
        ReportError: a plugin or the caller put something into the report that JSON cannot hold.
        OSError: the file cannot be written.
    """
    try:
        # ASCII only: names of unreadable files may hold bytes that are no valid UTF-8.
        text = json.dumps(report.to_dict(), indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ReportError(
            f"report.json: expected numbers, strings, lists and mappings only ({error}); look at what the subject, the "
            "settings or a measure's section holds"
        ) from error
    path = Path(folder) / "report.json"
    path.write_bytes(text.encode("ascii") + b"\n")
    return path


def write_npz(report: Report, folder: Path) -> Path:
    """Writes ``units.npz``, arrays under ``layer|condition|value``. Same content, same bytes.

    Raises:
        ReportError: an array holds Python objects, which could not be read back safely.
        OSError: the file cannot be written.
    """
    import numpy as np

    arrays = report.arrays()
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise ReportError(f"units.npz: expected an array of numbers under {name!r}, got Python objects")
    path = Path(folder) / "units.npz"
    # Typed for numpy versions in which a keyword of the function itself stands among the arrays' names.
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type, unused-ignore]
    return path


def hand_out(result: R, tables: Callable[[R, Console], None], where: str, json_file: str | None, quiet: bool) -> None:
    """What a command leaves beside the files of its folder: JSON where it was asked for, and tables on the terminal.

    Args:
        tables: writes them to a console.
        where: the last line below them.
        json_file: a path, or ``-`` for the standard output; the tables then go to the error stream.
        quiet: no tables.
    """
    if json_file:
        text = json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n"
        if json_file == "-":
            sys.stdout.write(text)
        else:
            Path(json_file).write_text(text, encoding="utf-8")
    if not quiet:
        from rich.console import Console

        console = Console(stderr=json_file == "-")
        tables(result, console)
        console.print(where, markup=False, highlight=False, soft_wrap=True)
