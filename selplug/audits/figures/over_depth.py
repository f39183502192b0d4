"""Figures of a report as plotly figure dicts: ``plotly.graph_objects.Figure(selectivity(report)).show()``.

Pure functions of a report. Every trace of a condition carries ``legendgroup`` = its place, so that a page can switch
conditions; ``layout.meta`` holds a ``note`` and, for some, a table (``columns``, ``rows``) of what the figure shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...report.plots import Figure, base_layout, base_trace
from ...report.style import color, label, listing, number, printable, short_number, shorten, symbol
from ..engine.results import LayerResult
from ..record import AuditRecord

#: ``(layer, sections of one condition) -> value``
Read = Callable[[LayerResult, Mapping[str, Mapping[str, Any]]], Any]


RESPONSES, DIFFERENCE = "clean and perturbed responses", "difference, perturbed − clean"


def section(report: AuditRecord, name: str, value: str, error: str | None = None) -> Figure:
    """Any single number of any measure's section over depth; of the difference too, if it was measured there.

    Args:
        name: the section, such as a third-party measure's name.
        value: the key in that section.
        error: the key of its standard error, drawn as a bar.
    """

    def reader(key: str) -> Read:
        return lambda _, sections: sections.get(name, {}).get(key)

    figure = lines_over_depth(report, name, reader(value), "no value", reader(error) if error else None)
    figure["layout"]["title"]["text"] = f"{label(name)}: {label(value)} over depth"
    for axis in ("yaxis", "yaxis2"):
        if axis in figure["layout"]:
            figure["layout"][axis]["title"] = {"text": label(value)}
    return figure


def section_values(report: AuditRecord, name: str) -> list[str]:
    """The keys of a section that hold a number in some layer, in order of appearance."""
    keys: dict[str, None] = {}
    for layer in report.result.layers:
        for sections in (*layer.conditions.values(), *layer.differences.values()):
            keys |= {key: None for key, item in sections.get(name, {}).items() if number(item) is not None}
    return list(keys)


def section_names(report: AuditRecord) -> list[str]:
    """The sections that some layer has, in order of appearance."""
    layers = report.result.layers
    measured = (sections for layer in layers for sections in (*layer.conditions.values(), *layer.differences.values()))
    return list(dict.fromkeys(name for sections in measured for name in sections))


def lines_over_depth(
    report: AuditRecord, name: str, read: Read, missing: str, read_error: Read | None = None
) -> Figure:
    """Lines over layers per condition; a second panel below where the section was measured on differences."""
    layers = report.result.layers
    both = any(name in sections for layer in layers for sections in layer.differences.values())
    ticks = depth_ticks(report)
    facts = [(label(layer.name), label(layer.kind), layer.units) for layer in layers]
    data: list[Figure] = []
    gaps: dict[str, list[str]] = {}
    for kind, axis in (("conditions", "y"), ("differences", "y2"))[: 1 + both]:
        for place, condition in enumerate(report.result.conditions):
            if kind == "differences" and not any(condition.name in layer.differences for layer in layers):
                continue
            values = values_over_depth(report, kind, condition.name, read)
            what = condition.name if kind == "conditions" else f"difference {condition.name} − clean"
            for layer, value in zip(layers, values, strict=True):
                if value is None and name in getattr(layer, kind).get(condition.name, {}):
                    gaps.setdefault(layer.name, []).append(what)
            trace = {
                **base_trace(place, what),
                "x": ticks,
                "y": values,
                "yaxis": axis,
                "mode": "lines+markers",
                "line": {"color": color(place), "width": 2 if len(ticks) <= 60 else 1.25},
                "marker": {"symbol": symbol(place), "size": 6 if len(ticks) <= 60 else 3},
                "connectgaps": False,
                "showlegend": kind == "conditions",
                "customdata": [
                    [*known, _dead(layer, kind, condition.name)] for known, layer in zip(facts, layers, strict=True)
                ],
                "hovertemplate": "<b>%{customdata[0]}</b><br>%{meta[0]}: <b>%{y:.4~g}</b><br>%{customdata[1]}, "
                "%{customdata[2]} units, %{customdata[3]} dead<extra></extra>",
            }
            if read_error:
                errors = values_over_depth(report, kind, condition.name, read_error)
                trace["error_y"] = {"type": "data", "array": errors, "thickness": 1, "width": 3}
            data.append(trace)
    layout = base_layout("", height=620 if both else 400)
    layout["xaxis"] = depth_axis(ticks)
    layout["yaxis"] = {"automargin": True}
    layout["meta"]["pick"] = {"x": "layer"}
    if both:
        layout["xaxis"]["anchor"] = "y2"
        layout["yaxis"]["domain"] = [0.56, 1]
        layout["yaxis2"] = {"automargin": True, "domain": [0, 0.44]}
        layout["annotations"] = [_panel_title(RESPONSES, 1), _panel_title(DIFFERENCE, 0.44)]
    found = listing(f"{layer} ({', '.join(w) if len(w) < 3 else f'{len(w)} lines'})" for layer, w in gaps.items())
    layout["meta"]["note"] = f"{missing.capitalize()}, left out of the lines: {found}." if gaps else ""
    return {"data": data, "layout": layout}


def _dead(layer: LayerResult, kind: str, condition: str) -> str:
    """How many units are dead under this condition; of a difference: on clean images."""
    measured = layer.conditions.get(condition, {}).get("selectivity", {}) if kind == "conditions" else {}
    return short_number(measured.get("dead_units", layer.dead_units), "unknown")


def depth_ticks(report: AuditRecord) -> list[str]:
    """A name for every layer on the x axis: its place and its name, shortened; all different."""
    names = [shorten(printable(layer.name), 20, tail=0.65) for layer in report.result.layers]
    return [f"{place} · {label(name)}" for place, name in enumerate(names, 1)]


def depth_axis(ticks: list[str]) -> Figure:
    """The x axis of a figure over :func:`depth_ticks`; more than 40 names would cover each other."""
    axis = {"type": "category", "title": {"text": "layer, input to output"}, "automargin": True}
    axis |= {"categoryorder": "array", "categoryarray": ticks, "tickfont": {"size": 10}}
    return axis if len(ticks) <= 40 else axis | {"tickmode": "array", "tickvals": ticks[:: -(-len(ticks) // 40)]}


def values_over_depth(report: AuditRecord, kind: str, condition: str, read: Read) -> list[float | None]:
    return [number(read(layer, getattr(layer, kind).get(condition, {}))) for layer in report.result.layers]


def _panel_title(text: str, top: float) -> Figure:
    place = {"xref": "paper", "yref": "paper", "x": 0, "y": top, "xanchor": "left", "yanchor": "bottom"}
    return {"text": f"<b>{text}</b>", "showarrow": False, **place}
