"""Figures of one layer: the eigenspectrum with its fit, and the values of single units."""

from __future__ import annotations

import functools
import sys

import numpy as np

from ...report.plots import Figure, Menu, Plot, base_layout, base_trace, plot_with_menus
from ...report.style import color, label, number, printable, short_number, symbol
from ..engine.results import LayerResult
from ..record import AuditRecord, find_layer
from . import over_depth as figures


def spectrum_plots(report: AuditRecord) -> list[Plot]:
    """Eigenspectra of one layer at a time, if they were measured."""
    kinds = [
        (value, text)
        for value, text, difference in (
            ("responses", figures.RESPONSES, False),
            ("difference", figures.DIFFERENCE, True),
        )
        if has_spectra(report, difference)
    ]
    if not kinds:
        return []
    points = _points(report)
    return [
        plot_with_menus(
            "spectrum",
            "Eigenspectrum",
            "Points: eigenvalues of the covariance by rank, both axes logarithmic. Lines: the fitted power laws.",
            [_layer_menu(report), Menu("Of", tuple(kinds))],
            lambda layer, kind: spectrum(report, _name(report, layer), kind == "difference", points),
            digits=3,
        )
    ]


def unit_plots(report: AuditRecord) -> list[Plot]:
    """Values of single units, if any were kept."""
    values = unit_values(report)
    if not values:
        return []
    names = {"selectivity": "class selectivity", "gradient": "mean input gradient"}
    menus = [_layer_menu(report), Menu("Value", tuple((value, names.get(value, printable(value))) for value in values))]
    points = _points(report)
    return [
        plot_with_menus(
            "units",
            "Units",
            "Every unit of the layer, sorted from the largest value to the smallest.",
            menus,
            lambda layer, value: units(report, _name(report, layer), value, points),
            digits=3,
        )
    ]


def _layer_menu(report: AuditRecord) -> Menu:
    names = [layer.name for layer in report.result.layers]
    options = tuple((str(place), f"{place + 1} · {printable(name)}") for place, name in enumerate(names))
    return Menu("Layer", options, shared="layer")


