"""Maps layer x layer as plotly figure dicts, for the report of an audit and the page of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .plots import Figure, base_layout
from .style import label, listing, number, short_names

#: Readable on white and on near-black, and in the same order for those who see no colours.
COLORS = "Viridis"


def heat_map(
    values: Sequence[Sequence[Any]],
    rows: Sequence[str],
    columns: Sequence[str],
    scale: str,
    *,
    titles: tuple[str, str] = ("layer, input to output", "layer, input to output"),
    limits: tuple[float, float] = (0, 1),
    bright_is_low: bool = False,
    blocks: Sequence[Sequence[int]] = (),
) -> Figure:
    """A map of layers, the input at the bottom left; undefined values are gaps.

    Args:
        values: R rows of K numbers.
        rows, columns: R and K names of layers.
        scale: what the colours stand for, estimator included.
        titles: of the rows' and the columns' axis.
        limits: of the colours; values beyond them keep the last one.
        blocks: first and last layer, from 0, of blocks to outline.
    """
    cells = [[number(value) for value in row] for row in values]
    y, x = ([f"{place} · {label(name)}" for place, name in enumerate(names, 1)] for names in (rows, columns))
    trace = {
        "type": "heatmap",
        "z": cells,
        "x": x,
        "y": y,
        "zmin": limits[0],
        "zmax": limits[1],
        "colorscale": COLORS,
        "reversescale": bright_is_low,
        "xgap": 1 if len(x) <= 60 else 0,
        "ygap": 1 if len(y) <= 60 else 0,
        "meta": [label(scale)],
        "colorbar": {"title": {"text": label(scale), "side": "right"}, "thickness": 14, "outlinewidth": 0},
        "hovertemplate": "%{y}<br>%{x}<br>%{meta[0]}: <b>%{z:.4f}</b><extra></extra>",
        "hoverongaps": False,
    }
    layout = base_layout("", height=min(max(200 + 22 * len(y), 420), 820))
    for axis, names, ticks, title in (("yaxis", rows, y, titles[0]), ("xaxis", columns, x, titles[1])):
        step = -(-len(ticks) // 40)  # more names than these would cover each other
        layout[axis] = {
            "type": "category",
            "title": {"text": label(title)},
            "tickmode": "array",
            "tickvals": ticks[::step],
            "ticktext": [f"{place} · {label(name)}" for place, name in enumerate(short_names(names, 20, tail=0.65), 1)][
                ::step
            ],
            "tickfont": {"size": 10},
            "automargin": True,
            "showgrid": False,
        }
    layout["shapes"] = [
        {
            "type": "rect",
            **dict.fromkeys(("x0", "y0"), first - 0.5),
            **dict.fromkeys(("x1", "y1"), last + 0.5),
            "line": {"color": "#e0702f", "width": 2},
        }
        for first, last in blocks
    ]
    gaps = [name for name, row in zip(rows, cells, strict=True) if all(value is None for value in row)]
    layout["meta"]["note"] = f"Not defined, since nothing varies there: {listing(gaps)}." if gaps else ""
    return {"data": [trace], "layout": layout}
