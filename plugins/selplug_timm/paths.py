"""How a report and an error call a file: without the folders of the machine it lies on."""

from __future__ import annotations

import os
from pathlib import PurePath

KEPT_PARTS = 2


def shown(path: str | os.PathLike[str]) -> str:
    """A relative path as it is; of an absolute one only the last two parts."""
    pure = PurePath(path)
    return str(PurePath(*pure.parts[-KEPT_PARTS:])) if pure.is_absolute() else str(path)


def shown_after(separator: str, text: str) -> str:
    """``hfds//home/me/data/set`` -> ``hfds/data/set`` for a prefix that ends with ``separator``."""
    prefix, found, rest = text.partition(separator)
    return prefix + found + shown(rest) if found else text


def listed(names: list[str], most: int = 5) -> str:
    """``a, b, c and 7 more``."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
