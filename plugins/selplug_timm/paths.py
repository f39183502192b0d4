"""Shortens paths for reports and errors, so that they do not show the folders of a machine."""

from __future__ import annotations

import os
from pathlib import PurePath

KEPT_PARTS = 2


def shown(path: str | os.PathLike[str]) -> str:
    """A relative path unchanged, an absolute one reduced to its last two parts."""
    pure = PurePath(path)
    return str(PurePath(*pure.parts[-KEPT_PARTS:])) if pure.is_absolute() else str(path)


def shown_after(separator: str, text: str) -> str:
    """Shortens the path after a prefix that ends with ``separator``: ``hfds//home/me/set`` -> ``hfds/me/set``."""
    prefix, found, rest = text.partition(separator)
    return prefix + found + shown(rest) if found else text


def listed(names: list[str], most: int = 5) -> str:
    """``a, b, c and 7 more``."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
