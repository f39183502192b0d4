from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import PluginError

if TYPE_CHECKING:
    import pandas as pd


def map_frame(
    values: Sequence[Sequence[Any]] | np.ndarray, rows: Sequence[str], columns: Sequence[str]
) -> pd.DataFrame:
    """A map layer x layer, labelled with the names of the layers."""
    return pandas().DataFrame(np.array(values, dtype=np.float64), index=list(rows), columns=list(columns))


def table_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """A frame of rows that may hold mappings, see the top of this module."""
    return frame_of([flattened(row) for row in rows])


def frame_of(rows: list[dict[str, Any]], first: Sequence[str] = ()) -> pd.DataFrame:
    """Rows as a frame; ``first`` are its first columns, there without rows too."""
    columns = dict.fromkeys([*first, *(key for row in rows for key in row)])
    # Not by DataFrame(rows): a column of None alone would hold objects, and one of flags with gaps too.
    return pandas().DataFrame({name: _column([row.get(name) for row in rows]) for name in columns})


def _column(values: list[Any]) -> Any:
    known = [value for value in values if value is not None]
    kind: Any = None  # texts and whole numbers as pandas has them
    if not known:
        kind = np.float64
    elif all(isinstance(value, bool) for value in known):
        kind = "boolean" if len(known) < len(values) else bool
    elif any(isinstance(value, bool) or not isinstance(value, (int, float, str)) for value in known):
        kind = object
    return pandas().Series(values, dtype=kind)


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Mappings in mappings as one, their names joined by dots; numpy and torch scalars unwrapped."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flattened(value, f"{prefix}{key}.")
        else:
            scalar = hasattr(value, "item") and getattr(value, "ndim", 0) == 0
            found[f"{prefix}{key}"] = value.item() if scalar else value
    return found


def pandas() -> Any:
    try:
        import pandas as pd
    except ImportError as error:
        raise PluginError('data frames need pandas, which is not installed: pip install "selplug[notebook]"') from error
    return pd
