from __future__ import annotations

from ...report.plots import Figure, Menu, Plot, plot_with_menus
from ...report.style import label
from ..record import AuditRecord
from .over_depth import section, section_values


def gradient_plots(report: AuditRecord) -> list[Plot]:
    """Input-unit gradients over depth, if they were measured."""
    keys = [key for key in GRADIENTS if key in section_values(report, "gradients")]
    if not keys:
        return []
    menu = Menu("Value", tuple((key, GRADIENTS[key]) for key in keys))
    text = "A line per condition over the layers from input to output. Bars: ± one standard error of the estimate."
    return [plot_with_menus("gradients", "Input gradients over depth", text, [menu], lambda v: gradients(report, v))]


#: key in the section "gradients" -> what to call it
GRADIENTS = {
    "mean": "mean over samples and units",
    "cv_samples": "coefficient of variation over samples",
    "cv_units": "coefficient of variation over units",
}


def gradients(report: AuditRecord, value: str = "mean") -> Figure:
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
