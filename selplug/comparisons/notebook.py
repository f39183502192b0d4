"""The figures of a comparison's page as ``plotly.graph_objects.Figure``: ``comparison.plot.depth("selectivity")``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.errors import InputError
from ..report.notebook import check_one_of, notebook_figure
from ..report.plots import Figure
from ..report.style import label
from . import figures, map_figures

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from .network import Network
    from .record import ComparisonRecord


@dataclass(frozen=True)
class ComparisonPlots:
    """The figures of one comparison, a colour per group.

    Every method raises InputError for what the comparison does not hold, with the names that it does hold.
    """

    comparison: ComparisonRecord

    def linking(self, x: str = "selectivity", y: str = "corruption_accuracy") -> go.Figure:
        """One value of the networks against another, and the means of groups with their 95 % intervals.

        Args:
            x, y: columns of ``frame()`` such as "alpha", "selectivity" or "worst_case", or the name of a condition for
                the accuracy under it.
        """
        held = figures.values_held(self.comparison, list(self.comparison.conditions))
        for key in (x, y):
            check_one_of(key, held, "value", "comparison")
        return notebook_figure(_with_legend(figures.linking(self.comparison, x, y)))

    def depth(self, value: str = "selectivity") -> go.Figure:
        """A value over depth, a line per group: the mean over its networks, with 95 % intervals over seeds.

        Args:
            value: such as "selectivity", "dimensionality", "gain_difference" or "exponent".
        """
        check_one_of(value, figures.curves_held(self.comparison), "value over depth", "comparison")
        return notebook_figure(_with_legend(figures.depth(self.comparison, value)))

    def sweep(self, name: str | None = None) -> go.Figure:
        """Accuracy against the exponent of the last hidden layer, a line per network through the strengths of a sweep.

        Args:
            name: such as "gaussian-noise over std"; None for the first.
        """
        held = figures.sweeps_held(self.comparison)
        if not held:
            raise InputError(
                "this comparison holds no sweep with exponents; audit with a sweep such as "
                "gaussian-noise:std=0.05..0.2*4 and the measure dimensionality"
            )
        name = name or next(iter(held))
        check_one_of(name, held, "sweep", "comparison")
        return notebook_figure(_with_legend(figures.over_strengths(self.comparison, name)))

    def map(self, name: str | None = None) -> go.Figure:
        """Every layer of a network against every layer on clean images, by CKA; outlined: blocks.

        Args:
            name: of a network, or of a group for its first network with a map; None for the first of all.
        """
        held: dict[str, Network] = {}
        for group in self.comparison.groups:
            first = map_figures.with_map(group)
            own = {network.name: network for network in group.networks if network.measured.similarity is not None}
            held = {**held, **({group.name: first} if first else {}), **own}
        if not held:
            raise InputError("this comparison holds no maps between layers; audit with the measure cka")
        name = name or next(iter(held))
        check_one_of(name, held, "network or group with a map", "comparison")
        figure = map_figures.map_figure(held[name])
        figure["layout"]["meta"]["note"] = (
            f"{map_figures.told_of_map(held[name])} {figure['layout']['meta']['note']}".strip()
        )
        return notebook_figure(figure, f"{label(name)}: CKA between layers")


def _with_legend(figure: Figure) -> Figure:
    """A name in the legend for every group that is drawn: the page has its buttons instead."""
    told: set[str] = set()
    for trace in figure["data"]:
        if trace["y"] and trace["legendgroup"] not in told:
            told.add(trace["legendgroup"])
            trace["showlegend"] = True
    return figure
