from __future__ import annotations

from ...report.heat_map import heat_map
from ...report.plots import Plot, plain_plot
from ...report.style import printable
from ..record import AuditRecord
from . import over_depth as figures
from .over_depth import section_values


def similarity_plots(report: AuditRecord) -> list[Plot]:
    """Clean against perturbed responses over depth, and the map layer x layer of clean ones, as far as measured."""
    plots = []
    for name, key, what, describe in (
        ("cka", "debiased", "CKA, debiased", "1: the same up to rotation and scale."),
        ("procrustes", "distance", "Procrustes distance", "0: the same; up to 2."),
    ):
        if key in section_values(report, name):
            figure = figures.section(report, name, key)
            figure["layout"]["yaxis"] |= {"title": {"text": what}, "rangemode": "tozero"}
            title = f"{what}, of clean and perturbed responses"
            plots.append(plain_plot(name, title, f"A line per condition over the layers. {describe}", figure))
    names = [layer.name for layer in report.result.layers]
    for place, (measure, values) in enumerate(report.result.between_layers.items()):
        blocks = report.result.blocks(measure)
        for key, value in values.items():
            if isinstance(value, list) and len(value) == len(names):
                what = "CKA" if measure == "cka" else printable(measure)
                figure = heat_map(value, names, names, f"{what}, {key}", blocks=blocks)
                text = "Every layer against every layer, on clean images."
                text += " Outlined: blocks of layers that are alike." if blocks else ""
                plots.append(plain_plot(f"map-{place}-{key}", f"{what} between layers, {printable(key)}", text, figure))
    return plots
