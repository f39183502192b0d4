"""Terminal and notebook."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console
from sample_report import sample_report


def test_summary_holds_the_numbers_and_no_codes():
    text = sample_report().summary()
    for expected in ("80.0 %", "75.0–85.0 %", "0.900", "0.0310", "Worst-case accuracy 61.0 %", "not resolved", "0.250"):
        assert expected in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 120


def test_summary_does_not_depend_on_the_terminal(monkeypatch):
    first = sample_report().summary()
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert sample_report().summary() == first


def test_many_layers_are_shortened_and_said_so():
    text = sample_report(layers=60).summary()
    assert "… 36 more" in text
    assert "layer11.act" in text
    assert "layer12.act" not in text
    assert "layer48.act" in text
    assert "layer24.act" in sample_report(layers=25).summary()


@pytest.mark.parametrize("name", ["[bold]x[/]", "[/]", "\x1b[31mred", "a\nb"])
def test_names_are_neither_markup_nor_codes(name):
    report = sample_report(layers=1, names=("clean", name))
    report = dataclasses.replace(report, subject={"model": name})
    text = report.summary()
    assert "\x1b" not in text
    assert name.translate({0x1B: 0xFFFD, 0x0A: 0xFFFD}) in text


def test_prints_to_a_console():
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    sample_report().print_to(console)
    assert "fgsm:eps=8/255" in console.file.getvalue()


def test_notebook_is_escaped():
    name = "<script>alert(1)</script>"
    report = sample_report(layers=1, names=("clean", name))
    text = dataclasses.replace(report, subject={"model": name})._repr_html_()
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 2
    assert "80.0 %" in text


def test_a_run_with_one_measure_and_no_attack():
    report = sample_report(layers=2, names=("clean",))
    layers = tuple(
        dataclasses.replace(layer, dead_units=None, conditions={"clean": {"mine": {"x": 1.0}}}, differences={})
        for layer in report.result.layers
    )
    result = dataclasses.replace(report.result, layers=layers, worst_case=None)
    text = dataclasses.replace(report, result=result).summary()
    assert "none, since there was no attack" in text
    assert text.count("there was no attack") == 1
    assert "null level" not in text
