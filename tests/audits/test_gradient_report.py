"""What a report shows of input gradients."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files

import pytest
from sample_report import sample_report

from selplug.audits.figures.gradients import gradient_plots, gradients
from selplug.audits.page.page import render
from selplug.audits.report import Report

VALUES = {
    "mean": 0.5, "mean_stderr": 0.01, "cv_samples": None, "cv_samples_stderr": None, "cv_units": 0.4,
    "cv_units_stderr": 0.02, "flat_units": 3, "probes": 16, "differences": False,
}  # fmt: skip


def with_gradients(**changed: object) -> Report:
    report = sample_report(layers=2)
    layers = tuple(
        replace(
            layer,
            conditions={name: {**s, "gradients": {**VALUES, **changed}} for name, s in layer.conditions.items()},
        )
        for layer in report.result.layers
    )
    return replace(report, result=replace(report.result, layers=layers))


def test_the_figure_has_a_line_per_condition_with_standard_errors():
    report = with_gradients()
    figure = gradients(report)
    assert [trace["y"] for trace in figure["data"]] == [[0.5, 0.5]] * 3
    assert figure["data"][0]["error_y"]["array"] == [0.01, 0.01]
    assert figure["layout"]["yaxis"]["type"] == "log"
    assert "type" not in gradients(with_gradients(mean=0.0))["layout"]["yaxis"]  # 0 has no logarithm
    assert gradients(report, "cv_units")["data"][0]["error_y"]["array"] == [0.02, 0.02]
    (plot,) = gradient_plots(report)
    assert [value for value, _ in plot.menus[0].options] == [
        "mean",
        "cv_units",
    ]  # what nobody could measure is left out


def test_page_table_and_notes():
    page = render(with_gradients())
    assert 'id="plot-gradients"' in page
    assert 'id="plot-other' not in page
    assert 'id="plot-gradients"' not in render(sample_report())
    text = " ".join(with_gradients(differences=True).summary().split())
    assert "CV samples" in text
    assert "Units without an input gradient: 6 in 2 of 2 layers on clean images" in text
    assert "Input gradients from differences" in text
    assert "Input gradients from differences" not in with_gradients().summary()


def test_the_schema_holds_them():
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(files("selplug.audits").joinpath("report.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(with_gradients().to_dict(), schema)
    for wrong in ({"mean": -1.0}, {"probes": 1.5}, {"differences": 0}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(with_gradients(**wrong).to_dict(), schema)
