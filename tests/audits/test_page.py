"""The page shows the report's numbers, escapes every text and loads nothing."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import json
import re
import zlib
from html.parser import HTMLParser

import pytest
from sample_report import large_report, sample_report

from selplug.audits.engine.results import Examples
from selplug.audits.page.condition_groups import condition_groups, presets
from selplug.audits.page.page import render
from selplug.report import packing, plots, style
from selplug.report.packing import script_json
from selplug.report.page import flat

HOSTILE = ["<script>alert(1)</script>", "</script>", "<b>x</b>", "\"'", "é漢\u202e", "%{meta[0]}", "{{ 7 * 7 }}"]


class Page(HTMLParser):
    """Tags, attributes and visible text, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        elif self.cdata_elem != "style":
            self.text += data

    @property
    def data(self):
        return json.loads(self.scripts[0])


@pytest.fixture(autouse=True)
def small_plotly(monkeypatch):
    """The real library is 5 MB; one test below takes it."""
    import plotly.offline

    monkeypatch.setattr(plotly.offline, "get_plotlyjs", lambda: "/* plotly */")


def renamed(name: str, **changes):
    report = sample_report(layers=2, names=("clean", name))
    result = report.result
    layers = tuple(dataclasses.replace(layer, name=f"{name}{i}", kind=name) for i, layer in enumerate(result.layers))
    subject = {**report.subject, "model": name, "class_names": [name] * 10, name: {name: [name]}}
    result = dataclasses.replace(result, layers=layers, worst_case=None)
    return dataclasses.replace(report, subject=subject, settings={name: name}, result=result, **changes)


def test_numbers_are_those_of_the_report():
    report = sample_report()
    shown = Page(render(report))
    plots = shown.data["plots"]
    result = report.result
    bars = [trace["x"][0] for trace in plots["accuracy"]["base"]["data"]]
    assert bars[:3] == pytest.approx([100 * c.accuracy for c in result.conditions])
    clean = plots["selectivity"]["base"]["data"][0]
    assert clean["y"] == pytest.approx([x.conditions["clean"]["selectivity"]["mean"] for x in result.layers])
    dimensions = plots["dimensionality"]["base"]["data"][0]["y"]
    assert dimensions[0] is None
    assert dimensions[1:] == pytest.approx([5.3, 6.3, 7.3, 8.3])
    for text in ("80.0 %", "75.0–85.0 %", "61.0 %", "57.0–65.0 %", "0.0310", "not resolved", "1.100 ± 0.020"):
        assert text in shown.text


def test_every_choice_of_the_menus_is_drawn():
    shown = Page(render(sample_report(layers=3)))
    plots = shown.data["plots"]
    assert len(plots["dimensionality"]["choices"]) == 10
    assert set(plots["spectrum"]["choices"]) == {
        f"{i}|{kind}" for i in range(3) for kind in ("responses", "difference")
    }
    assert set(plots["units"]["choices"]) == {"0", "1", "2"}
    selects = [attrs["data-plot"] for tag, attrs in shown.tags if "data-menu" in attrs]
    assert set(selects) <= set(plots)


def test_packed_figures_come_back():
    first = {"data": [{"x": [1], "y": [2], "a": 1}], "layout": {"height": 1}}
    second = {"data": [{"x": [1], "y": [3]}], "layout": {"height": 1, "b": 2}}
    third = {"data": [], "layout": {"height": 1}}
    packed = plots.packed({"1": first, "2": second, "3": third})
    assert packed["base"] == first
    assert packed["choices"]["1"] == {"data": [{}], "layout": {}}
    assert packed["choices"]["2"] == {"data": [{"y": [3], "a": None}], "layout": {"b": 2}}
    assert packed["choices"]["3"] == {"traces": [], "layout": {}}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(name):
    text = render(renamed(name))
    shown, usual = Page(text), Page(render(renamed("harmless")))
    # No tag more or less than with a harmless name, and the same scripts.
    assert [tag for tag, _ in shown.tags] == [tag for tag, _ in usual.tags]
    assert shown.scripts[1:] == usual.scripts[1:]
    assert style.printable(name) in shown.text
    assert "</" not in shown.scripts[0]


@pytest.mark.parametrize("name", HOSTILE)
def test_plotly_sees_no_markup(name):
    def strings(value):
        if isinstance(value, dict):
            for key, item in value.items():
                if key != "meta" or not isinstance(item, dict):  # the note and the table are set as text
                    yield from strings(item)
        elif isinstance(value, list):
            for item in value:
                yield from strings(item)
        elif isinstance(value, str):
            yield value

    found = list(strings(Page(render(renamed(name))).data["plots"]))
    own = re.compile(r"</?b>|<br>|<extra></extra>")
    assert not any("<" in own.sub("", text) for text in found if name != "<b>x</b>")
    assert not any("<b>x</b>" in text for text in found)
    assert any(html.escape(style.printable(name), quote=False) in text for text in found)


