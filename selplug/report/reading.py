"""The files of results, on their way back: of which kind a file is, and what is checked for all kinds alike."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError

_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Kind:
    """A kind of result: what it is called, its JSON file, the command that writes it, an entry that it alone has."""

    name: str
    file: str
    command: str
    entry: str


AUDIT = Kind("report", "report.json", "selplug audit", "layers")
COMPARISON = Kind("comparison", "comparison.json", "selplug compare", "claims")
SIMILARITY = Kind("similarity", "similarity.json", "selplug similarity", "maps")
EXPLANATION = Kind("explanation", "explain.json", "selplug explain", "images")
#: In the order in which a folder with several is searched.
KINDS = (AUDIT, COMPARISON, SIMILARITY, EXPLANATION)


def find_json(path: str | Path, kinds: Sequence[Kind] = KINDS) -> Path:
    """The file itself, or the first of the kinds that a folder holds.

    Raises:
        InputError: the folder holds none of them.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    for kind in kinds:
        if (path / kind.file).is_file():
            return path / kind.file
    raise _not_there(path, "No such file in it", kinds)


def load_json(path: Path, kinds: Sequence[Kind] = KINDS) -> Any:
    """What a file holds.

    Raises:
        InputError: it is not there, or no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise _not_there(path, error.strerror or str(error), kinds) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is no JSON, or only a part of it was written ({error}); give the {_files(kinds)} that "
            f"{_commands(kinds)} wrote"
        ) from error


def kind_of(data: Any) -> Kind:
    """The kind of result that a JSON file holds, by its content; that of an audit where nothing tells."""
    own = (kind for kind in (COMPARISON, SIMILARITY, EXPLANATION) if isinstance(data, dict) and kind.entry in data)
    return next(own, AUDIT)


def check_kind(data: Any, kind: Kind, version: str) -> None:
    """Checks that a file holds a result of this kind, in a version of its format that is known here.

    Args:
        version: the one known, as in "1.0"; others with the same first number are read.

    Raises:
        InputError: it does not; the message says what it is.
    """
    found = data.get("schema_version") if isinstance(data, dict) else None
    if not isinstance(found, str):
        raise InputError(f"expected an object with a text schema_version; give the {kind.file} of {kind.command}")
    other = kind_of(data)
    if other is not kind:
        raise InputError(f"it is a result of {other.command}; give the {kind.file} of {kind.command}")
    major, known = (text.partition(".")[0] for text in (found, version))
    if major != known:
        raise InputError(f"expected schema_version {known}.x, got {found!r}; install a selplug that wrote such files")


def load_arrays(path: Path, advice: str) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz``, none if it is not there.

    Raises:
        InputError: it is damaged, or holds Python objects; ``advice`` says what to do.
    """
    if not path.exists():
        return {}
    try:
        # Opened here, as numpy leaves the file open where it is no whole zip file.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    # What is no zip file at all is one array or a pickle to numpy.
    except (OSError, ValueError, EOFError, AttributeError, TypeError, RuntimeError, *_ZIP_ERRORS) as error:
        raise InputError(f"{path} is damaged or no file of numpy arrays ({error}); {advice}") from error


def _not_there(path: Path, why: str, kinds: Sequence[Kind]) -> InputError:
    return InputError(
        f"expected a {_files(kinds)} or the folder of one, got {path} ({why}); {_commands(kinds)} and save() write it"
    )


def _files(kinds: Sequence[Kind]) -> str:
    return _either([kind.file for kind in kinds])


def _commands(kinds: Sequence[Kind]) -> str:
    return _either([kind.command for kind in kinds])


def _either(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
