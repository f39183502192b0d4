from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import InputError


def read_config(path: Path) -> dict[str, Any]:
    """The entries of a YAML or JSON file; of a report those of its plan.

    Raises:
        InputError: there is no such file, it cannot be parsed, or it holds no mapping.
    """
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--config: cannot read {path} ({error.strerror or error})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"--config: {path} is no YAML or JSON: {' '.join(str(error).split())}") from error
    if isinstance(data, Mapping) and isinstance(data.get("plan"), Mapping):
        data = data["plan"]
    if not isinstance(data, Mapping):
        raise InputError(f"--config: expected entries such as 'model: resnet18' in {path}, got {type(data).__name__}")
    return {str(key): value for key, value in data.items()}