def test_large_figures_are_squeezed(monkeypatch):
    data = plots.packed({"a": {"data": [{"y": [1 / 3]}], "layout": {}}, "b": {"data": [{"y": [2 / 3]}], "layout": {}}})
    assert packing.stored(data, digits=3)["choices"]["b"]["data"] == [{"y": [0.667]}]
    monkeypatch.setattr(packing, "PLAIN", 0)
    small = packing.stored(data)
    assert unsqueezed(small["base"]) == {"data": [{"y": [0.3333]}], "layout": {}}
    assert unsqueezed(small["choices"]["b"]) == {"layout": {}, "data": [{"y": [0.6667]}]}


def unsqueezed(text: str):
    return json.loads(zlib.decompress(base64.b64decode(text)))


def test_groups_and_presets():
    report = large_report(layers=1, units=8, examples=1, size=4)
    names = [condition.name for condition in report.result.conditions]
    found = {group.name: [names[place] for place in group.places] for group in condition_groups(report)}
    assert list(found)[:2] == ["clean", "gaussian_noise"]
    assert found["fog"] == [f"fog@{s}" for s in range(1, 6)]
    assert found["other attacks"] == ["apgd", "square", "cw"]
    assert sorted(name for members in found.values() for name in members) == sorted(names)
    first, *others = presets(report)
    levels = {group: min(c.accuracy for c in report.result.conditions if c.name in found[group]) for group in found}
    lowest = sorted(levels, key=levels.get)[:7]
    shown = [names[place] for place in first.places]
    assert shown[0] == "clean"
    assert {next(group for group in found if name in found[group]) for name in shown[1:]} == set(lowest)
    kinds = {group.name: len(group.places) for group in others}
    assert kinds["all"] == 90
    assert (kinds["corruptions"], kinds["attacks"], kinds["noise"]) == (76, 10, 6)
    assert kinds["corruptions, severity 3"] == 16
    assert presets(sample_report())[0].name == "all"


def test_script_json_cannot_break_out():
    text = script_json({"x": "</script><!--&", "y": 1 / 3})
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"x": "</script><!--&", "y": 0.333333}


def test_nothing_is_loaded_and_only_its_own_scripts_run(monkeypatch):
    monkeypatch.undo()
    text = render(sample_report(layers=1))
    shown = Page(text)
    loading = {"src", "srcset", "data", "action", "poster", "background"}
    for tag, attributes in shown.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for key in loading & attributes.keys():
            assert attributes[key].startswith("data:image/png;base64,")
        assert not any(key.startswith("on") for key in attributes)
    style = re.search("<style>(.*?)</style>", text, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    assert len(shown.scripts) == 3
    assert len(shown.scripts[1]) > 1_000_000
    policy = next(a["content"] for tag, a in shown.tags if tag == "meta" and a.get("http-equiv"))
    assert "default-src 'none'" in policy
    for script in shown.scripts[1:]:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert "\r" not in text


def test_clean_only():
    report = sample_report(names=("clean",))
    result = dataclasses.replace(report.result, worst_case=None, examples=Examples())
    shown = Page(render(dataclasses.replace(report, result=result)))
    assert "no attack took part" in shown.text
    assert "Example images" not in shown.text
    assert not any(tag == "img" for tag, _ in shown.tags)
    assert len(shown.data["plots"]["dimensionality"]["base"]["data"]) == 1


def test_a_run_with_only_a_third_party_measure():
    report = sample_report(layers=3)
    layers = tuple(
        dataclasses.replace(
            layer,
            dead_units=None,
            conditions={"clean": {"sparsity": {"gini": 0.1 * i, "flag": True, "text": "x"}}},
            differences={},
            arrays={},
        )
        for i, layer in enumerate(report.result.layers)
    )
    shown = Page(render(dataclasses.replace(report, result=dataclasses.replace(report.result, layers=layers))))
    assert set(shown.data["plots"]) == {"overview", "accuracy", "other-0"}
    trace = shown.data["plots"]["other-0"]["base"]["data"][0]
    assert trace["y"] == pytest.approx([0, 0.1, 0.2])
    assert "add the measure selectivity" in shown.text
    assert "No per-unit values were kept." in shown.text


def test_warnings_are_shown():
    report = sample_report()
    data = {**report.subject["data"], "skipped": ["broken.jpg", "cut.png"]}
    text = Page(render(dataclasses.replace(report, subject={**report.subject, "data": data}))).text
    for expected in ("Skipped samples: 2", "Dead units: 10 in 4 of 5", "Rectified layers: 1 of 5", "not resolved in 1"):
        assert expected in text


def test_long_spectra_are_thinned():
    shown = Page(render(sample_report(layers=1, units=2000, names=("clean",))))
    points = shown.data["plots"]["spectrum"]["base"]["data"][0]
    assert len(points["x"]) <= 60
    assert points["x"][0] == 1
    assert points["x"][-1] == 2000
    assert len(shown.data["plots"]["units"]["base"]["data"][0]["x"]) <= 60


def test_tables_are_readable_by_machines():
    tags = [tag for tag, _ in Page(render(sample_report())).tags]
    assert tags.count("table") == tags.count("caption")
    assert tags.count("h1") == tags.count("main") == 1


def test_facts_are_complete():
    facts = dict(flat({"a": {"b": [1, 2]}, "c": None, "d": [{"e": 0.5}, {"e": []}], "f": {}}))
    assert facts == {"a.b": "1, 2", "c": "not set", "d[1].e": "0.5", "d[2].e": "none", "f": "none"}
