"""How results become files: each function writes one file and raises ReportError for what it cannot hold."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ReportError
from .jsonable import jsonable
from .style import printable


def json_text(content: Any, file: str) -> str:
    """JSON of what a ``to_dict()`` gave, with a newline at the end. Same content, same text.

    ASCII only: names of unreadable files may hold bytes that are no valid UTF-8.

    Args:
        content: plain mappings, lists, numbers, texts and None; see :func:`~selplug.report.jsonable.jsonable`.
        file: what to call it in the error.

    Raises:
        ReportError: something in it is none of these; the message says where it stands and what it is.
    """
    try:
        return json.dumps(content, indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        where = _culprit(content)
        raise ReportError(
            f"{file}: expected numbers, strings, lists and mappings only, got {where or error}; look at what the "
            "subject, the settings or a plugin put there"
        ) from error


def write_json(content: Any, path: Path) -> Path:
    """Writes :func:`json_text` and gives back the path."""
    path.write_bytes(json_text(content, path.name).encode("ascii"))
    return path


def write_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> Path:
    """Writes an ``.npz`` that is read without unpickling anything. Same arrays, same bytes.

    Raises:
        ReportError: an array holds Python objects, which could not be read back safely.
    """
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise ReportError(f"{path.name}: expected an array of numbers under {name!r}, got Python objects")
    # Typed for numpy versions in which a keyword of the function itself stands among the arrays' names.
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type, unused-ignore]
    return path


def write_page(text: str, path: Path) -> Path:
    """Writes a page as UTF-8, its line ends as they are."""
    path.write_bytes(text.encode("utf-8"))
    return path


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Writes a line per row below the names of all columns; a cell is empty where its number is not defined."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([_cell(column) for column in columns])
        writer.writerows([[_cell(row.get(column)) for column in columns] for row in rows])
    return path


def _cell(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula becomes plain text."""
    if not isinstance(value, str):
        return jsonable(value)
    text = printable(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _culprit(value: Any, where: str = "", depth: int = 0) -> str | None:
    """The type and the place of the first value that JSON cannot hold."""
    if depth > 100:
        return f"a nesting that does not end, at {where[:60]}"
    inner: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                return f"the key {key!r} of type {type(key).__name__} in {where or 'the top'}"
        inner = [(f"{where}.{key}".lstrip("."), item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        inner = [(f"{where}[{place}]", item) for place, item in enumerate(value)]
    elif value is not None and not isinstance(value, (str, int, float)):
        return f"{type(value).__name__} at {where or 'the top'}"
    elif isinstance(value, float) and not math.isfinite(value):
        return f"{value} at {where or 'the top'}"
    return next(filter(None, (_culprit(item, place, depth + 1) for place, item in inner)), None)
