from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, get_type_hints

#: Flags of ``selplug audit`` that say which model and which data; all but the first two go to the subject.
SHARED = (
    "device", "subject",
    "data_dir", "dataset", "split", "class_map", "dataset_download", "input_key", "target_key", "checkpoint",
    "pretrained", "use_ema", "num_classes", "in_chans", "gp", "img_size", "input_size", "mean", "std", "crop_pct",
    "crop_mode", "interpolation", "batch_size", "num_samples", "workers", "channels_last", "model_kwargs", "seed",
    "skip_bad",
)  # fmt: skip


def with_shared_flags(
    audit: Callable[..., None], command: Callable[..., None], without: Collection[str] = ()
) -> Callable[..., None]:
    """``command``, its ``**flags`` spelled out as those flags of ``audit`` that both have: the same by construction."""
    hints = get_type_hints(audit, include_extras=True) | get_type_hints(command, include_extras=True)
    own = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
    theirs = inspect.signature(audit).parameters
    parameters = [*own[:-1], *(theirs[name] for name in SHARED if name not in without), own[-1]]
    typed = [parameter.replace(annotation=hints[parameter.name]) for parameter in parameters]
    command.__signature__ = inspect.Signature(typed)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in typed}
    return command


def plain_option(value: Any) -> Any:
    """As a subject takes it: a path as text, an empty choice as None."""
    if isinstance(value, Path):
        return str(value)
    return None if value in ([], ()) else value
