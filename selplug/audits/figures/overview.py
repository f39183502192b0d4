"""One map of everything: a row per condition, a column per layer, coloured by one measured value."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.errors import InputError
from ...report.heat_map import COLORS
from ...report.plots import Figure, Menu, Plot, base_layout, plot_with_menus
from ...report.style import label, printable, short_names
from ..record import AuditRecord
from .dimensionality import DIMENSIONS
from .gradients import GRADIENTS
from .over_depth import depth_axis, depth_ticks, section_names, section_values


def overview_plots(report: AuditRecord) -> list[Plot]:
    """Every layer under every condition at once, if anything was measured under more than one condition."""
    found = values(report)
    if not found or len(report.result.conditions) < 2:
        return []
    menus = [
        Menu("Value", tuple((str(place), value.title) for place, value in enumerate(found))),
        Menu("Show", (("value", "the value"), ("change", "its change from clean images"))),
    ]
    text = (
        "A row per condition, a column per layer from input to output. Click a cell to choose its layer and condition."
    )

    def draw(place: str, show: str) -> Figure:
        return overview(report, found[int(place)], change=show == "change")

    return [plot_with_menus("overview", "Every layer under every condition", text, menus, draw, digits=3)]


#: Measures in the order of the menu; of each those keys that say most.
_FIRST = {
    "selectivity": {"mean": "class selectivity"},
    "dimensionality": {key: DIMENSIONS[key] for key in ("participation_ratio_corrected", "components_95")},
    "spectrum": {"exponent": "exponent of the eigenspectrum"},
    "gradients": {"mean": f"input gradient, {GRADIENTS['mean']}"},
    "cka": {"debiased": "CKA with clean responses, debiased"},
    "procrustes": {"distance": "Procrustes distance from clean responses"},
}


@dataclass(frozen=True)
class Value:
    """A number that layers have under conditions: ``key`` of a ``section``, of responses or of their ``difference``."""

    title: str
    section: str
    key: str
    difference: bool = False


def values(report: AuditRecord) -> list[Value]:
    """What the map can show of this report: the leading numbers of our own measures, and all of others."""
    found = []
    for section in [*_FIRST, *(name for name in section_names(report) if name not in _FIRST)]:
        measured = section_values(report, section)
        names = _FIRST.get(section) or {key: f"{printable(section)}, {printable(key)}" for key in measured}
        for key, title in names.items():
            if key not in measured:
                continue
            found.append(Value(title, section, key))
            if any(layer.has(c, section, key, True) for layer in report.result.layers for c in layer.differences):
                found.append(Value(f"{title}, of the difference perturbed − clean", section, key, True))
    return found


def overview(report: AuditRecord, value: Value | None = None, change: bool = False) -> Figure:
    """The value of every layer under every condition as a heat map, clean images on top.

    Args:
        value: one of :func:`values`, the first unless given.
        change: less the value on clean images; of a difference, which clean images do not have, as it is.

    Raises:
        InputError: nothing was measured.
    """
    value = value or next(iter(values(report)), None)
    if value is None:
        raise InputError("expected a report with at least one number per layer, got one without; name a measure")
    names = [condition.name for condition in report.result.conditions]
    rows = [
        [layer.value(name, value.section, value.key, value.difference) for layer in report.result.layers]
        for name in names
    ]
    # CKA with clean responses is a comparison with clean already.
    changed = change and any(cell is not None for cell in rows[0])
    if changed:
        rows = [
            [None if cell is None or clean is None else cell - clean for cell, clean in zip(row, rows[0], strict=True)]
            for row in rows
        ]
    title = label(value.title) + (", change from clean" if changed else "")
    ticks = [label(name) for name in short_names(names, 34, tail=0.25)]
    cells = {
        "type": "heatmap",
        "x": depth_ticks(report),
        "y": ticks,
        "z": rows,
        "meta": [title],
        "hoverongaps": False,
        "xgap": 1 if len(rows[0]) <= 60 else 0,
        "ygap": 1,
        "colorbar": {"title": {"text": title, "side": "right"}, "thickness": 14, "outlinewidth": 0},
        "hovertemplate": "<b>%{y}</b><br>%{x}<br>%{meta[0]}: <b>%{z:.3~g}</b><extra></extra>",
    }
    if changed:
        largest = max((abs(cell) for row in rows for cell in row if cell is not None), default=0) or 1
        cells |= {"colorscale": "RdBu", "zmin": -largest, "zmax": largest}
    else:
        cells |= {"colorscale": COLORS}
    layout = base_layout(title, height=150 + len(rows) * (12 if len(rows) > 24 else 24))
    # Room for names by their length: to measure it, plotly draws all axes several times, half a second for 90 rows.
    xticks = depth_ticks(report)
    room = {"l": 14 + 6 * max(map(len, ticks)), "b": 40 + 5 * max(map(len, xticks))}
    layout["margin"] |= room
    layout["meta"]["margin"] = room
    unmeasured = {"showgrid": False, "automargin": False, "ticklabeloverflow": "allow"}
    layout["xaxis"] = depth_axis(xticks) | {"tickangle": 60} | unmeasured
    layout["yaxis"] = {"type": "category", "autorange": "reversed"} | unmeasured
    layout["yaxis"] |= {"tickfont": {"size": 10 if len(rows) > 24 else 11}, "dtick": 1}
    layout["meta"]["pick"] = {"x": "layer", "y": "condition"}
    return {"data": [cells], "layout": layout}
