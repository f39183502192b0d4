"""Checks and converts the options of a timm subject."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from selplug.core.errors import InputError

#: Resize filters of timm's evaluation transform ("random" is for training only).
INTERPOLATIONS = ("bicubic", "bilinear", "nearest", "lanczos", "box", "hamming")
CROP_MODES = ("center", "squash", "border")
DEFAULT_SPLIT = "validation"


def default_workers() -> int:
    """The number of reading processes: one per available core, at most 4, since more do not help."""
    affinity = getattr(os, "sched_getaffinity", None)
    return min(4, len(affinity(0)) if affinity else os.cpu_count() or 1)


@dataclass(frozen=True)
class Options:
    """Names and meanings are those of timm's ``validate.py``, except for our own ``num_samples``, ``seed``,
    ``skip_bad`` and ``optional_data``. None means the default of the model (or the data).

    ``pretrained``: True or False; None downloads the pretrained weights unless a checkpoint is given, as validate.py
    does. ``input_size`` is (channels, height, width) and overrides ``img_size`` and ``in_chans``. ``optional_data``
    allows a subject without data, for a model that gets single images.
    """

    data_dir: str | None = None
    dataset: str = ""
    split: str = DEFAULT_SPLIT
    class_map: str | None = None
    dataset_download: bool = False
    input_key: str | None = None
    target_key: str | None = None
    checkpoint: str | None = None
    pretrained: bool | None = None
    use_ema: bool = False
    num_classes: int | None = None
    in_chans: int | None = None
    img_size: int | None = None
    input_size: tuple[int, int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop_pct: float | None = None
    crop_mode: str | None = None
    interpolation: str | None = None
    batch_size: int = 128
    num_samples: int | None = None
    workers: int = field(default_factory=default_workers)
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    channels_last: bool = False
    seed: int = 0
    skip_bad: bool = False
    gp: str | None = None
    optional_data: bool = False

    @property
    def channels(self) -> int | None:
        """The requested number of channels, None if it was not given."""
        return self.input_size[0] if self.input_size else self.in_chans


def parse_options(options: Mapping[str, Any]) -> Options:
    """Checked options; None and empty text count as not given.

    Raises:
        InputError: an unknown name (the message suggests similar ones), or a value of the wrong type or range.
    """
    known = [f.name for f in fields(Options)]
    given: dict[str, Any] = {}
    for name, value in options.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {', '.join(near)}?" if near else f"there are: {', '.join(known)}"
            raise InputError(f"unknown option {name!r} of a timm subject; {hint}")
        if value is not None and value != "":
            given[name] = _CONVERT[name](f"option {name}", value)
    parsed = Options(**given)
    for name in ("mean", "std"):
        values = getattr(parsed, name)
        if values is not None and len(values) not in (1, parsed.channels or 3):
            raise InputError(f"option {name}: expected 1 or {parsed.channels or 3} numbers, got {len(values)}")
    return parsed


def _text(what: str, value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise InputError(f"{what}: expected text, got {value!r}")
    return os.fspath(value)


def _flag(what: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{what}: expected true or false, got {value!r}")
    return value


def _at_least(low: int) -> Callable[[str, Any], int]:
    def convert(what: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise InputError(f"{what}: expected a whole number of at least {low}, got {value!r}")
        return value

    return convert


def _positive(what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and value > 0):
        raise InputError(f"{what}: expected a number above 0, got {value!r}")
    return float(value)


def _size(what: str, value: Any) -> tuple[int, int, int]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 3:
        raise InputError(f"{what}: expected channels, height and width, such as 3 224 224, got {value!r}")
    channels, height, width = (_at_least(1)(what, number) for number in value)
    return channels, height, width


def _numbers(what: str, value: Any) -> tuple[float, ...]:
    values = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    for number in values:
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
            raise InputError(f"{what}: expected finite numbers, got {value!r}")
    if not values:
        raise InputError(f"{what}: expected 1 or 3 numbers, got none")
    return tuple(float(number) for number in values)


def _positive_numbers(what: str, value: Any) -> tuple[float, ...]:
    return tuple(_positive(what, number) for number in _numbers(what, value))


def _one_of(choices: Sequence[str]) -> Callable[[str, Any], str]:
    def convert(what: str, value: Any) -> str:
        if value not in choices:
            raise InputError(f"{what}: expected one of {', '.join(choices)}, got {value!r}")
        return str(value)

    return convert


def _keywords(what: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InputError(f"{what}: expected name=value pairs, got {value!r}")
    return dict(value)


_CONVERT: dict[str, Callable[[str, Any], Any]] = {
    "data_dir": _text,
    "dataset": _text,
    "split": _text,
    "class_map": _text,
    "dataset_download": _flag,
    "input_key": _text,
    "target_key": _text,
    "checkpoint": _text,
    "pretrained": _flag,
    "use_ema": _flag,
    "num_classes": _at_least(1),
    "in_chans": _at_least(1),
    "img_size": _at_least(1),
    "input_size": _size,
    "mean": _numbers,
    "std": _positive_numbers,
    "crop_pct": _positive,
    "crop_mode": _one_of(CROP_MODES),
    "interpolation": _one_of(INTERPOLATIONS),
    "batch_size": _at_least(1),
    "num_samples": _at_least(1),
    "workers": _at_least(0),
    "model_kwargs": _keywords,
    "channels_last": _flag,
    "seed": _at_least(0),
    "skip_bad": _flag,
    "gp": _text,
    "optional_data": _flag,
}
