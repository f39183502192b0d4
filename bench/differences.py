"""Two folders of results, file by file: what differs, what is gone, what is new.

Numbers and texts have to be equal, arrays bit for bit. Left out is what says when, where and by which version a run was
made: the values of ``IGNORED``, all below ``environment`` and the hash of a ``report``, whose file holds times (they
have to be there all the same), and of a text the folders of absolute paths.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

#: ``target`` and ``version`` are those of ``selplug plugins --json``: a plugin may move.
IGNORED = {"started", "seconds", "command"}
IGNORED_OF_PLUGINS = {"target", "version"}
_FOLDERS = re.compile(r"(?<![\w./])/(?:[^\s/'\"]+/)+")

#: ("differs", "gone" or "new"; where; what).
Difference = tuple[str, str, str]


def differences(old: Path, new: Path) -> Iterator[Difference]:
    """Every difference between the files of two folders; a list that has grown differs, a mapping has new fields."""
    names = [{path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} for folder in (old, new)]
    for name, there in _sides(*map(sorted, names)):
        if there != "both":
            yield there, str(name), "file"
            continue
        read = _READERS.get(name.suffix, lambda path: {"bytes": path.read_bytes()})
        ignored = IGNORED | (IGNORED_OF_PLUGINS if name.name == "plugins.json" else set())
        yield from _between(read(old / name), read(new / name), str(name), ignored)


def count(folder: Path) -> tuple[int, int]:
    """How many files there are, and how many values in them."""
    files = [path for path in folder.rglob("*") if path.suffix in _READERS]
    return len(files), sum(_values(_READERS[path.suffix](path)) for path in files)


def _between(old: Any, new: Any, where: str, ignored: set[str]) -> Iterator[Difference]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key, there in _sides(old, new):
            place = f"{where}: {key}" if ": " not in where else f"{where}.{key}"
            if there != "both":
                yield there, place, _short(old[key] if there == "gone" else new[key])
            elif key not in ignored:
                below = set(old[key] or ()) if key == "environment" else {"sha256"} if key == "report" else set()
                yield from _between(old[key], new[key], place, ignored | below)
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield "differs", where, f"{len(old)} -> {len(new)} entries"
        yield from _between(dict(enumerate(old[: len(new)])), dict(enumerate(new[: len(old)])), where, ignored)
    elif isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
        if (old.dtype, old.shape) != (new.dtype, new.shape):
            yield "differs", where, f"{old.dtype} {old.shape} -> {new.dtype} {new.shape}"
        elif old.tobytes() != new.tobytes():
            yield "differs", where, _of_arrays(old, new)
    elif type(old) is not type(new) or _bare(old) != _bare(new):
        yield "differs", where, f"{_short(old)} -> {_short(new)}"


def _sides(old: Collection[Any], new: Collection[Any]) -> Iterator[tuple[Any, str]]:
    """All keys of both, those of the old first, with "both", "gone" or "new"."""
    yield from ((key, "both" if key in new else "gone") for key in old)
    yield from ((key, "new") for key in new if key not in old)


def _bare(value: Any) -> Any:
    return _FOLDERS.sub("", value) if isinstance(value, str) else value


def _short(value: Any, length: int = 100) -> str:
    text = repr(value)
    return text if len(text) <= length else f"{text[:length]}..."


def _of_arrays(old: np.ndarray, new: np.ndarray) -> str:
    if old.dtype.kind not in "fiu":
        return "other values"
    unequal = (old != new) & ~(np.isnan(old) & np.isnan(new))
    largest = np.max(np.abs(old[unequal].astype(np.float64) - new[unequal].astype(np.float64)), initial=0.0)
    return f"{unequal.sum()} of {old.size} values, by up to {largest:.3g}"


def _values(read: Any) -> int:
    if isinstance(read, np.ndarray):
        return read.size
    if isinstance(read, (dict, list)):
        return sum(map(_values, read.values() if isinstance(read, dict) else read))
    return 1


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _read_npz(path: Path) -> Mapping[str, np.ndarray]:
    with np.load(path) as arrays:
        return dict(arrays)


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


_READERS: Mapping[str, Any] = {".json": _read_json, ".npz": _read_npz, ".csv": _read_csv}
