"""Figures for notebooks are those of the page: the same numbers, the lines asked for, a legend and the note."""

from __future__ import annotations

import dataclasses

import numpy as np
import plotly.graph_objects as go
import pytest
from sample_report import NAMES, sample_report, with_perturbations

from selplug.audits.figures import accuracy, dimensionality, gradients, selectivity
from selplug.audits.figures import one_layer as unit_figures
from selplug.audits.figures import over_depth as figures
from selplug.audits.figures.notebook import LINES
from selplug.audits.report import Report
from selplug.core.errors import InputError

CLEAN, FGSM, NOISE = NAMES
SMALL = "fgsm:eps=4/255"


def full_report(names: tuple[str, ...] = NAMES) -> Report:
    """With gradients, similarities, a map between layers, a sweep and a corruption."""
    report = sample_report(names=names)
    layers = tuple(
        dataclasses.replace(
            layer,
            conditions={
                name: {
                    **sections,
                    "gradients": {"mean": 0.1 * (place + 1), "mean_stderr": 0.01, "cv_units": 0.5},
                    **({"cka": {"debiased": 0.9}, "procrustes": {"distance": 0.2}} if name != CLEAN else {}),
                }
                for name, sections in layer.conditions.items()
            },
        )
        for place, layer in enumerate(report.result.layers)
    )
    maps = {"cka": {"debiased": np.eye(5).tolist(), "block_structure": {"score": 0.5, "blocks": [[1, 3]]}}}
    ball = {"norm": "Linf", "option": "eps", "steps": 1}
    entries = [
        {"name": FGSM, "kind": "attack", "options": {"eps": 8 / 255}, "threat": {**ball, "eps": 8 / 255}},
        {"name": SMALL, "kind": "attack", "options": {"eps": 4 / 255}, "threat": {**ball, "eps": 4 / 255}},
        {"name": NOISE, "kind": "corruption", "options": {"corruption": "fog", "severity": 2, "strengths": "cifar"}},
    ]
    small = dataclasses.replace(report.result.conditions[1], name=SMALL)
    conditions = (*report.result.conditions, small)
    result = dataclasses.replace(report.result, conditions=conditions, layers=layers, between_layers=maps)
    return with_perturbations(dataclasses.replace(report, result=result), entries)


REPORT = full_report()
LAYER = "layer1.act"


def lines(figure: go.Figure | dict) -> list[tuple[object, object]]:
    """x and y of every line that has values."""
    traces = figure.data if isinstance(figure, go.Figure) else figure["data"]
    return [(list(t["x"]), list(t["y"])) for t in traces if any(value is not None for value in t["y"])]


@pytest.mark.parametrize(
    ("plotted", "drawn"),
    [
        (REPORT.plot.accuracy(), accuracy.accuracy(REPORT)),
        (REPORT.plot.budgets(), accuracy.budgets(REPORT)),
        (REPORT.plot.corruptions(), accuracy.corruptions(REPORT)),
        (REPORT.plot.selectivity(), selectivity.selectivity(REPORT)),
        (REPORT.plot.selectivity("mean_alive"), selectivity.selectivity(REPORT, "mean_alive")),
        (REPORT.plot.dimensionality(), dimensionality.dimensionality(REPORT)),
        (
            REPORT.plot.dimensionality("components_95", of_units=True),
            dimensionality.dimensionality(REPORT, "components_95", True),
        ),
        (REPORT.plot.gradients("cv_units"), gradients.gradients(REPORT, "cv_units")),
        (REPORT.plot.spectrum(LAYER), unit_figures.spectrum(REPORT, LAYER)),
        (REPORT.plot.spectrum(LAYER, difference=True), unit_figures.spectrum(REPORT, LAYER, difference=True)),
        (REPORT.plot.units(LAYER), unit_figures.units(REPORT, LAYER)),
        (REPORT.plot.similarity(), figures.section(REPORT, "cka", "debiased")),
        (REPORT.plot.similarity("procrustes"), figures.section(REPORT, "procrustes", "distance")),
        (REPORT.plot.section("spectrum", "r2"), figures.section(REPORT, "spectrum", "r2")),
    ],
)
def test_they_hold_what_the_page_holds(plotted, drawn):
    assert isinstance(plotted, go.Figure)
    assert lines(plotted) == lines(drawn)
    assert plotted.layout.meta["note"] == drawn["layout"]["meta"]["note"]
    assert plotted.layout.title.text
    # Nothing of the page's own look: a notebook has a template, light or dark.
    assert plotted.layout.paper_bgcolor is plotted.layout.plot_bgcolor is None


