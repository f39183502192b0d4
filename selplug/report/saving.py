"""Writes all files of a report or none: they are made in a folder of their own and move at the very end."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ..core.errors import ReportError


def save_files(write: Callable[[Path], None], folder: str | Path) -> Path:
    """Moves the files that ``write`` makes in an empty folder into ``folder``, all of them or none.

    If anything fails, an interrupt included, the folder is as it was before: an older report in it stays whole. Other
    files in it are left alone.

    Args:
        folder: made if it is missing, parents too.

    Returns:
        The folder.

    Raises:
        ReportError: the folder cannot be made or written, or the disk is full.
    """
    folder = Path(folder)
    with _errors_about(folder), _folder(folder, keep=True), _staging(folder) as staging:
        own = staging / "new"
        own.mkdir()
        write(own)
        _move_into_place(dict(_written(own)), folder, staging)
    return folder


def check_writable(folder: str | Path) -> None:
    """Checks before a long run that :func:`save_files` will be able to write there; leaves nothing behind.

    Raises:
        ReportError: the folder cannot be made or written.
    """
    folder = Path(folder)
    with _errors_about(folder), _folder(folder, keep=False), _staging(folder) as staging:
        (staging / "test").write_bytes(b"selplug")


def _written(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Every file below a folder, by its path relative to it."""
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            continue
        # Some file systems report a full disk only here, and it must be known before the old report goes.
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        yield path.relative_to(folder), path


def _move_into_place(files: dict[Path, Path], folder: Path, staging: Path) -> None:
    """Replaces one file after the other; if that stops halfway, the old ones come back."""
    old: dict[Path, Path | None] = {}
    for number, relative in enumerate(files):
        target, backup = folder / relative, staging / f"old-{number}"
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
        old[target] = Path(shutil.copy2(target, backup)) if target.exists() else None
        target.parent.mkdir(parents=True, exist_ok=True)
    try:
        for relative, source in files.items():
            os.replace(source, folder / relative)
    except BaseException:  # an interrupt too must not leave half of each report
        for target, copy in old.items():
            if copy is None:
                target.unlink(missing_ok=True)
            else:
                os.replace(copy, target)
        raise


@contextlib.contextmanager
def _folder(folder: Path, keep: bool) -> Iterator[None]:
    """The folder exists inside; what was made for it goes again, unless it is to be kept and all went well."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    done = False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
        done = True
    finally:
        if not (done and keep):
            for path in made:
                with contextlib.suppress(OSError):  # somebody else may use it by now, or it was never made
                    path.rmdir()


@contextlib.contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    # Inside the target: moving within one file system never copies, so it cannot run out of space halfway.
    staging = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextlib.contextmanager
def _errors_about(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "free some space or choose a folder on another disk"
        elif isinstance(error, (FileExistsError, NotADirectoryError, IsADirectoryError)):
            advice = "a file stands where a folder is needed or the other way round; choose another folder"
        else:
            advice = "choose a folder that you may write to"
        where = f" ({error.filename})" if error.filename and str(error.filename) != str(folder) else ""
        raise ReportError(
            f"cannot write the report into {folder}: {error.strerror or error}{where}; {advice}"
        ) from error
