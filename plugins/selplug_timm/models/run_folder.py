"""What a training run of timm left: the flags in its ``args.yaml``, so that nobody has to repeat them."""

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
#: Flags of the train script that say what the model is and what its images are, spelled as our options.
_SAME_NAME = (
    "num_classes", "in_chans", "img_size", "input_size", "mean", "std", "crop_pct", "interpolation", "gp",
    "dataset", "class_map", "input_key", "target_key",
)  # fmt: skip
#: The checkpoint to take of a run, the first that is there.
_CHECKPOINTS = ("model_best.pth.tar", "last.pth.tar")


def with_run(model: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any] | None]:
    """Fills in, from the ``args.yaml`` of a training run, the options that are not given.

    Args:
        model: the folder of a run or a checkpoint in it; or any other model spec, for which the ``args.yaml`` beside
            ``options["checkpoint"]`` counts if it names the same model.
        options: None and empty text count as not given.

    Returns:
        The model spec, the options, and for the report which file was read, which options it gave, and the flags of
        the run that are set; None if none.

    Raises:
        InputError: a folder or file that is no run, or an ``args.yaml`` that cannot be read.
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
    if not is_run and arguments.get("model") != model:  # weights that went into another model
        return model, given, None
    filled = {name: value for name, value in _options(arguments).items() if name not in _overruled(given)}
    merged = {**filled, **given}
    kwargs = {**filled.get("model_kwargs", {}), **(given.get("model_kwargs") or {})}
    return arguments["model"], {**merged, "model_kwargs": kwargs}, _facts(folder, filled, arguments)


def _facts(folder: Path, filled: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    # Most of timm's flags are unset in any run.
    # Not "in (..., False)": an alpha of 0 is a fact.
    given = {n: value for n, value in arguments.items() if value is not False and value not in (None, "", [], {})}
    return {
        "file": shown(folder / ARGUMENTS),
        "options": sorted(filled),
        "arguments": {name: shown(value) if isinstance(value, str) else value for name, value in given.items()},
    }


def _overruled(given: Mapping[str, Any]) -> set[str]:
    """One way to give a size wins over the run's other; arguments of the model join those of the run."""
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
        raise InputError(f"{shown(path)} cannot be read as YAML: {first_line}; remove or mend it") from error
    # Other tools write files of this name, too.
    if isinstance(content, dict) and isinstance(content.get("model"), str) and "num_classes" in content:
        return content
    if required:
        keys = listed([str(key) for key in content]) if isinstance(content, dict) else type(content).__name__
        raise InputError(
            f"{shown(path)} is not what timm's train script writes: expected its flags, model and num_classes among "
            f"them, got {keys or 'nothing'}"
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
