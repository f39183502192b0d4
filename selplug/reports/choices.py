"""One plot with menus: the figures for all choices, stored once and then only by what differs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from . import figures, unit_figures
from . import overview as overviews
from .figures import DIMENSIONS, GRADIENTS, SELECTIVITIES, Figure, section_names, section_values
from .report import Report
from .similarity_figures import heat_map
from .style import printable

OWN_SECTIONS = ("selectivity", "dimensionality", "spectrum", "gradients", "cka", "procrustes")


@dataclass(frozen=True)
class Menu:
    """``options``: ``(value, text)``; texts are printable but not escaped for HTML.

    ``shared`` names the picker of the page that answers for all plots at once, such as "layer"; empty: its own menu.
    """

    label: str
    options: tuple[tuple[str, str], ...]
    shared: str = ""


@dataclass(frozen=True)
class Plot:
    """A figure with its menus. ``data`` is what :func:`packed` returns, ``digits`` how many of them a page keeps."""

    id: str
    title: str
    describe: str
    menus: tuple[Menu, ...]
    data: dict[str, Any] = field(repr=False)
    digits: int = 6


def overview_plots(report: Report) -> list[Plot]:
    """Every layer under every condition at once, if anything was measured under more than one condition."""
    found = overviews.values(report)
    if not found or len(report.result.conditions) < 2:
        return []
    menus = [
        Menu("Value", tuple((str(place), value.title) for place, value in enumerate(found))),
        Menu("Show", (("value", "the value"), ("change", "its change from clean images"))),
    ]
    text = (
        "A row per condition, a column per layer from input to output. Click a cell to choose its layer and condition."
    )

    def draw(place: str, show: str) -> Figure:
        return overviews.overview(report, found[int(place)], change=show == "change")

    return [_chosen("overview", "Every layer under every condition", text, menus, draw, digits=3)]


def accuracy_plots(report: Report) -> list[Plot]:
    bars = _plot("accuracy", "Accuracy per condition", "Bars with 95 % Wilson intervals.", figures.accuracy(report))
    plots = [bars]
    if report.curves:
        title = "Accuracy over the budget"
        text = "A line per attack or noise that was run at several sizes, with 95 % Wilson intervals."
        plots = [_plot("budgets", title, text, figures.budgets(report)), bars]
    if report.corruptions is None:
        return plots
    text = "Rows: corruptions. Columns: severities. The mean over both is the mean corruption accuracy."
    title = "Accuracy per corruption and severity"
    return [_plot("corruptions", title, text, figures.corruptions(report)), *plots]


def selectivity_plots(report: Report) -> list[Plot]:
    """Class selectivity over depth, if it was measured."""
    keys = [key for key in SELECTIVITIES if key in section_values(report, "selectivity")]
    if not keys:
        return []
    menu = Menu("Average", tuple((key, SELECTIVITIES[key]) for key in keys))
    text = "A line per condition over the layers from input to output; dotted: the null level under shuffled labels."
    return [
        _chosen("selectivity", "Class selectivity over depth", text, [menu], lambda v: figures.selectivity(report, v))
    ]


def dimensionality_plots(report: Report) -> list[Plot]:
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
        _chosen(
            "dimensionality",
            "Dimensionality over depth",
            text,
            menus,
            lambda key, unit: figures.dimensionality(report, key, of_units=unit == "fraction"),
        )
    ]


def spectrum_plots(report: Report) -> list[Plot]:
    """Eigenspectra of one layer at a time, if they were measured."""
    kinds = [
        (value, text)
        for value, text, difference in (
            ("responses", figures.RESPONSES, False),
            ("difference", figures.DIFFERENCE, True),
        )
        if unit_figures.has_spectra(report, difference)
    ]
    if not kinds:
        return []
    points = _points(report)
    return [
        _chosen(
            "spectrum",
            "Eigenspectrum",
            "Points: eigenvalues of the covariance by rank, both axes logarithmic. Lines: the fitted power laws.",
            [_layer_menu(report), Menu("Of", tuple(kinds))],
            lambda layer, kind: unit_figures.spectrum(report, _name(report, layer), kind == "difference", points),
            digits=3,
        )
    ]


def exponent_plots(report: Report) -> list[Plot]:
    """Exponents of the eigenspectra over depth, if they were fitted."""
    if "exponent" not in section_values(report, "spectrum"):
        return []
    figure = figures.section(report, "spectrum", "exponent", "stderr")
    text = "Bars: ± one standard error. A larger exponent: fewer directions hold the variance."
    return [_plot("exponent", "Exponent over depth", text, figure)]


def gradient_plots(report: Report) -> list[Plot]:
    """Input-unit gradients over depth, if they were measured."""
    keys = [key for key in GRADIENTS if key in section_values(report, "gradients")]
    if not keys:
        return []
    menu = Menu("Value", tuple((key, GRADIENTS[key]) for key in keys))
    text = "A line per condition over the layers from input to output. Bars: ± one standard error of the estimate."
    return [_chosen("gradients", "Input gradients over depth", text, [menu], lambda v: figures.gradients(report, v))]


def similarity_plots(report: Report) -> list[Plot]:
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
            plots.append(_plot(name, title, f"A line per condition over the layers. {describe}", figure))
    names = [layer.name for layer in report.result.layers]
    for place, (measure, values) in enumerate(report.result.between_layers.items()):
        blocks = values.get("block_structure", {}).get("blocks", ())
        for key, value in values.items():
            if isinstance(value, list) and len(value) == len(names):
                what = "CKA" if measure == "cka" else printable(measure)
                figure = heat_map(value, names, names, f"{what}, {key}", blocks=blocks)
                text = "Every layer against every layer, on clean images."
                text += " Outlined: blocks of layers that are alike." if blocks else ""
                plots.append(_plot(f"map-{place}-{key}", f"{what} between layers, {printable(key)}", text, figure))
    return plots


def unit_plots(report: Report) -> list[Plot]:
    """Values of single units, if any were kept."""
    values = unit_figures.unit_values(report)
    if not values:
        return []
    names = {"selectivity": "class selectivity", "gradient": "mean input gradient"}
    menus = [_layer_menu(report), Menu("Value", tuple((value, names.get(value, printable(value))) for value in values))]
    points = _points(report)
    return [
        _chosen(
            "units",
            "Units",
            "Every unit of the layer, sorted from the largest value to the smallest.",
            menus,
            lambda layer, value: unit_figures.units(report, _name(report, layer), value, points),
            digits=3,
        )
    ]


def other_plots(report: Report) -> list[Plot]:
    """Every number of the measures that this package does not know, over depth."""
    plots = []
    for place, name in enumerate(name for name in section_names(report) if name not in OWN_SECTIONS):
        keys = section_values(report, name)
        if keys:
            menu = Menu("Value", tuple((str(index), printable(key)) for index, key in enumerate(keys)))
            plots.append(
                _chosen(
                    f"other-{place}",
                    printable(name),
                    "A line per condition over the layers from input to output. See the measure's own documentation.",
                    [menu],
                    lambda index, name=name, keys=keys: figures.section(report, name, keys[int(index)]),
                )
            )
    return plots


def packed(choices: dict[str, Figure]) -> dict[str, Any]:
    """Figures by choice -> ``{"base": first figure, "choices": {choice: {"data", "layout"}}}``.

    A choice holds, trace by trace, the keys in which it differs from the first figure, None for a key that it lacks;
    with another number of traces it holds them all, under ``"traces"``.
    """
    base = next(iter(choices.values()))
    result: dict[str, Any] = {"base": base, "choices": {}}
    for key, figure in choices.items():
        changed: dict[str, Any] = {"layout": _difference(base["layout"], figure["layout"])}
        if len(figure["data"]) == len(base["data"]):
            changed["data"] = [_difference(*pair) for pair in zip(base["data"], figure["data"], strict=True)]
        else:
            changed["traces"] = figure["data"]
        result["choices"][key] = changed
    return result


def _difference(old: Figure, new: Figure) -> Figure:
    changed = {key: value for key, value in new.items() if key not in old or old[key] != value}
    return changed | {key: None for key in old if key not in new}


def _chosen(
    id: str,  # noqa: A002
    title: str,
    describe: str,
    menus: list[Menu],
    draw: Callable[..., Figure],
    digits: int = 6,
) -> Plot:
    combinations = itertools.product(*([value for value, _ in menu.options] for menu in menus))
    # A menu with one entry asks nothing.
    asked = tuple(menu for menu in menus if len(menu.options) > 1)
    kept = [len(menu.options) > 1 for menu in menus]
    drawn = {
        "|".join(value for value, keep in zip(values, kept, strict=True) if keep): draw(*values)
        for values in combinations
    }
    return Plot(id, title, describe, asked, packed(drawn), digits)


def _plot(id: str, title: str, describe: str, figure: Figure) -> Plot:  # noqa: A002
    return Plot(id, title, describe, (), packed({"": figure}))


def _layer_menu(report: Report) -> Menu:
    names = [layer.name for layer in report.result.layers]
    options = tuple((str(place), f"{place + 1} · {printable(name)}") for place, name in enumerate(names))
    return Menu("Layer", options, shared="layer")


def _points(report: Report) -> int:
    """Points per line of the plots that exist once per layer: as many as keep the page small."""
    lines = len(report.result.layers) * len(report.result.conditions)
    return max(16, min(unit_figures.POINTS, 288_000 // max(1, lines)))


def _name(report: Report, place: str) -> str:
    return report.result.layers[int(place)].name
