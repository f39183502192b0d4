from __future__ import annotations

from ...report.plots import Figure, Menu, Plot, base_trace, plot_with_menus
from ...report.style import color, label, short_number
from ..record import AuditRecord
from .over_depth import section, section_values


def selectivity_plots(report: AuditRecord) -> list[Plot]:
    """Class selectivity over depth, if it was measured."""
    keys = [key for key in SELECTIVITIES if key in section_values(report, "selectivity")]
    if not keys:
        return []
    menu = Menu("Average", tuple((key, SELECTIVITIES[key]) for key in keys))
    text = "A line per condition over the layers from input to output; dotted: the null level under shuffled labels."
    return [
        plot_with_menus("selectivity", "Class selectivity over depth", text, [menu], lambda v: selectivity(report, v))
    ]


SELECTIVITIES = {"mean": "mean over all units", "mean_alive": "mean over units that are not dead"}


def selectivity(report: AuditRecord, value: str = "mean") -> Figure:
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
        null = [layer.value(condition, "selectivity", "null") for layer in report.result.layers]
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


def _note(layout: Figure) -> str:
    return str(layout["meta"]["note"])