def _points(report: AuditRecord) -> int:
    """Points per line of the plots that exist once per layer: as many as keep the page small."""
    lines = len(report.result.layers) * len(report.result.conditions)
    return max(16, min(POINTS, 288_000 // max(1, lines)))


def _name(report: AuditRecord, place: str) -> str:
    return report.result.layers[int(place)].name


#: Points per line. More than a screen can tell apart would only make the file large: 60 layers x 30 conditions.
POINTS = 60
#: ``selectivity_null`` holds the null level of ``selectivity``.
NULL = "_null"
NO_FIT = {"exponent": "–", "r2": "–", "ranks": "fewer than 10 ranks, not fitted"}


def spectrum(report: AuditRecord, layer: str, difference: bool = False, points: int = POINTS) -> Figure:
    """Eigenvalues of a layer's covariance against their rank, log-log, with the fitted power law per condition.

    Args:
        layer: its name.
        difference: of the responses' difference perturbed − clean, instead of the responses.
        points: drawn per line, at most.

    Raises:
        InputError: no such layer.
    """
    found = find_layer(report, layer)
    data: list[Figure] = []
    rows: list[list[str]] = []
    for place, condition in enumerate(report.result.conditions):
        key = f"difference:{condition.name}" if difference else condition.name
        values = found.arrays.get((key, "eigenvalues"))
        name = f"difference {condition.name} − clean" if difference else condition.name
        # A condition without a spectrum keeps its place, empty, so that the traces of all layers correspond.
        fit = _Fit(found, condition.name, difference, np.empty(0) if values is None else values)
        ranks, shown = _log_spaced(fit.usable, points)
        base = base_trace(place, name)
        dots = {
            **base,
            "x": ranks,
            "y": shown,
            "mode": "markers",
            "marker": {"symbol": symbol(place), "size": 5, "color": color(place)},
            "name": f"{base['name']}: {fit.text['exponent']}",
            "showlegend": values is not None,
            "meta": [*base["meta"], *fit.text.values()],
            "hovertemplate": "<b>%{meta[0]}</b><br>rank %{x}: %{y:.3g}<br>exponent %{meta[1]}, R² %{meta[2]}"
            "<br>ranks %{meta[3]}<extra></extra>",
        }
        line = {**base, "mode": "lines", "line": {"color": color(place), "width": 1.5}, "showlegend": False}
        x, y = fit.line()
        data += [dots, {**line, "x": x, "y": y, "hoverinfo": "skip"}]
        if values is not None:
            rows.append([str(place), printable(name), fit.text["exponent"], fit.text["r2"], fit.text["ranks"]])
    layout = base_layout(f"Eigenspectrum of {label(layer)}", height=460)
    layout["xaxis"] = {"type": "log", "title": {"text": "rank k"}, "dtick": _ticks(data, "x")}
    layout["yaxis"] = {"type": "log", "title": {"text": "eigenvalue (variance)"}, "dtick": _ticks(data, "y")}
    layout["yaxis"] |= {"exponentformat": "power", "automargin": True}
    layout["meta"] |= {
        "columns": ["condition", "exponent ± standard error", "R²", "fitted ranks"],
        "rows": rows,
        "caption": "Fitted power laws",
        "note": f"At most {points} ranks are drawn, evenly spaced on the log axis; the fit uses all in its range. "
        "Eigenvalues of rounding size are left out.",
    }
    return {"data": data, "layout": layout}


def units(report: AuditRecord, layer: str, value: str = "selectivity", points: int = POINTS) -> Figure:
    """The value of every unit of a layer, largest first, a line per condition; dotted: the same under shuffled labels.

    Args:
        layer: its name.
        value: a name of :func:`unit_values`.
        points: drawn per line, at most; the table beside it holds half as many units.

    Raises:
        InputError: no such layer.
    """
    found = find_layer(report, layer)
    data: list[Figure] = []
    nulls: list[Figure] = []
    for place, condition in enumerate(report.result.conditions):
        array = found.arrays.get((condition.name, value))
        if array is None:
            continue
        x, y, count = _ranked(array, points)
        base = {**base_trace(place, condition.name), "x": x, "y": y}
        data.append(
            {
                **base,
                "mode": "lines+markers",
                "line": {"color": color(place), "width": 2},
                "marker": {"symbol": symbol(place), "size": 4},
                "hovertemplate": f"<b>%{{meta[0]}}</b><br>%{{y:.3f}}, rank %{{x}} of {count}<extra></extra>",
            }
        )
        null = found.arrays.get((condition.name, value + NULL))
        if null is not None:
            x, y, _ = _ranked(null, points)
            nulls.append({**base, "x": x, "y": y, "mode": "lines", "hoverinfo": "skip", "showlegend": False})
            nulls[-1] |= {"line": {"color": color(place), "dash": "dot", "width": 1.5}, "opacity": 0.75}
    layout = base_layout(f"Units of {label(layer)}", height=400)
    layout["xaxis"] = {"title": {"text": "units, largest value first"}, "rangemode": "tozero"}
    name = "class selectivity index" if value == "selectivity" else label(value)
    layout["yaxis"] = {"title": {"text": name}, "rangemode": "tozero", "automargin": True}
    dead = f"Dead on clean images: {found.dead_units} of {found.units} units. "
    layout["meta"]["note"] = (
        ("" if found.dead_units is None else dead)
        + "Units are sorted anew for every line"
        + (f"; at most {points} of them are drawn" if found.units > points else "")
        + (". Dotted: the same under shuffled labels." if nulls else ".")
    )
    layout["meta"]["columns_by_condition"] = _largest(report, found, value, points // 2)
    return {"data": data + nulls, "layout": layout}


def _largest(report: AuditRecord, layer: LayerResult, value: str, count: int) -> Figure | None:
    """The units with the largest values under the first condition that has any, with their values under all."""
    arrays = {
        (place, condition.name): np.asarray(layer.arrays[condition.name, value], dtype=np.float64)
        for place, condition in enumerate(report.result.conditions)
        if (condition.name, value) in layer.arrays
    }
    if not arrays:
        return None
    (_, first), array = next(iter(arrays.items()))
    best = np.argsort(-np.where(np.isfinite(array), array, -np.inf), kind="stable")[:count]
    return {
        "caption": f"Units with the largest values, {printable(first)}",
        "head": "unit",
        "labels": [f"unit {unit}" for unit in best.tolist()],
        "columns": {str(place): [number(unit) for unit in each[best].tolist()] for (place, _), each in arrays.items()},
    }


def _ranked(array: np.ndarray, points: int) -> tuple[list[int], list[float], int]:
    """Ranks, values from the largest down, and how many there were before some were left out."""
    ranked = np.sort(np.asarray(array, dtype=np.float64))[::-1]
    ranked = ranked[np.isfinite(ranked)]
    kept = np.unique(np.linspace(0, len(ranked) - 1, min(points, len(ranked))).round().astype(int))
    return (kept + 1).tolist(), ranked[kept].tolist(), len(ranked)


def unit_values(report: AuditRecord) -> list[str]:
    """Names of the arrays that hold one number per unit."""
    names = {
        value: None
        for layer in report.result.layers
        for (condition, value), array in layer.arrays.items()
        if value != "eigenvalues" and array.shape == (layer.units,) and not condition.startswith("difference:")
    }
    return [name for name in names if name.removesuffix(NULL) not in names or not name.endswith(NULL)]


def has_spectra(report: AuditRecord, difference: bool = False) -> bool:
    """Whether the eigenvalues of any layer are there."""
    return any(
        value == "eigenvalues" and condition.startswith("difference:") == difference
        for layer in report.result.layers
        for condition, value in layer.arrays
    )


class _Fit:
    """A stored power-law fit beside the eigenvalues it was made on."""

    def __init__(self, layer: LayerResult, condition: str, difference: bool, values: np.ndarray) -> None:
        ordered = np.sort(np.asarray(values, dtype=np.float64))[::-1]
        threshold = len(ordered) * sys.float_info.epsilon * max(float(ordered[0]), 0.0) if len(ordered) else 0.0
        self.usable = ordered[ordered > threshold]
        self.exponent, error, r2, first, last = (
            layer.value(condition, "spectrum", key, difference) for key in ("exponent", "stderr", "r2", "first", "last")
        )
        self.text = NO_FIT
        self.ranks = np.arange(0)
        if self.exponent is not None and first is not None and last is not None:
            self.ranks = np.arange(int(first), min(int(last), len(self.usable)) + 1)
            exponent = f"{self.exponent:.3f}" + (f" ± {error:.3f}" if error is not None else "")
            self.text = {"exponent": exponent, "r2": short_number(r2), "ranks": f"{first} – {last}"}

    def line(self) -> tuple[list[int], list[float]]:
        """Both ends of the fitted line. Its height follows from the exponent: weights 1/k, as in the fit."""
        if self.exponent is None or len(self.ranks) < 2:
            return [], []
        rank = np.log(self.ranks)
        height = np.average(np.log(self.usable[self.ranks - 1]) + self.exponent * rank, weights=1 / self.ranks)
        ends = [int(self.ranks[0]), int(self.ranks[-1])]
        return ends, [float(np.exp(height - self.exponent * np.log(end))) for end in ends]


def _ticks(data: list[Figure], axis: str) -> int | str:
    """Steps of a log axis: a label per decade, or at 1, 2 and 5 where the data spans too few decades for that."""
    values = [value for trace in data for value in trace[axis]]
    decades = np.log10(max(values) / min(values)) if values else 0
    return "D2" if decades < 1.5 else int(np.ceil(decades / 10))


def _log_spaced(values: np.ndarray, points: int) -> tuple[list[int], list[float]]:
    ranks = _log_ranks(len(values), points)
    return ranks.tolist(), values[ranks - 1].tolist()


@functools.lru_cache(maxsize=256)
def _log_ranks(size: int, points: int) -> np.ndarray:
    """At most so many ranks of 1 .. size, evenly spaced on a log axis."""
    if size <= points:
        return np.arange(1, size + 1)
    # More are asked for than wanted: the lowest ranks coincide after rounding.
    count = points
    while len(ranks := np.unique(np.geomspace(1, size, count).round().astype(int))) < points * 0.9:
        count += 4
    return ranks
