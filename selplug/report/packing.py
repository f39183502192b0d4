"""Figures as text for the inside of a page: short, rounded, and compressed where they are many."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

#: Bytes of JSON up to which a plot stays readable text, and the significant digits of those beyond it.
PLAIN = 60_000
DIGITS = 4


def stored(data: dict[str, Any], digits: int = 6) -> dict[str, Any]:
    """What :func:`selplug.report.plots.packed` made, as the page's script reads it.

    Where it is large, the base and every choice become text of their own, :func:`squeezed`, so that a page opens
    without reading what nobody has asked for yet; no float keeps more than :data:`DIGITS` digits then.
    """
    if len(_json(data["base"])) * len(data["choices"]) <= PLAIN:
        return rounded(data, digits)
    data = rounded(data, min(digits, DIGITS))
    return {"base": squeezed(data["base"]), "choices": {key: squeezed(value) for key, value in data["choices"].items()}}


def squeezed(value: Any) -> str:
    """JSON, deflated (zlib, RFC 1950), as base64."""
    return base64.b64encode(zlib.compress(_json(value).encode("ascii"), 9)).decode("ascii")


def script_json(value: Any) -> str:
    """JSON for the inside of a ``<script>``: no ``<``, ``>`` or ``&``, six significant digits."""
    text = _json(rounded(value))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def rounded(value: Any, digits: int = 6) -> Any:
    """Every float in nested dicts and lists to so many significant digits."""
    spec = f".{digits}g"

    def shorter(item: Any) -> Any:
        if isinstance(item, float):
            return float(format(item, spec))
        if isinstance(item, dict):
            return {key: shorter(each) for key, each in item.items()}
        if isinstance(item, (list, tuple)):
            return [shorter(each) for each in item]
        return item

    return shorter(value)


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
