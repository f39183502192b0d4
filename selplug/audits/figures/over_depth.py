"""Figures of a report as plotly figure dicts: ``plotly.graph_objects.Figure(selectivity(report)).show()``.

Pure functions of a report. Every trace of a condition carries ``legendgroup`` = its place, so that a page can switch
conditions; ``layout.meta`` holds a ``note`` and, for some, a table (``columns``, ``rows``) of what the figure shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ...report.plots import Figure, base_layout, base_trace
from ...report.style import color, label, listing, number, printable, short_number, shorten, symbol
from ..engine.results import LayerResult, Sections
from ..record import AuditRecord

#: ``(layer, name of a condition, of the difference?) -> value``
Read = Callable[[LayerResult, str, bool], float | None]


RESPONSES, DIFFERENCE = "clean and perturbed responses", "difference, perturbed − clean"


def section(report: AuditRecord, name: str, value: str, error: str | None = None) -> Figure:
    """Any single number of any measure's section over depth; of the difference too, if it was measured there.

    Args:
        name: the section, such as a third-party measure's name.
        value: the key in that section.
        error: the key of its standard error, drawn as a bar.
    """

    def reader(key: str) -> Read:
        return lambda layer, condition, difference: layer.value(condition, name, key, difference)

    figure = lines_over_depth(report, name, reader(value), "no value", reader(error) if error else None)
    figure["layout"]["title"]["text"] = f"{label(name)}: {label(value)} over depth"
    for axis in ("yaxis", "yaxis2"):
        if axis in figure["layout"]:
            figure["layout"][axis]["title"] = {"text": label(value)}
    return figure


def section_values(report: AuditRecord, name: str) -> list[str]:
    """The keys of a section that hold a number in some layer, in order of appearance."""
    found = (sections[name].items() for sections in _measured(report) if name in sections)
    return list(dict.fromkeys(key for items in found for key, item in items if number(item) is not None))


def section_names(report: AuditRecord) -> list[str]:
    """The sections that some layer has, in order of appearance."""
    return list(dict.fromkeys(name for sections in _measured(report) for name in sections))


def _measured(report: AuditRecord) -> Iterator[Sections]:
    for layer in report.result.layers:
        yield from layer.conditions.values()
        yield from layer.differences.values()


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
    for difference, axis in ((False, "y"), (True, "y2"))[: 1 + both]:
        for place, condition in enumerate(report.result.conditions):
            if difference and not any(condition.name in layer.differences for layer in layers):
                continue
            values = values_over_depth(report, condition.name, read, difference)
            what = f"difference {condition.name} − clean" if difference else condition.name
            for layer, value in zip(layers, values, strict=True):
                if value is None and name in layer.sections(condition, difference):
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
                "showlegend": not difference,
                "customdata": [
                    [*known, _dead(layer, condition.name, difference)]
                    for known, layer in zip(facts, layers, strict=True)
                ],
                "hovertemplate": "<b>%{customdata[0]}</b><br>%{meta[0]}: <b>%{y:.4~g}</b><br>%{customdata[1]}, "
                "%{customdata[2]} units, %{customdata[3]} dead<extra></extra>",
            }
            if read_error:
                errors = values_over_depth(report, condition.name, read_error, difference)
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


def _dead(layer: LayerResult, condition: str, difference: bool) -> str:
    """How many units are dead under this condition; on clean images where that is not known, as of a difference."""
    known = not difference and layer.has(condition, "selectivity", "dead_units")
    return short_number(layer.value(condition, "selectivity", "dead_units") if known else layer.dead_units, "unknown")


def depth_ticks(report: AuditRecord) -> list[str]:
    """A name for every layer on the x axis: its place and its name, shortened; all different."""
    names = [shorten(printable(layer.name), 20, tail=0.65) for layer in report.result.layers]
    return [f"{place} · {label(name)}" for place, name in enumerate(names, 1)]


def depth_axis(ticks: list[str]) -> Figure:
    """The x axis of a figure over :func:`depth_ticks`; more than 40 names would cover each other."""
    axis = {"type": "category", "title": {"text": "layer, input to output"}, "automargin": True}
    axis |= {"categoryorder": "array", "categoryarray": ticks, "tickfont": {"size": 10}}
    return axis if len(ticks) <= 40 else axis | {"tickmode": "array", "tickvals": ticks[:: -(-len(ticks) // 40)]}


def values_over_depth(report: AuditRecord, condition: str, read: Read, difference: bool = False) -> list[float | None]:
    return [read(layer, condition, difference) for layer in report.result.layers]


def _panel_title(text: str, top: float) -> Figure:
    place = {"xref": "paper", "yref": "paper", "x": 0, "y": top, "xanchor": "left", "yanchor": "bottom"}
    return {"text": f"<b>{text}</b>", "showarrow": False, **place}
