from __future__ import annotations

from ...report.plots import Figure, Menu, Plot, plain_plot, plot_with_menus
from ...report.style import label
from ..engine.results import LayerResult
from ..record import AuditRecord
from . import over_depth as figures
from .over_depth import lines_over_depth, section_values


def dimensionality_plots(report: AuditRecord) -> list[Plot]:
    """Dimensionality over depth, if it was measured."""
    found = section_values(report, "dimensionality")
    keys = [key for key in DIMENSIONS if key in found]
    if not keys:
        return []
    menus = [
        Menu("Measure", tuple((key, DIMENSIONS[key]) for key in keys)),
        Menu("Unit", (("absolute", "absolute"), ("fraction", "share of the layer's units"))),
    ]
    text = "A line per condition over the layers from input to output."
    if any(layer.differences for layer in report.result.layers):
        text += " Above: clean and perturbed responses. Below: their difference, perturbed − clean."
    return [
        plot_with_menus(
            "dimensionality",
            "Dimensionality over depth",
            text,
            menus,
            lambda key, unit: dimensionality(report, key, of_units=unit == "fraction"),
        )
    ]


def exponent_plots(report: AuditRecord) -> list[Plot]:
    """Exponents of the eigenspectra over depth, if they were fitted."""
    if "exponent" not in section_values(report, "spectrum"):
        return []
    figure = figures.section(report, "spectrum", "exponent", "stderr")
    text = "Bars: ± one standard error. A larger exponent: fewer directions hold the variance."
    return [plain_plot("exponent", "Exponent over depth", text, figure)]


#: key in the section "dimensionality" -> what to call it
DIMENSIONS = {
    "participation_ratio_corrected": "participation ratio, corrected for the sample",
    "participation_ratio": "participation ratio, plain",
    "components_90": "components for 90 % of the variance",
    "components_95": "components for 95 % of the variance",
    "components_99": "components for 99 % of the variance",
}


def dimensionality(
    report: AuditRecord, quantity: str = "participation_ratio_corrected", of_units: bool = False
) -> Figure:
    """A measure of dimensionality over depth: of clean and perturbed responses above, of their difference below.

    Args:
        quantity: a key of :data:`DIMENSIONS`.
        of_units: divided by the layer's number of units.
    """

    def read(layer: LayerResult, condition: str, difference: bool) -> float | None:
        value = layer.value(condition, "dimensionality", quantity, difference)
        return value / layer.units if of_units and value is not None else value

    figure = lines_over_depth(report, "dimensionality", read, "not resolved")
    unit = "share of the layer's units" if of_units else "dimensions"
    figure["layout"]["title"]["text"] = f"Dimensionality over depth: {DIMENSIONS.get(quantity, label(quantity))}"
    for axis in ("yaxis", "yaxis2"):
        if axis in figure["layout"]:
            figure["layout"][axis] |= {"title": {"text": unit}, "rangemode": "tozero"}
    return figure
