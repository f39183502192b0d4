"""Colours, short names, safe labels and number formats of all figures and tables."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

from ..core.words import plural as plural  # noqa: PLC0414

#: Mid-tones, readable on white and on near-black; the first is for clean images.
PALETTE = (
    "#3b82c4",
    "#e0702f",
    "#2b9d6a",
    "#c2529b",
    "#8f6fd6",
    "#b28a14",
    "#d64f5f",
    "#1c9fae",
    "#947763",
    "#7d9130",
)
SYMBOLS = ("circle", "square", "diamond", "triangle-up")
GREY = "#8a8f98"


def color(index: int) -> str:
    """The colour of the condition with this index in the report, the same in every figure."""
    return PALETTE[index % len(PALETTE)]


def symbol(index: int) -> str:
    """The marker of a condition; it distinguishes conditions with the same colour."""
    return SYMBOLS[index // len(PALETTE) % len(SYMBOLS)]


def printable(text: object) -> str:
    """Text without control characters and invalid unicode, which could control a terminal or break an encoder."""
    text = str(text)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def label(text: object) -> str:
    """Text escaped for a plotly label, which reads ``<b>`` as markup. Quotes stay, since plotly ignores ``&quot;``."""
    return html.escape(printable(text), quote=False)


def shorten(text: str, limit: int, tail: float = 0.5) -> str:
    """At most ``limit`` characters, cut in the middle; ``tail`` is the share of them kept from the end."""
    if len(text) <= limit:
        return text
    last = round((limit - 1) * tail)
    return text[: limit - 1 - last] + "…" + text[len(text) - last :]


def short_names(names: Sequence[str], limit: int, tail: float = 0.5) -> list[str]:
    """Shortened names; equal results are numbered."""
    short = [shorten(printable(name), limit, tail) for name in names]
    return [name if short.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(short, 1)]


def listing(names: Iterable[str], limit: int = 6) -> str:
    """The first few names, and the number of all others."""
    names = [printable(name) for name in names]
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def number(value: Any) -> float | None:
    """A finite number, also from numpy and torch scalars; None for anything else."""
    if hasattr(value, "item"):
        try:
            value = value.item()
        except (RuntimeError, ValueError):  # a tensor or an array of more than one value
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def interval(ci95: Sequence[float]) -> str:
    low, high = ci95
    return f"{100 * low:.1f}–{100 * high:.1f} %"


def short_number(value: Any, missing: str = "–", spec: str = ".4g") -> str:
    """Four significant digits, or the format ``spec``; integers stay integers."""
    value = number(value)
    if value is None:
        return missing
    return f"{int(value)}" if isinstance(value, int) or value == 0 else f"{value:{spec}}"
