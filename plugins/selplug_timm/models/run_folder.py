"""Reads the flags of a timm training run from its ``args.yaml``, so that users need not repeat them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import yaml

from selplug.core.errors import InputError

from ..paths import listed, shown

ARGUMENTS = "args.yaml"
#: Flags of the train script that describe the model and its images and have the same names as our options.
_SAME_NAME = (
    "num_classes", "in_chans", "img_size", "input_size", "mean", "std", "crop_pct", "interpolation", "gp",
    "dataset", "class_map", "input_key", "target_key",
)  # fmt: skip
#: The checkpoints of a run; the first one found is used.
_CHECKPOINTS = ("model_best.pth.tar", "last.pth.tar")


def with_run(model: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any] | None]:
    """Fills in missing options from the ``args.yaml`` of a training run.

    Args:
        model: the folder of a run, a checkpoint in it, or any other model spec. For another spec, the ``args.yaml`` in
            the folder of ``options["checkpoint"]`` is used if it names the same model.
        options: None and empty text count as not given.

    Returns:
        The model spec, the options, and facts for the report: the file that was read, the options taken from it, and
        the flags of the run that are set. The facts are None if there is no run.

    Raises:
        InputError: the folder or file is not a run, or its ``args.yaml`` cannot be read.
    """
    given = {name: value for name, value in options.items() if value is not None and value != ""}
    path = Path(model)
    is_run = path.exists() and path.suffix != ".py" and not timm.is_model(model)
    if is_run:
        folder = path if path.is_dir() else path.parent
        if not (folder / ARGUMENTS).is_file():
            raise InputError(
                f"{shown(path)} is neither a model nor a training run of timm: there is no {ARGUMENTS} in "
                f"{shown(folder)}; give a model name, and --checkpoint FILE for its weights"
            )
        given.setdefault("checkpoint", str(_checkpoint(path) if path.is_dir() else path))
    elif "checkpoint" in given:
        folder = Path(given["checkpoint"]).parent
    else:
        return model, given, None
    if not (folder / ARGUMENTS).is_file():
        return model, given, None
    arguments = _read(folder / ARGUMENTS, required=is_run)
    if not is_run and arguments.get("model") != model:  # the weights were taken from another model
        return model, given, None
    filled = {name: value for name, value in _options(arguments).items() if name not in _overruled(given)}
    merged = {**filled, **given}
    kwargs = {**filled.get("model_kwargs", {}), **(given.get("model_kwargs") or {})}
    return arguments["model"], {**merged, "model_kwargs": kwargs}, _facts(folder, filled, arguments)


def _facts(folder: Path, filled: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    # Most of timm's flags are unset in any run.
    # Not "in (..., False)": an alpha of 0 must be reported.
    given = {n: value for n, value in arguments.items() if value is not False and value not in (None, "", [], {})}
    return {
        "file": shown(folder / ARGUMENTS),
        "options": sorted(filled),
        "arguments": {name: shown(value) if isinstance(value, str) else value for name, value in given.items()},
    }


def _overruled(given: Mapping[str, Any]) -> set[str]:
    """Options of the run that the given ones replace: any way to give a size replaces all sizes of the run.

    Arguments of the model are added to those of the run.
    """
    sizes = {"img_size", "input_size"}
    return (set(given) - {"model_kwargs"}) | (sizes if sizes & set(given) else set())


def _checkpoint(folder: Path) -> Path:
    for name in _CHECKPOINTS:
        if (folder / name).is_file():
            return folder / name
    numbered = {
        int(number[1]): path
        for path in folder.glob("checkpoint-*.pth.tar")
        if (number := re.fullmatch(r"checkpoint-(\d+)\.pth\.tar", path.name))
    }
    if not numbered:
        raise InputError(f"the training run {shown(folder)} has no checkpoint yet: no {' and no '.join(_CHECKPOINTS)}")
    return numbered[max(numbered)]


def _read(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        first_line = str(error).partition("\n")[0]
        raise InputError(f"{shown(path)} cannot be read as YAML: {first_line}; remove or repair it") from error
    # Other tools write files of this name too.
    if isinstance(content, dict) and isinstance(content.get("model"), str) and "num_classes" in content:
        return content
    if required:
        keys = listed([str(key) for key in content]) if isinstance(content, dict) else type(content).__name__
        raise InputError(
            f"{shown(path)} was not written by timm's train script: expected its flags, including model and "
            f"num_classes, got {keys or 'nothing'}"
        )
    return {}


def _options(arguments: Mapping[str, Any]) -> dict[str, Any]:
    kwargs = dict(arguments.get("model_kwargs") or {})
    if arguments.get("bn_eps") is not None:
        kwargs["bn_eps"] = arguments["bn_eps"]
    found = {name: arguments.get(name) for name in _SAME_NAME}
    found["data_dir"] = arguments.get("data_dir") or arguments.get("data")
    found["split"] = arguments.get("val_split")
    found["model_kwargs"] = kwargs
    return {name: value for name, value in found.items() if value not in (None, "", False, {}, [])}
