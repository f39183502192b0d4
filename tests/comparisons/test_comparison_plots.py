"""Figures of a comparison for notebooks are those of the page, with a legend, and errors say what there is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sample_comparison import family, trained_report

import selplug
from selplug.comparisons.figures import depth_plots, linking_plots, sweep_plots
from selplug.core.errors import InputError

go = pytest.importorskip("plotly.graph_objects")


@pytest.fixture(scope="module")
def comparison() -> selplug.Comparison:
    return selplug.compare(family(), resamples=100)


def names(figure: go.Figure) -> list[str]:
    return [trace.name for trace in figure.data if trace.showlegend]


def test_values_against_each_other(comparison):
    figure = comparison.plot.linking("selectivity", "corruption_accuracy")
    assert isinstance(figure, go.Figure)
    drawn = linking_plots(comparison)[0].data["base"]["data"]
    assert [list(trace.x) for trace in figure.data] == [trace["x"] for trace in drawn]
    assert names(figure) == [group.name for group in comparison.groups]
    low = comparison.groups[0].networks
    assert list(figure.data[0].y) == pytest.approx([100 * network.value("corruption_accuracy") for network in low])
    assert figure.layout.title.text == "mean corruption accuracy against class selectivity"
    assert "Spearman's rho within families: -" in figure.layout.title.subtitle.text
    under = comparison.plot.linking("alpha", "fgsm:eps=2/255")
    accuracies = [100 * network.measured.accuracies["fgsm:eps=2/255"] for network in low]
    assert list(under.data[0].y) == pytest.approx(accuracies)
    assert list(under.data[0].x) == [-1.0] * 3


def test_over_depth(comparison):
    figure = comparison.plot.depth("gain_difference")
    drawn = depth_plots(comparison)[1].data["base"]["data"]
    assert [list(trace.y) for trace in figure.data] == [trace["y"] for trace in drawn]
    assert names(figure) == [group.name for group in comparison.groups]


def test_over_the_strengths_of_a_sweep(comparison):
    first = comparison.plot.sweep()
    assert len(first.data) == len(comparison.networks)
    assert names(first) == [group.name for group in comparison.groups]
    drawn = sweep_plots(comparison)[0].data["base"]["data"]
    assert [list(trace.x) for trace in first.data] == [trace["x"] for trace in drawn]
    fgsm = comparison.plot.sweep("fgsm over eps")
    assert [list(trace.x) for trace in fgsm.data] != [list(trace.x) for trace in first.data]


def test_a_map_of_a_network_or_a_group(comparison):
    network = comparison.networks[-1]
    figure = comparison.plot.map(network.name)
    np.testing.assert_array_equal(np.array(figure.data[0].z), np.array(network.measured.similarity))
    assert figure.layout.title.text == f"{network.name}: CKA between layers"
    assert "block structure 0.120" in figure.layout.meta["note"]
    assert len(figure.layout.shapes) == 1
    group = comparison.groups[-1]
    assert comparison.plot.map(group.name).data[0].z == comparison.plot.map(group.networks[0].name).data[0].z
    assert comparison.plot.map().layout.title.text.startswith(comparison.groups[0].name)


@pytest.mark.parametrize(
    ("figure", "arguments", "message"),
    [
        ("linking", ("x", "worst_case"), r"a value of this comparison \(alpha, selectivity, .*got 'x'"),
        ("linking", ("alpha", "pgd"), r"a value of this comparison .* and \d+ more\), got 'pgd'"),
        ("depth", ("x",), r"a value over depth of this comparison \(selectivity, dimensionality, .*got 'x'"),
        ("sweep", ("x",), r"a sweep of this comparison \(gaussian-noise over std, fgsm over eps\), got 'x'"),
        ("map", ("x",), r"a network or group with a map of this comparison \(alpha -1, .*got 'x'"),
    ],
)
def test_what_is_not_held_is_said_with_what_is(comparison, figure, arguments, message):
    with pytest.raises(InputError, match="expected " + message):
        getattr(comparison.plot, figure)(*arguments)


def test_few_measures():
    def bare(report: selplug.Report) -> selplug.Report:
        layers = tuple(
            dataclasses.replace(layer, conditions={"clean": {"selectivity": layer.conditions["clean"]["selectivity"]}})
            for layer in report.layers
        )
        result = dataclasses.replace(report.result, layers=layers, worst_case=None, between_layers={})
        return dataclasses.replace(report, result=result)

    plot = selplug.compare([bare(trained_report()), bare(trained_report(seed=1))], resamples=100).plot
    assert len(plot.depth().data) == 1
    for figure, message in ((plot.map, "holds no maps between layers; audit"), (plot.sweep, "holds no sweep with exp")):
        with pytest.raises(InputError, match=message):
            figure()
    with pytest.raises(InputError, match=r"a value over depth of this comparison \(selectivity\), got 'exponent'"):
        plot.depth("exponent")
