"""The two files for machines: ``report.json`` with every number, ``units.npz`` with every array."""

from __future__ import annotations

import json
from pathlib import Path

from ..core.errors import ReportError
from .report import Report


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
