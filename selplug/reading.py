"""``selplug.read``: the files of any result as what they were saved from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar, overload

from .core.errors import InputError
from .report.reading import AUDIT, COMPARISON, KINDS, SIMILARITY, Kind, find_json, kind_of, load_json
from .report.result import Result

R = TypeVar("R", bound=Result)


@overload
def read(path: str | Path, *, arrays: bool = True) -> Any: ...
@overload
def read(path: str | Path, kind: type[R], *, arrays: bool = True) -> R: ...
def read(path: str | Path, kind: type[Result] | None = None, *, arrays: bool = True) -> Any:
    """A saved result, as it was: ``to_dict()`` gives the content of its JSON file again.

    An audit comes back as a :class:`~selplug.Report`, without its example images, which are in the page alone, and
    without arrays where no ``units.npz`` lies beside the file; a comparison as a :class:`~selplug.Comparison`, without
    the audits; a similarity as a :class:`~selplug.SimilarityReport`; and an explanation, which needs its
    ``explain.npz``, as an :class:`~selplug.Explanation`. Entries that an older file does not have are filled in, with
    None where nothing is known.

    Args:
        path: a JSON file under any name, or a folder. Of several in a folder the first of ``report.json``,
            ``comparison.json``, ``similarity.json`` and ``explain.json`` is read, or that of ``kind``.
        kind: the class that is expected, such as ``selplug.Report``; None for any.
        arrays: of an audit, with those of ``units.npz``, which take most of the time.

    Raises:
        InputError: there is no such file, it is no result of selplug, of another kind or of a newer version, or the
            arrays beside it belong to another one.
    """
    kinds = [each for each in KINDS if kind is None or each.file == getattr(kind, "JSON", None)]
    if not kinds:
        raise InputError(f"expected a kind of result such as selplug.Report, got {kind!r}")
    file = find_json(path, kinds)
    data = load_json(file, kinds)
    found = kind_of(data)
    if found not in kinds:
        raise InputError(f"{file} is a result of {found.command}; give the {kinds[0].file} of {kinds[0].command}")
    return _made(found, data, file, arrays)


def _made(kind: Kind, data: Any, file: Path, arrays: bool) -> Result:
    # Imported where they are needed: an audit is read without what explains images.
    if kind is AUDIT:
        from .audits.reading import from_data

        return from_data(data, file, arrays)
    if kind is COMPARISON:
        from .comparisons.reading import from_data as comparison

        return comparison(data, file)
    if kind is SIMILARITY:
        from .similarities.reading import from_data as similarity

        return similarity(data, file)
    from .explanations.reading import from_data as explanation

    return explanation(data, file)
