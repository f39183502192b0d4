"""The figures of a report's page as ``plotly.graph_objects.Figure``, for notebooks: ``report.plot.selectivity()``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...core.errors import InputError
from ...report import plots
from ...report.heat_map import heat_map
from ...report.notebook import check_one_of, notebook_figure
from ...report.style import label, listing, printable
from . import accuracy, dimensionality, gradients, selectivity
from . import one_layer as unit_figures
from . import over_depth as figures
from .dimensionality import DIMENSIONS

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from ..record import AuditRecord

#: More lines than this start hidden: a click on their name in the legend shows them.
LINES = 12


#: measure of similarity -> its value per layer and condition, and what to call it
SIMILARITIES = {"cka": ("debiased", "CKA, debiased"), "procrustes": ("distance", "Procrustes distance")}


@dataclass(frozen=True)
class Plots:
    """The figures of one report. ``conditions`` chooses by name whose lines to draw, None for all of them.

    Every method raises InputError for what the report does not hold, with the names that it does hold.
    """

    report: AuditRecord

    def accuracy(self, conditions: Sequence[str] | None = None) -> go.Figure:
        """Accuracy per condition with its 95 % Wilson interval, and the worst case."""
        return self._lines(conditions, accuracy.accuracy)

    def budgets(self) -> go.Figure:
        """Accuracy over the one option in which perturbations differ, such as the eps of an attack."""
        if not self.report.curves:
            raise InputError(
                "this report holds no perturbations that differ in one number alone; audit with a sweep such as "
                "pgd:eps=0..16/255*5"
            )
        return notebook_figure(accuracy.budgets(self.report))

    def corruptions(self) -> go.Figure:
        """Accuracy per corruption and severity as a heat map."""
        if self.report.corruptions is None:
            raise InputError("this report holds no corruptions; audit with the perturbation corruptions")
        return notebook_figure(accuracy.corruptions(self.report))

    def selectivity(self, value: str = "mean", conditions: Sequence[str] | None = None) -> go.Figure:
        """Class selectivity over depth; dotted: the null level under shuffled labels.

        Args:
            value: "mean" over all units, or "mean_alive" over those that are not dead.
        """
        self._check("selectivity", value, selectivity.SELECTIVITIES)
        return self._lines(conditions, lambda report: selectivity.selectivity(report, value))

    def dimensionality(
        self,
        quantity: str = "participation_ratio_corrected",
        of_units: bool = False,
        conditions: Sequence[str] | None = None,
    ) -> go.Figure:
        """Dimensionality over depth: of clean and perturbed responses above, of their difference below.

        Args:
            quantity: "participation_ratio_corrected", "participation_ratio", "components_90", "components_95" or
                "components_99".
            of_units: divided by the layer's number of units.
        """
        self._check("dimensionality", quantity, DIMENSIONS)
        return self._lines(conditions, lambda report: dimensionality.dimensionality(report, quantity, of_units))

    def gradients(self, value: str = "mean", conditions: Sequence[str] | None = None) -> go.Figure:
        """Size ("mean") or variability ("cv_samples", "cv_units") of the units' input gradients over depth."""
        self._check("gradients", value, gradients.GRADIENTS)
        return self._lines(conditions, lambda report: gradients.gradients(report, value))

    def spectrum(self, layer: str, difference: bool = False, conditions: Sequence[str] | None = None) -> go.Figure:
        """Eigenvalues of a layer's covariance over their rank, log-log, with the fitted power laws.

        Args:
            layer: its name.
            difference: of the responses' difference perturbed - clean, instead of the responses.
        """
        if not unit_figures.has_spectra(self.report, difference):
            raise InputError(
                f"this report holds no eigenvalues{' of differences' if difference else ''}; audit with the measure "
                "dimensionality, and keep units.npz beside report.json"
            )
        return self._lines(conditions, lambda report: unit_figures.spectrum(report, layer, difference))

    def units(self, layer: str, value: str = "selectivity", conditions: Sequence[str] | None = None) -> go.Figure:
        """The value of every unit of a layer, largest first; dotted: the same under shuffled labels.

        Args:
            layer: its name.
            value: "selectivity", "gradient", or what another measure gives for each unit.
        """
        known = unit_figures.unit_values(self.report)
        if not known:
            raise InputError(
                "this report holds no values of units; audit with the measure selectivity or gradients, and keep "
                "units.npz beside report.json"
            )
        check_one_of(value, known, "value")
        return self._lines(conditions, lambda report: unit_figures.units(report, layer, value))

    def similarity(self, measure: str = "cka", conditions: Sequence[str] | None = None) -> go.Figure:
        """How alike clean and perturbed responses are, over depth: debiased CKA, or the Procrustes distance.

        Args:
            measure: "cka" (1: the same up to rotation and scale) or "procrustes" (0: the same; up to 2).
        """
        check_one_of(measure, SIMILARITIES, "measure")
        key, what = SIMILARITIES[measure]

        def draw(report: AuditRecord) -> plots.Figure:
            figure = figures.section(report, measure, key)
            figure["layout"]["title"]["text"] = f"{what}, of clean and perturbed responses"
            figure["layout"]["yaxis"] |= {"title": {"text": what}, "rangemode": "tozero"}
            return figure

        self._check(measure, key, {key: what})
        return self._lines(conditions, draw)

    def map(self, measure: str = "cka") -> go.Figure:
        """Every layer against every layer on clean images; outlined: blocks of layers that are alike.

        Args:
            measure: "cka", or another that compares all layers.
        """
        key, values = self.report.layer_map(measure)
        names = [layer.name for layer in self.report.result.layers]
        blocks = self.report.result.blocks(measure)
        what = f"{'CKA' if measure == 'cka' else printable(measure)}, {key}"
        return notebook_figure(heat_map(values, names, names, what, blocks=blocks), f"{label(what)}, between layers")

    def section(
        self, name: str, value: str, error: str | None = None, conditions: Sequence[str] | None = None
    ) -> go.Figure:
        """Any number of any measure over depth, such as a third-party measure's.

        Args:
            name: the section, which is called after the measure.
            value: the key in that section.
            error: the key of its standard error, drawn as a bar.
        """
        self._check(name, value)
        return self._lines(conditions, lambda report: figures.section(report, name, value, error))

    def _check(self, section: str, value: str, known: Collection[str] | None = None) -> None:
        held = figures.section_values(self.report, section)
        held = [key for key in held if known is None or key in known]
        if not held:
            others = listing(figures.section_names(self.report)) or "nothing"
            raise InputError(
                f"this report holds no {section!r} of its layers, but {others}; add the measure to those of the audit"
            )
        check_one_of(value, held, "value")

    def _lines(self, conditions: Sequence[str] | None, draw: Callable[[AuditRecord], plots.Figure]) -> go.Figure:
        """A figure of some conditions in the order asked for."""
        result = self.report.result
        known = {condition.name: condition for condition in result.conditions}
        asked = known if conditions is None else [conditions] if isinstance(conditions, str) else conditions
        if not asked:
            raise InputError("conditions: expected at least one name, or None for all")
        for name in asked:
            check_one_of(name, known, "condition")
        chosen = tuple(known[name] for name in dict.fromkeys(asked))
        # Colours are those of the places among the chosen ones: with many conditions they repeat.
        figure = draw(replace(self.report, result=replace(result, conditions=chosen)))
        if conditions is None:
            _hide(figure, LINES)
        return notebook_figure(figure)


def _hide(figure: plots.Figure, limit: int) -> None:
    """Hides all but the first lines; the note says so."""
    named = [
        trace["legendgroup"] for trace in figure["data"] if "legendgroup" in trace and trace.get("showlegend", True)
    ]
    hidden = set(list(dict.fromkeys(named))[limit:])
    for trace in figure["data"]:
        if trace.get("legendgroup") in hidden:
            trace["visible"] = "legendonly"
    if hidden:
        more = f"{len(hidden)} more conditions are hidden: click on their names, or choose with conditions=[...]."
        figure["layout"]["meta"]["note"] = f"{figure['layout']['meta']['note'].strip()} {more}".strip()
