"""Figures of a report as plotly figure dicts: ``plotly.graph_objects.Figure(selectivity(report)).show()``.

Pure functions of a report. Every trace of a condition carries ``legendgroup`` = its place, so that a page can switch
conditions; ``layout.meta`` holds a ``note`` and, for some, a table (``columns``, ``rows``) of what the figure shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..core.types import LayerResult
from .attack_checks import Curve
from .report import Report
from .style import (
    GREY,
    color,
    interval,
    label,
    listing,
    number,
    percent,
    printable,
    short_names,
    short_number,
    shorten,
    symbol,
)

Figure = dict[str, Any]
#: ``(layer, sections of one condition) -> value``
Read = Callable[[LayerResult, Mapping[str, Mapping[str, Any]]], Any]

#: key in the section "dimensionality" -> what to call it
DIMENSIONS = {
    "participation_ratio_corrected": "participation ratio, corrected for the sample",
    "participation_ratio": "participation ratio, plain",
    "components_90": "components for 90 % of the variance",
    "components_95": "components for 95 % of the variance",
    "components_99": "components for 99 % of the variance",
}
SELECTIVITIES = {"mean": "mean over all units", "mean_alive": "mean over units that are not dead"}
#: key in the section "gradients" -> what to call it
GRADIENTS = {
    "mean": "mean over samples and units",
    "cv_samples": "coefficient of variation over samples",
    "cv_units": "coefficient of variation over units",
}
RESPONSES, DIFFERENCE = "clean and perturbed responses", "difference, perturbed − clean"


def accuracy(report: Report) -> Figure:
    """Accuracy per condition with its 95 % Wilson interval, and the worst case below."""
    conditions = report.result.conditions
    rows: list[tuple[str, float, tuple[float, float], int, int | None]]
    rows = [(c.name, c.accuracy, c.accuracy_ci95, c.samples, place) for place, c in enumerate(conditions)]
    worst = report.result.worst_case
    if worst is not None:
        rows.append(("worst case", worst.accuracy, worst.accuracy_ci95, worst.samples, None))
    names = [label(name) for name in short_names([row[0] for row in rows], 34, tail=0.25)]
    bars = [
        {
            "type": "bar",
            "orientation": "h",
            "name": label(name),
            **({} if place is None else {"legendgroup": str(place)}),
            "y": [tick],
            "x": [100 * level],
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": [100 * (ci95[1] - level)],
                "arrayminus": [100 * (level - ci95[0])],
                "thickness": 1.5,
                "width": 5,
                "color": GREY,
            },
            "marker": {"color": GREY if place is None else color(place), "opacity": 0.85},
            "customdata": [[label(name), percent(level), interval(ci95), samples]],
            "hovertemplate": "<b>%{customdata[0]}</b><br>accuracy %{customdata[1]}<br>95 % interval %{customdata[2]}"
            "<br>%{customdata[3]} samples<extra></extra>",
            "showlegend": False,
        }
        for tick, (name, level, ci95, samples, place) in zip(names, rows, strict=True)
    ]
    layout = base_layout("Accuracy per condition", height=90 + 30 * len(rows))
    layout["meta"]["row_height"] = 30  # for pages that leave some out
    layout["xaxis"] = {"title": {"text": "accuracy, %"}, "range": [0, 103], "tickvals": list(range(0, 101, 20))}
    layout["yaxis"] = {"type": "category", "autorange": "reversed", "automargin": True, "showgrid": False}
    layout |= {"bargap": 0.35, "barmode": "overlay"}
    return {"data": bars, "layout": layout}


def budgets(report: Report) -> Figure:
    """Accuracy over the one option in which perturbations differ, with 95 % Wilson intervals; a line per attack."""
    found = report.curves
    data = []
    for place, curve in enumerate(found):
        scale = 255 if curve.norm == "Linf" else 1
        conditions = [condition for _, condition in curve.points]
        named = 1 + place % (len(conditions) - 1)  # names of lines that lie close together stand apart
        data.append(
            {
                "type": "scatter",
                "name": label(curve.name),
                "x": [scale * value for value, _ in curve.points],
                "y": [100 * c.accuracy for c in conditions],
                "xaxis": f"x{_axis(found, curve)}",
                "yaxis": f"y{_axis(found, curve)}",
                "mode": "lines+markers+text",
                "text": [
                    label(shorten(printable(curve.name), 40)) if i == named else "" for i in range(len(conditions))
                ],
                "textposition": "top right" if named < len(conditions) - 1 else "top left",
                "line": {"color": color(place), "width": 2},
                "marker": {"symbol": symbol(place), "size": 7},
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [100 * (c.accuracy_ci95[1] - c.accuracy) for c in conditions],
                    "arrayminus": [100 * (c.accuracy - c.accuracy_ci95[0]) for c in conditions],
                    "thickness": 1,
                    "width": 3,
                },
                "customdata": [[label(c.name), percent(c.accuracy), interval(c.accuracy_ci95)] for c in conditions],
                "hovertemplate": "<b>%{customdata[0]}</b><br>accuracy %{customdata[1]}"
                "<br>95 % interval %{customdata[2]}<extra></extra>",
            }
        )
    titles = _axis_titles(found)
    layout = base_layout("Accuracy over the budget", height=60 + 320 * len(titles))
    layout["meta"]["note"] = "Where a sweep of a budget leaves out 0, its first point is the clean accuracy."
    gap = 0.25 / max(1, len(titles))
    for place, title in enumerate(titles):
        suffix = "" if place == 0 else str(place + 1)
        bottom = 1 - (place + 1) / len(titles)
        layout[f"xaxis{suffix}"] = {"title": {"text": title}, "anchor": f"y{suffix}", "rangemode": "tozero"}
        layout[f"yaxis{suffix}"] = {
            "title": {"text": "accuracy, %"},
            "range": [-3, 103],
            "anchor": f"x{suffix}",
            "domain": [bottom + (gap if place < len(titles) - 1 else 0), bottom + 1 / len(titles)],
        }
    return {"data": data, "layout": layout}


def _axis_title(curve: Curve) -> str:
    """Curves that have it in common share a panel."""
    if curve.norm is None:
        return f"{label(curve.option)} of {label(curve.name.partition(':')[0])}"
    return f"{label(curve.option)}, {label(curve.norm)}" + (
        ", in 1/255 of the pixel range" if curve.norm == "Linf" else ""
    )


def _axis_titles(curves: list[Curve]) -> list[str]:
    return list(dict.fromkeys(_axis_title(curve) for curve in curves))


def _axis(curves: list[Curve], curve: Curve) -> str:
    place = _axis_titles(curves).index(_axis_title(curve))
    return "" if place == 0 else str(place + 1)


def corruptions(report: Report) -> Figure:
    """Accuracy per corruption and severity as a heat map; needs a report with corruptions."""
    summary = report.corruptions or {"accuracy": {}, "strengths": ""}
    rows = summary["accuracy"]
    severities = sorted({severity for row in rows.values() for severity in row})
    values = [[100 * row[s] if s in row else None for s in severities] for row in rows.values()]
    cells = {
        "type": "heatmap",
        "x": severities,
        "y": [label(name) for name in rows],
        "z": values,
        "zmin": 0,
        "zmax": 100,
        "colorscale": "Viridis",
        "colorbar": {"title": {"text": "accuracy, %"}},
        "texttemplate": "%{z:.1f}",
        "hovertemplate": "<b>%{y}</b>, severity %{x}: %{z:.1f} %<extra></extra>",
        "xgap": 1,
        "ygap": 1,
    }
    layout = base_layout("Accuracy per corruption and severity, %", height=120 + 26 * len(rows))
    layout["xaxis"] = {"type": "category", "title": {"text": "severity"}}
    layout["yaxis"] = {"type": "category", "autorange": "reversed", "automargin": True, "showgrid": False}
    layout["meta"]["note"] = f"Strengths of {label(summary['strengths'])}."
    return {"data": [cells], "layout": layout}


def selectivity(report: Report, value: str = "mean") -> Figure:
    """Mean class selectivity over depth, a line per condition; dotted: the same under shuffled labels.

    Args:
        value: "mean" over all units, or "mean_alive" over those that are not dead.
    """
    figure = section(report, "selectivity", value)
    layout = figure["layout"]
    layout["title"]["text"] = f"Class selectivity over depth, {SELECTIVITIES.get(value, label(value))}"
    layout["yaxis"] |= {"title": {"text": "class selectivity index"}, "rangemode": "tozero"}
    nulls = []
    for place, condition in enumerate(report.result.conditions):
        null = _values(report, "conditions", condition.name, lambda _, s: s.get("selectivity", {}).get("null"))
        for point, level in zip(figure["data"][place]["customdata"], null, strict=True):
            point.append(f"<br>null level {short_number(level)}")
        figure["data"][place]["hovertemplate"] = figure["data"][place]["hovertemplate"].replace(
            "<extra>", "%{customdata[4]}<extra>"
        )
        nulls.append(
            {
                **base_trace(place, condition.name),
                "x": figure["data"][place]["x"],
                "y": null,
                "mode": "lines",
                "line": {"color": color(place), "dash": "dot", "width": 1.5},
                "opacity": 0.75,
                "hoverinfo": "skip",
                "showlegend": False,
            }
        )
    figure["data"] += nulls
    layout["meta"]["dotted"] = "null level"
    layout["meta"]["note"] = "Dotted: the null level, the same index after the labels were shuffled. " + _note(layout)
    return figure


def dimensionality(report: Report, quantity: str = "participation_ratio_corrected", of_units: bool = False) -> Figure:
    """A measure of dimensionality over depth: of clean and perturbed responses above, of their difference below.

    Args:
        quantity: a key of :data:`DIMENSIONS`.
        of_units: divided by the layer's number of units.
    """

    def read(layer: LayerResult, sections: Mapping[str, Mapping[str, Any]]) -> float | None:
        value = number(sections.get("dimensionality", {}).get(quantity))
        return value / layer.units if of_units and value is not None else value

    figure = _over_depth(report, "dimensionality", read, "not resolved")
    unit = "share of the layer's units" if of_units else "dimensions"
    figure["layout"]["title"]["text"] = f"Dimensionality over depth: {DIMENSIONS.get(quantity, label(quantity))}"
    for axis in ("yaxis", "yaxis2"):
        if axis in figure["layout"]:
            figure["layout"][axis] |= {"title": {"text": unit}, "rangemode": "tozero"}
    return figure


def gradients(report: Report, value: str = "mean") -> Figure:
    """Size or variability of the input gradients of units over depth, with standard errors.

    Args:
        value: a key of :data:`GRADIENTS`.
    """
    figure = section(report, "gradients", value, f"{value}_stderr")
    figure["layout"]["title"]["text"] = f"Input gradients over depth: {GRADIENTS.get(value, label(value))}"
    unit = "response per pixel unit" if value == "mean" else "coefficient of variation"
    values = [level for trace in figure["data"] for level in trace["y"] if level is not None]
    # Gradients grow over depth by orders of magnitude.
    scale = {"type": "log"} if value == "mean" and min(values, default=0) > 0 else {"rangemode": "tozero"}
    figure["layout"]["yaxis"] |= {"title": {"text": unit}, **scale}
    return figure


def section(report: Report, name: str, value: str, error: str | None = None) -> Figure:
    """Any single number of any measure's section over depth; of the difference too, if it was measured there.

    Args:
        name: the section, such as a third-party measure's name.
        value: the key in that section.
        error: the key of its standard error, drawn as a bar.
    """

    def reader(key: str) -> Read:
        return lambda _, sections: sections.get(name, {}).get(key)

    figure = _over_depth(report, name, reader(value), "no value", reader(error) if error else None)
    figure["layout"]["title"]["text"] = f"{label(name)}: {label(value)} over depth"
    for axis in ("yaxis", "yaxis2"):
        if axis in figure["layout"]:
            figure["layout"][axis]["title"] = {"text": label(value)}
    return figure


def section_values(report: Report, name: str) -> list[str]:
    """The keys of a section that hold a number in some layer, in order of appearance."""
    keys: dict[str, None] = {}
    for layer in report.result.layers:
        for sections in (*layer.conditions.values(), *layer.differences.values()):
            keys |= {key: None for key, item in sections.get(name, {}).items() if number(item) is not None}
    return list(keys)


def section_names(report: Report) -> list[str]:
    """The sections that some layer has, in order of appearance."""
    layers = report.result.layers
    measured = (sections for layer in layers for sections in (*layer.conditions.values(), *layer.differences.values()))
    return list(dict.fromkeys(name for sections in measured for name in sections))


def _over_depth(report: Report, name: str, read: Read, missing: str, read_error: Read | None = None) -> Figure:
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
            values = _values(report, kind, condition.name, read)
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
                errors = _values(report, kind, condition.name, read_error)
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


def depth_ticks(report: Report) -> list[str]:
    """A name for every layer on the x axis: its place and its name, shortened; all different."""
    names = [shorten(printable(layer.name), 20, tail=0.65) for layer in report.result.layers]
    return [f"{place} · {label(name)}" for place, name in enumerate(names, 1)]


def depth_axis(ticks: list[str]) -> Figure:
    """The x axis of a figure over :func:`depth_ticks`; more than 40 names would cover each other."""
    axis = {"type": "category", "title": {"text": "layer, input to output"}, "automargin": True}
    axis |= {"categoryorder": "array", "categoryarray": ticks, "tickfont": {"size": 10}}
    return axis if len(ticks) <= 40 else axis | {"tickmode": "array", "tickvals": ticks[:: -(-len(ticks) // 40)]}


def _values(report: Report, kind: str, condition: str, read: Read) -> list[float | None]:
    return [number(read(layer, getattr(layer, kind).get(condition, {}))) for layer in report.result.layers]


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


def _note(layout: Figure) -> str:
    return str(layout["meta"]["note"])


def _panel_title(text: str, top: float) -> Figure:
    place = {"xref": "paper", "yref": "paper", "x": 0, "y": top, "xanchor": "left", "yanchor": "bottom"}
    return {"text": f"<b>{text}</b>", "showarrow": False, **place}
