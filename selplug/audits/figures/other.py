"""One plot with menus: the figures for all choices, stored once and then only by what differs."""

from __future__ import annotations

from ...report.plots import Menu, Plot, plot_with_menus
from ...report.style import printable
from ..record import AuditRecord
from . import over_depth as figures
from .over_depth import section_names, section_values

OWN_SECTIONS = ("selectivity", "dimensionality", "spectrum", "gradients", "cka", "procrustes")


def other_plots(report: AuditRecord) -> list[Plot]:
    """Every number of the measures that this package does not know, over depth."""
    plots = []
    for place, name in enumerate(name for name in section_names(report) if name not in OWN_SECTIONS):
        keys = section_values(report, name)
        if keys:
            menu = Menu("Value", tuple((str(index), printable(key)) for index, key in enumerate(keys)))
            plots.append(
                plot_with_menus(
                    f"other-{place}",
                    printable(name),
                    "A line per condition over the layers from input to output. See the measure's own documentation.",
                    [menu],
                    lambda index, name=name, keys=keys: figures.section(report, name, keys[int(index)]),
                )
            )
    return plots
