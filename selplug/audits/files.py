"""The two files for machines: ``report.json`` with every number, ``units.npz`` with every array."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..core.errors import ReportError
from ..registry import load, plugins
from ..report import saving, writing
from .record import AuditRecord


def write_json(report: AuditRecord, folder: Path) -> Path:
    """Writes ``report.json``; its schema is ``report.schema.json`` of this package. Same content, same bytes.

    Raises:
        ReportError: a plugin or the caller put something into the report that JSON cannot hold.
        OSError: the file cannot be written.
    """
    return writing.write_json(report.to_dict(), Path(folder) / "report.json")


def write_npz(report: AuditRecord, folder: Path) -> Path:
    """Writes ``units.npz``, arrays under ``layer|condition|value``. Same content, same bytes.

    Raises:
        ReportError: an array holds Python objects, which could not be read back safely.
        OSError: the file cannot be written.
    """
    return writing.write_arrays(report.arrays(), Path(folder) / "units.npz")


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
    return saving.save_files(lambda staging: write(report, staging), folder)


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


def write(report: AuditRecord, staging: Path) -> None:
    """Every writer fills a folder of its own; their files end in ``staging``. For :func:`save`, which says more."""
    owner: dict[Path, str] = {}
    for name, writer in _writers().items():
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
