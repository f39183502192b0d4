"""The plots of a comparison: values against each other, over depth, and over the strengths of a sweep.

The ``legendgroup`` of a trace is the index of its group, so that the page can show and hide groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..report.plots import Figure, Menu, Plot, base_layout, base_trace, plot_with_menus
from ..report.style import color, label, listing, number, plural, printable, short_names, short_number
from .evidence import Draws, correlated, value_of
from .network import Network
from .network_values import CURVES, VALUES, called, is_accuracy
from .ranks import DRAWS
from .sweeps import Sweep
from .tables import TRAINED, show

if TYPE_CHECKING:
    from .record import ComparisonRecord, SeedGroup

#: Values on the x axis of the linking plots.
X_VALUES = ("selectivity", "selectivity_alive", "alpha", "dimensionality_early", "gain_difference_early",
            "exponent_last", "clean_accuracy")  # fmt: skip
#: Markers of standard and robust networks, and of networks of unknown training.
SYMBOLS = {True: "diamond", False: "circle", None: "square"}
#: The most attacks and noise conditions in the menus; the tables have all.
MAX_CONDITIONS = 24


def linking_plots(comparison: ComparisonRecord) -> list[Plot]:
    """Values of the networks against each other, first robustness to corruptions and to attacks against selectivity."""
    having = values_held(comparison, comparison.of_kind("attack", "noise")[:MAX_CONDITIONS])
    across = [key for key in X_VALUES if key in having]
    found: list[Plot] = []
    for id_, first, title in (
        ("corruptions", "corruption_accuracy", "Against robustness to corruptions"),
        ("attacks", "adversarial_accuracy", "Against robustness to attacks"),
    ):
        up = sorted((key for key in having if key not in ("alpha", *X_VALUES[:2])), key=lambda key: key != first)
        if not across or not up:
            continue
        menus = [
            Menu("Across", tuple((key, called(key)) for key in across)),
            Menu("Up", tuple((key, called(key)) for key in up)),
        ]
        text = "One point per network. Larger points with bars: mean of a group and 95 % interval over its seeds."
        text += " Circle: standard, diamond: robust, square: unknown training."
        heading = title if up[0] == first else "Values against each other"
        found.append(plot_with_menus(f"link-{id_}", heading, text, menus, lambda x, y: linking(comparison, x, y)))
    return found


def values_held(comparison: ComparisonRecord, conditions: Sequence[str]) -> list[str]:
    """The values that some network has, and the accuracies under these conditions."""
    names = [*VALUES, *conditions]
    return [key for key in names if any(network.value(key) is not None for network in comparison.networks)]


def linking(comparison: ComparisonRecord, x: str, y: str) -> Figure:
    """One value against another: networks as points, groups as means with intervals."""
    data = []
    for place, group in enumerate(comparison.groups):
        networks = [n for n in group.networks if n.value(x) is not None and n.value(y) is not None]
        data.append(
            {
                **base_trace(place, group.name),
                "mode": "markers",
                "x": [_scaled(x, network.value(x)) for network in networks],
                "y": [_scaled(y, network.value(y)) for network in networks],
                "marker": {"color": color(place), "size": 8, "symbol": [_symbol(network) for network in networks]},
                "customdata": [_hover_lines(n, show(x, n.value(x)), show(y, n.value(y))) for n in networks],
                "hovertemplate": "<b>%{customdata[0]}</b><br>%{meta[0]}<br>%{customdata[1]}<br>"
                "%{customdata[2]} across, %{customdata[3]} up<extra></extra>",
                "showlegend": False,
            }
        )
        data.append(_mean_point(place, group, x, y))
    layout = base_layout(f"{called(y)} against {called(x)}", height=430)
    layout["xaxis"], layout["yaxis"] = ({"title": {"text": _axis(key)}, "automargin": True} for key in (x, y))
    rho = correlated(comparison.networks, value_of(x), value_of(y), Draws(DRAWS, 0)).estimate
    layout["meta"]["note"] = (
        f"Spearman's rho within families: {short_number(rho.value, spec='.2f')}, over "
        f"{plural(rho.configurations, 'training configuration')} ({plural(rho.n, 'standard network')})."
        if rho.value is not None
        else "No correlation: no family has three or more training configurations."
    )
    return {"data": data, "layout": layout}


def _mean_point(place: int, group: SeedGroup, x: str, y: str) -> Figure:
    means = {axis: group.estimate(key) for axis, key in (("x", x), ("y", y))}
    drawn = len(group.networks) > 1 and all(estimate.value is not None for estimate in means.values())
    trace: Figure = {
        **base_trace(place, group.name),
        "mode": "markers",
        "marker": {"color": color(place), "size": 14, "opacity": 0.55, "symbol": _symbol(group.networks[0])},
        "hovertemplate": "<b>%{meta[0]}</b><br>mean of the group<extra></extra>",
        "showlegend": False,
    }
    for (axis, estimate), key in zip(means.items(), (x, y), strict=True):
        value = _scaled(key, estimate.value)
        low, high = (_scaled(key, end) for end in estimate.ci95 or (estimate.value, estimate.value))
        trace[axis] = [value] if drawn else []
        trace[f"error_{axis}"] = {
            "type": "data", "symmetric": False, "array": [high - value], "arrayminus": [value - low],
            "color": color(place), "thickness": 1.5, "width": 4,
        }  # fmt: skip
    return trace


def depth_plots(comparison: ComparisonRecord) -> list[Plot]:
    """Values over depth by group, first dimensionality, and its gain under attacks minus that under corruptions."""
    having = curves_held(comparison)
    found: list[Plot] = []
    for id_, first in (("dimensionality", "dimensionality"), ("gain", "gain_difference")):
        if first not in having and found:
            continue
        keys = sorted(having, key=lambda key: key != first)
        if not keys:
            continue
        menu = Menu("Value", tuple((key, CURVES[key]) for key in keys))
        title = f"Over depth: {CURVES[keys[0]].partition(',')[0].partition(' (')[0]}"
        text = "One line per group: mean over its networks. Bars: 95 % interval over seeds."
        found.append(plot_with_menus(f"depth-{id_}", title, text, [menu], lambda key: depth(comparison, key)))
    return found


def curves_held(comparison: ComparisonRecord) -> list[str]:
    """The values over depth that some group has."""
    drawn = [group.curves for group in comparison.groups if group.curves is not None]
    return [key for key in CURVES if any(np.isfinite(curves[key][0]).any() for curves in drawn)]


def depth(comparison: ComparisonRecord, key: str) -> Figure:
    """One value over depth, a line per group."""
    same = len({network.measured.layers for network in comparison.networks}) == 1
    names = comparison.networks[0].measured.layers
    ticks = [f"{place} · {label(name)}" for place, name in enumerate(short_names(names, 20, tail=0.65), 1)]
    data, gaps = [], []
    for place, group in enumerate(comparison.groups):
        if group.curves is None:
            gaps.append(group.name)
            continue
        means, low, high = group.curves[key]
        layers = group.networks[0].measured.layers
        trace = {
            **base_trace(place, group.name),
            "x": ticks if same else [round(i / max(1, len(layers) - 1), 4) for i in range(len(layers))],
            "y": _list(means),
            "mode": "lines+markers",
            "connectgaps": False,
            "line": {"color": color(place), "width": 2, "dash": _dash(group.networks[0])},
            "marker": {"symbol": _symbol(group.networks[0]), "size": 6},
            "customdata": [label(name) for name in layers],
            "hovertemplate": "<b>%{meta[0]}</b><br>%{customdata}: <b>%{y:.4~g}</b><extra></extra>",
            "showlegend": False,
        }
        if len(group.networks) > 1:
            trace["error_y"] = {
                "type": "data", "symmetric": False, "array": _list(high - means), "arrayminus": _list(means - low),
                "thickness": 1, "width": 3,
            }  # fmt: skip
        data.append(trace)
    layout = base_layout(CURVES[key], height=430)
    layout["xaxis"] = {"title": {"text": "depth, from input (0) to output (1)"}, "automargin": True}
    if same:
        layout["xaxis"] = {
            "type": "category",
            "title": {"text": "layer, input to output"},
            "categoryorder": "array",
            "categoryarray": ticks,
            "automargin": True,
            "tickfont": {"size": 10},
        }
    layout["yaxis"] = {"title": {"text": _wrapped(CURVES[key])}, "automargin": True}
    layout["meta"]["note"] = f"Left out, since their networks have different layers: {listing(gaps)}." if gaps else ""
    return {"data": data, "layout": layout}


def sweep_plots(comparison: ComparisonRecord) -> list[Plot]:
    """Accuracy against the exponent of the last hidden layer over the strengths of a sweep, noise and FGSM first."""
    names = sweeps_held(comparison)
    keys = list(names)
    if not keys:
        return []
    text = "One line per network through all strengths, beginning with clean images. Colours show groups."
    found: list[Plot] = []
    for kind, name in (("noise", "under noise"), ("fgsm", "under FGSM"), ("", "over a sweep")):
        first = next((key for key in keys if names[key] == kind or not (kind or found)), None)
        if first is None:
            continue
        chosen = [first, *(key for key in keys if key != first)]
        menu = Menu("Sweep", tuple((str(keys.index(key)), printable(key)) for key in chosen))
        title = f"Exponent against accuracy {name}"
        found.append(
            plot_with_menus(
                f"sweep-{kind}", title, text, [menu], lambda place: over_strengths(comparison, keys[int(place)])
            )
        )
    return found


def sweeps_held(comparison: ComparisonRecord) -> dict[str, str]:
    """The sweeps with exponents of some network, by name, with their kinds; noise and FGSM first."""
    names: dict[str, str] = {}
    for network in comparison.networks:
        for sweep in network.measured.sweeps:
            if any(point.exponent is not None for point in sweep.points):
                names.setdefault(f"{sweep.name} over {sweep.option}", sweep.kind)
    order = ["noise", "fgsm"]
    keys = sorted(names, key=lambda name: order.index(names[name]) if names[name] in order else len(order))
    return {key: names[key] for key in keys}


def over_strengths(comparison: ComparisonRecord, name: str) -> Figure:
    """One sweep: a line per network from the clean images to the largest strength."""
    data = []
    for place, group in enumerate(comparison.groups):
        for network in group.networks:
            sweep = next((s for s in network.measured.sweeps if f"{s.name} over {s.option}" == name), None)
            if sweep is None:
                continue
            points = [point for point in sweep.points if point.exponent is not None]
            data.append(
                {
                    **base_trace(place, group.name),
                    "x": [point.exponent for point in points],
                    "y": [100 * point.accuracy for point in points],
                    "mode": "lines+markers",
                    "line": {"color": color(place), "width": 1.5, "dash": _dash(network)},
                    # The marker of clean images is larger, since the line begins there.
                    "marker": {"symbol": _symbol(network), "size": [10 if p.strength == 0 else 6 for p in points]},
                    "customdata": [[label(network.name), _strength(point.strength), _loss(sweep)] for point in points],
                    "hovertemplate": "<b>%{customdata[0]}</b><br>strength %{customdata[1]}<br>exponent %{x:.3f}, "
                    "accuracy %{y:.1f} %<br>%{customdata[2]}<extra></extra>",
                    "showlegend": False,
                }
            )
    layout = base_layout(f"Accuracy against exponent: {label(name)}", height=430)
    layout["xaxis"] = {"title": {"text": "exponent, last hidden layer"}, "automargin": True}
    layout["yaxis"] = {"title": {"text": "accuracy, %"}, "rangemode": "tozero", "automargin": True}
    layout["meta"]["note"] = "The largest marker of a line shows clean images."
    return {"data": data, "layout": layout}


def _hover_lines(network: Network, *shown: str) -> list[str]:
    seed = f"seed {network.training.seed}, " if network.training.seed is not None else ""
    return [label(network.name), f"{seed}training: {TRAINED[network.training.robust]}", *shown]


def _symbol(network: Network) -> str:
    return SYMBOLS[network.training.robust]


def _dash(network: Network) -> str:
    return "dash" if network.training.robust else "solid"


def _scaled(key: str, value: float | None) -> float:
    return (100 if is_accuracy(key) else 1) * (value or 0.0)


def _axis(key: str) -> str:
    return _wrapped(label(called(key)) + (", %" if is_accuracy(key) else ""))


def _wrapped(text: str) -> str:
    """Breaks a long text in the middle, since titles of vertical axes would be cut off."""
    if len(text) <= 36:
        return text
    middle = text.rfind(" ", 0, 36)
    return f"{text[:middle]}<br>{text[middle + 1 :]}"


def _list(values: np.ndarray) -> list[Any]:
    return [number(value) for value in values]


def _strength(value: float) -> str:
    return "0 (clean)" if value == 0 else short_number(value)


def _loss(sweep: Sweep) -> str:
    return f"not explained by a monotonic fit: {short_number(sweep.loss, spec='.3f')}"


def legend(groups: Sequence[SeedGroup]) -> list[dict[str, str]]:
    """The groups that the buttons below the plots show and hide."""
    return [
        {"name": printable(group.name), "color": color(place), "symbol": _symbol(group.networks[0])}
        for place, group in enumerate(groups)
    ]
