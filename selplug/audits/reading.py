"""``selplug.read``: the files of a saved report as a :class:`Report` again."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.clean import CLEAN
from ..core.errors import InputError
from ..report.typed_json import record
from .engine.results import AuditResult, Condition, LayerResult, WorstCase
from .facts.attack_checks import Check
from .record import SCHEMA_VERSION
from .report import Report

#: Arrays of selplug's own measures that hold one number per unit.
OF_UNITS = ("selectivity", "selectivity_null", "gradient")
#: An entry that only the other files of selplug hold -> what writes them.
OTHERS = {"maps": "selplug similarity", "images": "selplug explain"}
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class _Corruptions:
    """See :func:`selplug.audits.facts.corruptions.summarize`."""

    strengths: str
    accuracy: Mapping[str, Mapping[str, float]]
    mean_accuracy: float
    baseline: str | None
    corruption_error: Mapping[str, float]
    mce: float | None
    relative_mce: float | None


@dataclass(frozen=True)
class _Data:
    """Of ``subject.data``, what the rest of a report is made with."""

    samples_per_class: tuple[int, ...] | None = None
    samples_digest: str | None = None


@dataclass(frozen=True)
class _File:
    """``report.json``. What has a default here was not in the files of the first weeks."""

    subject: Mapping[str, Any]
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    conditions: tuple[Condition, ...]
    worst_case: WorstCase | None
    layers: tuple[LayerResult, ...]
    attack_checks: tuple[Check, ...] | None = None
    corruptions: _Corruptions | None = None
    between_layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    plan: Mapping[str, Any] | None = None


def read(path: str | Path, *, arrays: bool = True) -> Report:
    """A saved report, as it was: ``to_dict()`` gives the content of the file, ``arrays()`` that of ``units.npz``.

    The example images are not kept in these files, so ``examples`` is empty; so is ``arrays()`` without a ``units.npz``
    beside the file. Entries that an older file does not have are filled in, with None where nothing is known:
    ``to_dict()`` then has them as well. Among them are ``kind``, ``options`` and ``threat`` of the conditions, which
    older files tell in ``settings.perturbations`` alone.

    Args:
        path: a ``report.json``, or the folder that holds one.
        arrays: with those of ``units.npz``, which take most of the time.

    Raises:
        InputError: there is no such file, it is no report of an audit or of a newer selplug, or the ``units.npz``
            beside it belongs to another one.
    """
    path = Path(path)
    path = path / "report.json" if path.is_dir() else path
    data = _json(path)
    try:
        _check_kind(data)
        file = record(_File, {**data, **_told_conditions(data)}, "")
        facts = record(_Data, file.subject.get("data") or {}, "subject.data")
        if not file.conditions:
            raise InputError("conditions: expected at least one, got an empty list")
        if file.conditions[0].kind != CLEAN:
            raise InputError(f"conditions[0].kind: expected {CLEAN!r}, got {file.conditions[0].kind!r}")
    except InputError as error:
        raise InputError(f"{path} cannot be read as a report: {error}") from error
    result = AuditResult(
        conditions=file.conditions,
        worst_case=file.worst_case,
        layers=_with_arrays(file, path.with_name("units.npz"), arrays),
        samples_per_class=facts.samples_per_class or (),
        between_layers=file.between_layers,
        samples_digest=facts.samples_digest,
    )
    checks = None if file.attack_checks is None else [asdict(check) for check in file.attack_checks]
    as_saved: dict[str, Any] = {"attack_checks": checks}
    if "corruptions" in data:  # files of the first weeks do not say; the rest of what they hold does
        as_saved["corruptions"] = None if file.corruptions is None else asdict(file.corruptions)
    return Report(file.subject, file.settings, file.environment, result, as_saved, file.plan)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"expected a report.json or the folder of one, got {path} ({error.strerror or error}); selplug audit and "
            "Report.save write it"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is no JSON, or only a part of it was written ({error}); give the report.json that the audit wrote"
        ) from error


def _check_kind(data: Any) -> None:
    """Whether this is a report of an audit, in a version of the format that is known here."""
    version = data.get("schema_version") if isinstance(data, dict) else None
    if not isinstance(version, str):
        raise InputError("expected an object with a text schema_version; give the report.json of an audit")
    for entry, command in OTHERS.items():
        if entry in data:
            raise InputError(f"it is a result of {command}; give the report.json of an audit")
    major, known = (text.partition(".")[0] for text in (version, SCHEMA_VERSION))
    if major != known:
        raise InputError(f"expected schema_version {known}.x, got {version!r}; install a selplug that wrote such files")


def _told_conditions(data: Mapping[str, Any]) -> dict[str, Any]:
    """The conditions with the kind, options and threat that older files tell in ``settings.perturbations`` alone.

    There the first condition is clean, and a perturbation that the settings do not tell of is an attack without
    options. What is no list of objects stays as it is, to be refused with its place.
    """
    settings, conditions = data.get("settings"), data.get("conditions")
    if not isinstance(settings, dict) or not isinstance(conditions, list):
        return {}
    listed = settings.get("perturbations")
    entries = [e for e in listed if isinstance(e, dict)] if isinstance(listed, list) else []

    def told(place: int, condition: Any) -> Any:
        if not isinstance(condition, dict) or "kind" in condition:
            return condition
        if place == 0:
            return {**condition, "kind": CLEAN}
        entry = next((e for e in entries if e.get("name") == condition.get("name")), {})
        facts = {key: entry[key] for key in ("options", "threat") if isinstance(entry.get(key), dict)}
        return {**condition, "kind": str(entry.get("kind", "attack")), **facts}

    return {"conditions": [told(place, condition) for place, condition in enumerate(conditions)]}


def _with_arrays(file: _File, path: Path, arrays: bool) -> tuple[LayerResult, ...]:
    """The layers with what ``units.npz`` holds of them, and whether they were rectified."""
    owners = {
        f"{layer.name}|{prefix}{condition.name}": (layer.name, prefix + condition.name)
        for layer in file.layers
        for condition in file.conditions
        for prefix in ("", "difference:")
    }
    units = {layer.name: layer.units for layer in file.layers}
    found: dict[str, dict[tuple[str, str], np.ndarray]] = {layer.name: {} for layer in file.layers}
    for key, array in (_npz(path) if arrays else {}).items():
        # Any of the three names may hold a "|" of its own.
        ends = [place for place, char in enumerate(key) if char == "|" and key[:place] in owners]
        if not ends:
            raise _foreign(path, f"no layer and condition of the report belongs to {key!r}")
        layer, condition = owners[key[: ends[0]]]
        value = key[ends[0] + 1 :]
        if value in OF_UNITS and array.shape != (units[layer],):
            raise _foreign(path, f"expected {units[layer]} units under {key!r}, got the shape {array.shape}")
        found[layer][condition, value] = array
    rectified = file.settings.get("rectified_layers")
    rectified = rectified if isinstance(rectified, list) else []
    return tuple(replace(layer, rectified=layer.name in rectified, arrays=found[layer.name]) for layer in file.layers)


def _npz(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    try:
        # Opened here, as numpy leaves the file open where it is no whole zip file.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    # What is no zip file at all is one array or a pickle to numpy.
    except (OSError, ValueError, EOFError, AttributeError, TypeError, RuntimeError, *_ZIP_ERRORS) as error:
        raise InputError(
            f"{path} is damaged or no file of numpy arrays ({error}); remove it to read the report without arrays"
        ) from error


def _foreign(path: Path, what: str) -> InputError:
    return InputError(
        f"{path} does not belong to the report.json beside it: {what}; keep the files of one report together, or "
        "remove it to read the report without arrays"
    )
