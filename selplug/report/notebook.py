from __future__ import annotations

import html
import textwrap
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError
from . import plots
from .style import label, listing

if TYPE_CHECKING:
    import plotly.graph_objects as go

#: Characters per line of the note below a title.
WIDTH = 110


def check_one_of(name: str, known: Collection[str], what: str, of: str = "report") -> None:
    if name not in known:
        raise InputError(f"expected a {what} of this {of} ({listing(known, 20) or 'it has none'}), got {name!r}")


def notebook_figure(figure: plots.Figure, title: str | None = None) -> go.Figure:
    """A figure that stands alone: the note below its title, a legend, and the reader's own template for the rest."""
    import plotly.graph_objects as go

    # A condition without a value would have a name in the legend and no line.
    data = [trace for trace in figure["data"] if _has_values(trace)]
    layout: dict[str, Any] = {key: value for key, value in figure["layout"].items() if not key.endswith("_bgcolor")}
    note = html.unescape(layout["meta"]["note"])
    lines = [label(line) for line in textwrap.wrap(note, WIDTH)]
    top = 50 + 16 * len(lines) + (25 if layout.get("annotations") else 0)
    layout |= {
        "meta": {"note": note},
        "title": {
            "text": title or layout["title"]["text"],
            "subtitle": {"text": "<br>".join(lines), "font": {"size": 12}},
            "yref": "container",
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 14},
        },
        "height": layout["height"] - layout["margin"]["t"] + top,
        "margin": {**layout["margin"], "t": top},
        "legend": {"tracegroupgap": 0, "font": {"size": 11}},
    }
    return go.Figure({"data": data, "layout": layout})


def _has_values(trace: plots.Figure) -> bool:
    return trace["type"] != "scatter" or any(value is not None for value in trace["y"])
