from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .style import label, printable, shorten


@dataclass(frozen=True)
class Menu:
    """``options``: ``(value, text)``; texts are printable but not escaped for HTML.

    ``shared`` names the picker of the page that answers for all plots at once, such as "layer"; empty: its own menu.
    """

    label: str
    options: tuple[tuple[str, str], ...]
    shared: str = ""


@dataclass(frozen=True)
class Plot:
    """A figure with its menus. ``data`` is what :func:`packed` returns, ``digits`` how many of them a page keeps."""

    id: str
    title: str
    describe: str
    menus: tuple[Menu, ...]
    data: dict[str, Any] = field(repr=False)
    digits: int = 6


def packed(choices: dict[str, Figure]) -> dict[str, Any]:
    """Figures by choice -> ``{"base": first figure, "choices": {choice: {"data", "layout"}}}``.

    A choice holds, trace by trace, the keys in which it differs from the first figure, None for a key that it lacks;
    with another number of traces it holds them all, under ``"traces"``.
    """
    base = next(iter(choices.values()))
    result: dict[str, Any] = {"base": base, "choices": {}}
    for key, figure in choices.items():
        changed: dict[str, Any] = {"layout": _difference(base["layout"], figure["layout"])}
        if len(figure["data"]) == len(base["data"]):
            changed["data"] = [_difference(*pair) for pair in zip(base["data"], figure["data"], strict=True)]
        else:
            changed["traces"] = figure["data"]
        result["choices"][key] = changed
    return result


def _difference(old: Figure, new: Figure) -> Figure:
    changed = {key: value for key, value in new.items() if key not in old or old[key] != value}
    return changed | {key: None for key in old if key not in new}


def plot_with_menus(
    id: str,  # noqa: A002
    title: str,
    describe: str,
    menus: list[Menu],
    draw: Callable[..., Figure],
    digits: int = 6,
) -> Plot:
    combinations = itertools.product(*([value for value, _ in menu.options] for menu in menus))
    # A menu with one entry asks nothing.
    asked = tuple(menu for menu in menus if len(menu.options) > 1)
    kept = [len(menu.options) > 1 for menu in menus]
    drawn = {
        "|".join(value for value, keep in zip(values, kept, strict=True) if keep): draw(*values)
        for values in combinations
    }
    return Plot(id, title, describe, asked, packed(drawn), digits)


def plain_plot(id: str, title: str, describe: str, figure: Figure) -> Plot:  # noqa: A002
    return Plot(id, title, describe, (), packed({"": figure}))


Figure = dict[str, Any]


def base_trace(place: int, name: str) -> Figure:
    # The full name goes through meta: a "%{...}" in a name must not become a placeholder of the hover text.
    short = label(shorten(printable(name), 40, tail=0.25))
    return {"type": "scatter", "name": short, "legendgroup": str(place), "meta": [label(name)]}


def base_layout(title: str, height: int) -> Figure:
    return {
        "title": {"text": title},
        "height": height,
        "hovermode": "closest",
        "margin": {"l": 60, "r": 20, "t": 50, "b": 50},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "meta": {"note": ""},
    }
