"""Figures: what plotly accepts, what they draw, and what they leave out."""

from __future__ import annotations

import dataclasses

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sample_report import NAMES, sample_report

from selplug.audits.figures import accuracy, dimensionality, selectivity
from selplug.audits.figures import one_layer as unit_figures
from selplug.audits.figures import over_depth as figures
from selplug.audits.figures.overview import overview, values
from selplug.core.errors import InputError
from selplug.core.measures.functional import spectrum_exponent
from selplug.report.style import number, shorten

REPORT = sample_report()


@pytest.mark.parametrize(
    "figure",
    [
        accuracy.accuracy(REPORT),
        overview(REPORT),
        overview(REPORT, change=True),
        selectivity.selectivity(REPORT),
        selectivity.selectivity(REPORT, "mean_alive"),
        dimensionality.dimensionality(REPORT),
        dimensionality.dimensionality(REPORT, "components_95", of_units=True),
        figures.section(REPORT, "spectrum", "exponent", "stderr"),
        unit_figures.spectrum(REPORT, "layer0.act"),
        unit_figures.spectrum(REPORT, "layer0.act", difference=True),
        unit_figures.units(REPORT, "layer1.act"),
    ],
)
def test_plotly_accepts_them(figure):
    assert go.Figure(figure).data


def test_null_level_is_dotted_and_in_the_hover():
    figure = selectivity.selectivity(REPORT)
    dotted = [trace for trace in figure["data"] if trace["line"].get("dash") == "dot"]
    assert [trace["y"] for trace in dotted] == [[0.04] * 5] * 3
    assert figure["data"][0]["customdata"][0] == ["layer0.act", "ReLU", 32, "0", "<br>null level 0.04"]


def test_not_resolved_is_a_gap_and_said_so():
    figure = dimensionality.dimensionality(REPORT)
    assert figure["data"][0]["y"][0] is None
    assert figure["layout"]["meta"]["note"] == "Not resolved, left out of the lines: layer0.act (3 lines)."
    assert dimensionality.dimensionality(REPORT, "participation_ratio")["layout"]["meta"]["note"] == ""


def test_share_of_units():
    absolute, share = (
        dimensionality.dimensionality(REPORT, "components_90", of_units=u)["data"][0]["y"] for u in (0, 1)
    )
    assert share == [value / 32 for value in absolute]


def test_differences_have_a_panel_of_their_own():
    figure = dimensionality.dimensionality(REPORT)
    assert [trace["yaxis"] for trace in figure["data"]] == ["y", "y", "y", "y2", "y2"]
    assert [trace["legendgroup"] for trace in figure["data"]] == ["0", "1", "2", "1", "2"]


@pytest.mark.parametrize(("count", "first"), [(40, 1), (700, 11)])
def test_fitted_line_is_the_fit(count, first):
    """The drawn line against an ordinary weighted fit with numpy."""
    values = np.arange(1, count + 1) ** -1.3 * np.exp(0.1 * np.random.default_rng(0).standard_normal(count))
    values = np.sort(values)[::-1]
    fit = spectrum_exponent(torch.from_numpy(values.copy()))
    assert fit.first == first
    report = sample_report(layers=1, units=count, names=("clean",))
    layer = report.result.layers[0]
    layer = dataclasses.replace(
        layer,
        conditions={"clean": {"spectrum": dataclasses.asdict(fit)}},
        arrays={("clean", "eigenvalues"): values},
    )
    report = dataclasses.replace(report, result=dataclasses.replace(report.result, layers=(layer,)))
    points, line = unit_figures.spectrum(report, "layer0.act")["data"]
    rank = np.arange(fit.first, fit.last + 1)
    slope, height = np.polyfit(np.log(rank), np.log(values[rank - 1]), 1, w=rank**-0.5)
    assert line["x"] == [fit.first, fit.last]
    assert line["y"] == pytest.approx(np.exp(height + slope * np.log(line["x"])))
    assert points["y"] == [values[k - 1] for k in points["x"]]


def test_a_spectrum_without_a_fit_or_without_variance():
    report = sample_report(layers=1, units=4, names=("clean",))
    layer = dataclasses.replace(
        report.result.layers[0],
        conditions={"clean": {"spectrum": {"exponent": float("nan"), "first": 1, "last": 0}}},
        arrays={("clean", "eigenvalues"): np.zeros(4)},
    )
    report = dataclasses.replace(report, result=dataclasses.replace(report.result, layers=(layer,)))
    figure = unit_figures.spectrum(report, "layer0.act")
    assert [trace["x"] for trace in figure["data"]] == [[], []]
    assert figure["layout"]["meta"]["rows"] == [["0", "clean", "–", "–", "fewer than 10 ranks, not fitted"]]


