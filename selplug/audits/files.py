"""The two files for machines: ``report.json`` with every number, ``units.npz`` with every array."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..core.errors import ReportError
from ..registry import load, plugins
from ..report import saving
from .record import AuditRecord


def write_json(report: AuditRecord, folder: Path) -> Path:
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


def write_npz(report: AuditRecord, folder: Path) -> Path:
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


GROUP = "selplug.reports"
#: ``(report, folder) -> path of the file written in that folder``.
Writer = Callable[[AuditRecord, Path], Path]


def save(report: AuditRecord, folder: str | Path) -> Path:
    """Runs every writer of the group ``selplug.reports`` and puts their files into ``folder``, all of them or none.

    See :func:`~selplug.report.saving.save_files`. A writer whose extra is not installed is left out.

    Raises:
        ReportError: the folder cannot be made or written, the disk is full, or two writers make the same file.
        PluginError: a writer cannot be loaded.
    """
    writers = _writers()
    return saving.save_files(lambda staging: _write(report, writers, staging), folder)


def check_writable(folder: str | Path) -> None:
    """Checks before a long run that :func:`save` will be able to write there; leaves nothing behind.

    Raises:
        ReportError: the folder cannot be made or written.
        PluginError: a writer cannot be loaded.
    """
    _writers()
    saving.check_writable(folder)


def _writers() -> dict[str, Writer]:
    return {name: load(GROUP, name) for name, plugin in plugins(GROUP).items() if not plugin.missing}


def _write(report: AuditRecord, writers: dict[str, Writer], staging: Path) -> None:
    """Every writer fills a folder of its own; their files end in ``staging``."""
    owner: dict[Path, str] = {}
    for name, writer in writers.items():
        own = Path(tempfile.mkdtemp(dir=staging))
        returned = Path(writer(report, own))
        if own.resolve() not in returned.resolve().parents or not returned.exists():
            raise ReportError(
                f"the report writer {name!r} has to return the path of a file that it wrote in the given folder, "
                f"got {returned}; correct that plugin or uninstall it"
            )
        for path in sorted(path for path in own.rglob("*") if not path.is_dir()):
            relative = path.relative_to(own)
            other = owner.setdefault(relative, name)
            if other != name:
                raise ReportError(
                    f"the report writers {other!r} and {name!r} both write {relative}; uninstall one of them"
                )
            (staging / relative).parent.mkdir(parents=True, exist_ok=True)
            path.replace(staging / relative)
        shutil.rmtree(own)