def test_only_the_conditions_asked_for_in_their_order():
    figure = REPORT.plot.selectivity(conditions=[FGSM, CLEAN])
    assert [trace.name for trace in figure.data if trace.showlegend is not False] == [FGSM, CLEAN]
    assert len(figure.data) == 4  # and their null levels
    assert list(figure.data[0].y) == selectivity.selectivity(REPORT)["data"][1]["y"]
    colors = [trace.line.color for trace in figure.data]
    assert colors[0] != colors[1]
    assert colors[2:] == colors[:2]
    assert [trace.name for trace in REPORT.plot.units(LAYER, conditions=FGSM).data] == [FGSM]
    accuracy = REPORT.plot.accuracy(conditions=[NOISE])
    assert [y for trace in accuracy.data for y in trace.y] == [NOISE, "worst case"]
    assert len(REPORT.plot.spectrum(LAYER, conditions=[CLEAN, NOISE]).data) == 4


def test_the_note_stands_below_the_title():
    figure = REPORT.plot.dimensionality()
    assert figure.layout.meta["note"] == "Not resolved, left out of the lines: layer0.act (3 lines)."
    assert figure.layout.title.subtitle.text == figure.layout.meta["note"]
    assert REPORT.plot.dimensionality(conditions=[CLEAN]).layout.meta["note"].endswith("layer0.act (clean).")
    long = dataclasses.replace(REPORT.result.layers[0], name="<b>&" + "x" * 150)
    report = dataclasses.replace(REPORT, result=dataclasses.replace(REPORT.result, layers=(long,)))
    figure = report.plot.dimensionality()
    assert "<b>" not in figure.layout.title.subtitle.text
    assert figure.layout.margin.t > REPORT.plot.dimensionality().layout.margin.t


def test_many_lines_start_hidden_and_the_note_says_so():
    report = sample_report(names=(CLEAN, *(f"noise {place}" for place in range(19))))
    figure = report.plot.selectivity()
    shown = {trace.legendgroup for trace in figure.data if trace.visible is None}
    assert len(shown) == LINES
    assert {trace.visible for trace in figure.data if trace.legendgroup not in shown} == {"legendonly"}
    assert "8 more conditions are hidden" in figure.layout.meta["note"]
    assert all(trace.visible is None for trace in report.plot.accuracy().data)
    assert all(
        t.visible is None for t in report.plot.selectivity(conditions=[c.name for c in report.result.conditions]).data
    )


def test_a_map_between_layers():
    figure = REPORT.plot.map()
    assert np.array(figure.data[0].z).tolist() == np.eye(5).tolist()
    assert figure.layout.title.text == "CKA, debiased, between layers"
    assert [(shape.x0, shape.x1) for shape in figure.layout.shapes] == [(0.5, 3.5)]


BARE = dataclasses.replace(
    sample_report(names=(CLEAN,)),
    result=dataclasses.replace(
        sample_report(names=(CLEAN,)).result,
        layers=tuple(
            dataclasses.replace(layer, conditions={CLEAN: {"mine": {"x": 1.0}}}, arrays={})
            for layer in sample_report(names=(CLEAN,)).result.layers
        ),
    ),
)


@pytest.mark.parametrize(
    ("report", "figure", "arguments", "message"),
    [
        (REPORT, "selectivity", ("median",), r"a value of this report \(mean, mean_alive\), got 'median'"),
        (REPORT, "dimensionality", ("rank",), r"components_99, .* got 'rank'"),
        (REPORT, "gradients", ("cv_samples",), r"\(mean, cv_units\), got 'cv_samples'"),
        (
            REPORT,
            "section",
            ("spectrum", "slope"),
            r"\(exponent, stderr, r2, first, last\), got 'slope'",
        ),
        (
            REPORT,
            "units",
            (LAYER, "gradient"),
            r"\(selectivity\), got 'gradient'",
        ),
        (REPORT, "units", ("layer9",), r"name of a layer of this report \(layer0\.act, .* got 'layer9'"),
        (REPORT, "similarity", ("cca",), r"\(cka, procrustes\), got 'cca'"),
        (REPORT, "map", ("cca",), "this report has those of cka"),
        (REPORT, "accuracy", (["pgd"],), r"a condition of this report \(clean, fgsm:eps=8/255, .* got 'pgd'"),
        (REPORT, "accuracy", ([],), "expected at least one name"),
        (BARE, "selectivity", (), "holds no 'selectivity' of its layers, but mine; add the measure"),
        (BARE, "similarity", ("procrustes",), "holds no 'procrustes' of its layers"),
        (BARE, "budgets", (), "audit with a sweep such as pgd"),
        (BARE, "corruptions", (), "holds no corruptions; audit with the perturbation corruptions"),
        (BARE, "spectrum", (LAYER,), r"no eigenvalues; .* keep units\.npz"),
        (BARE, "spectrum", (LAYER, True), "no eigenvalues of differences"),
        (BARE, "units", (LAYER,), "no values of units"),
        (BARE, "map", (), "has none; audit with the measure cka"),
    ],
)
def test_what_is_not_held_is_said_with_what_is(report, figure, arguments, message):
    with pytest.raises(InputError, match=message):
        getattr(report.plot, figure)(*arguments)