def test_units_are_sorted_and_null_is_no_value_of_its_own():
    report = sample_report(layers=1)
    layer = report.result.layers[0]
    arrays = {**layer.arrays, ("clean", "selectivity_null"): np.linspace(0, 0.1, 32)}
    layer = dataclasses.replace(layer, arrays=arrays)
    report = dataclasses.replace(report, result=dataclasses.replace(report.result, layers=(layer,)))
    figure = unit_figures.units(report, "layer0.act")
    assert figure["data"][0]["y"] == sorted(layer.arrays["clean", "selectivity"], reverse=True)
    assert figure["data"][-1]["line"]["dash"] == "dot"
    assert unit_figures.unit_values(report) == ["selectivity"]


def test_the_map_of_everything():
    titles = [(value.section, value.key, value.difference) for value in values(REPORT)]
    assert titles[:3] == [
        ("selectivity", "mean", False),
        ("dimensionality", "participation_ratio_corrected", False),
        ("dimensionality", "participation_ratio_corrected", True),
    ]
    cells = overview(REPORT)["data"][0]
    assert cells["y"] == list(NAMES)
    assert cells["z"][1] == [layer.conditions[NAMES[1]]["selectivity"]["mean"] for layer in REPORT.result.layers]
    # Clean images have no difference from clean ones.
    difference = overview(REPORT, values(REPORT)[2], change=True)["data"][0]
    assert difference["z"][0] == [None] * 5
    assert difference["z"][1] == pytest.approx([5.3, 6.3, 7.3, 8.3, 9.3])


def test_changes_in_the_map_are_from_clean():
    layer = REPORT.result.layers[0]
    conditions = {name: {"other": {"level": level}} for name, level in zip(NAMES, (1.0, 0.25, None), strict=True)}
    layer = dataclasses.replace(layer, conditions=conditions, differences={})
    report = dataclasses.replace(REPORT, result=dataclasses.replace(REPORT.result, layers=(layer,)))
    cells = overview(report, change=True)["data"][0]
    assert cells["z"] == [[0.0], [-0.75], [None]]
    assert (cells["zmin"], cells["zmax"]) == (-0.75, 0.75)
    empty = dataclasses.replace(layer, conditions={name: {} for name in NAMES})
    with pytest.raises(InputError, match="at least one number per layer"):
        overview(dataclasses.replace(REPORT, result=dataclasses.replace(REPORT.result, layers=(empty,))))


def test_the_largest_units_stand_beside_their_values_under_all_conditions():
    layer = REPORT.result.layers[1]
    found = unit_figures.units(REPORT, layer.name, points=8)["layout"]["meta"]["columns_by_condition"]
    clean, other = (layer.arrays[name, "selectivity"] for name in NAMES[:2])
    best = sorted(range(32), key=lambda unit: -clean[unit])[:4]
    assert found["labels"] == [f"unit {unit}" for unit in best]
    assert found["columns"]["0"] == clean[best].tolist()
    assert found["columns"]["1"] == other[best].tolist()


def test_an_unknown_layer():
    with pytest.raises(InputError, match=r"expected the name of a layer of this report \(layer0.act.*got 'x'"):
        unit_figures.spectrum(REPORT, "x")


def test_same_short_names_stay_apart():
    report = sample_report(layers=12, names=NAMES[:1])
    assert len(set(figures.depth_ticks(report))) == 12
    long = tuple("a" * 80 + str(i) + "b" * 80 for i in range(40))
    bars = accuracy.accuracy(sample_report(layers=1, names=long))["data"]
    assert len({bar["y"][0] for bar in bars}) == 41


@given(st.text(), st.integers(4, 40), st.floats(0, 1))
def test_shortened_names_fit(text, limit, tail):
    short = shorten(text, limit, tail)
    assert len(short) <= limit
    assert (short == text) == (len(text) <= limit) or "…" in text


def test_numbers():
    assert [number(x) for x in (True, None, "1", float("nan"), np.float64(2.5), torch.tensor(3), np.zeros(2))] == [
        *[None] * 4,
        2.5,
        3,
        None,
    ]
