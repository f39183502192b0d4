"""What all four kinds of results have in common: short names, tables, files, JSON by its schema."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import jsonschema
import numpy as np
import pytest
from rich.console import Console
from sample_comparison import family
from sample_report import large_report, sample_report
from sample_results import sample_explanation, sample_similarity

import selplug
from selplug.comparisons.sources import Source, common
from selplug.core.errors import PluginError, ReportError
from selplug.report.hand_out import hand_out
from selplug.report.result import Result

EVIL = "<script>alert(1)</script>\x1b[31m[bold]"
SCHEMAS = {
    "Report": ("audits", "report.schema.json"),
    "Comparison": ("comparisons", "comparison.schema.json"),
    "SimilarityReport": ("similarities", "similarity.schema.json"),
    "Explanation": ("explanations", "explanation.schema.json"),
}


@pytest.fixture(scope="module")
def comparison() -> selplug.Comparison:
    return selplug.compare(family(), resamples=100)


@pytest.fixture(scope="module", params=SCHEMAS)
def result(request, comparison) -> Result:
    made = {
        "Report": sample_report,
        "Comparison": lambda: comparison,
        "SimilarityReport": sample_similarity,
        "Explanation": sample_explanation,
    }
    return made[request.param]()


def schema(result: Result) -> dict:
    package, name = SCHEMAS[type(result).__name__]
    return json.loads(files(f"selplug.{package}").joinpath(name).read_text(encoding="utf-8"))


def test_each_is_one_short_line(result):
    line = repr(result)
    assert line.startswith(f"<{type(result).__name__}: ")
    assert line.endswith(">")
    assert "\n" not in line
    assert len(line) < 200


def test_the_line_tells_model_samples_and_counts(comparison):
    assert repr(sample_report()) == ("<Report: resnet20_cifar on cifar/test, 500 samples; 3 conditions, 5 layers>")
    assert repr(sample_similarity()) == "<SimilarityReport: net layer (a) and net (b) on 40 images; 5 and 3 layers>"
    assert repr(sample_explanation()) == "<Explanation: net cat explained on 2 images; 4 maps by saliency, a|b>"
    assert repr(comparison) == (
        "<Comparison: 12 networks in 4 groups; resnet20_cifar; 7 of 16 claims supported, 13 conditions>"
    )


def test_long_names_do_not_make_it_long():
    report = dataclasses.replace(sample_report(), subject={"model": "m" * 5000})
    for each in (report, sample_similarity("x" * 5000), sample_explanation("y" * 5000)):
        assert len(repr(each)) < 200


def test_records_are_short(comparison):
    report = sample_report()
    sources = [Source(name, each, path=None, sha256="a" * 64) for name, each in family().items()]
    network = comparison.networks[0]
    large = large_report(layers=2, units=8)
    records = [
        report.result, *report.result.layers, *report.conditions, report.result.examples, report.worst_case,
        large, large.result, *large.layers, common(sources), *sources,
        network, network.measured, network.training, *comparison.groups, *comparison.origins, *comparison.claims,
        sample_similarity().result, *sample_explanation().images,
    ]  # fmt: skip
    long = {type(each).__name__: len(repr(each)) for each in records if len(repr(each)) >= 300}
    assert not long
    assert repr(report.result) == "AuditResult(3 conditions, 5 layers, 500 samples)"
    assert repr(common(sources)) == "Common(12 reports, 13 conditions)"


def test_the_parts_of_a_report_are_at_hand():
    report = sample_report()
    assert report.worst_case is report.result.worst_case
    assert report.conditions is report.result.conditions
    assert report.layers is report.result.layers


def test_the_json_keeps_to_its_schema(result):
    validator = jsonschema.Draft202012Validator(schema(result))
    validator.check_schema(validator.schema)
    data = result.to_dict()
    validator.validate(data)
    assert validator.schema["properties"]["schema_version"]["const"] == data["schema_version"]
    assert not validator.is_valid({**data, "unknown": 1})
    for key in validator.schema["required"]:
        assert not validator.is_valid({name: value for name, value in data.items() if name != key}), key


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("SimilarityReport", ["maps", 0, "values", 0, 0], "0.5"),
        ("SimilarityReport", ["maps", 0, "rows"], "c"),
        ("SimilarityReport", ["layers", "a", 0, "units"], 1.5),
        ("SimilarityReport", ["layers", "c"], []),
        ("SimilarityReport", ["block_structure", "a", "blocks"], [[1]]),
        ("SimilarityReport", ["samples"], -1),
        ("Explanation", ["images"], []),
        ("Explanation", ["images", 0, "label"], "cat"),
        ("Explanation", ["images", 0, "predictions", "clean", 0, "probability"], 1.5),
        ("Explanation", ["images", 0, "maps", 0, "size"], [8]),
        ("Explanation", ["images", 0, "maps", 0, "clean", "sum"], None),
        ("Explanation", ["images", 0, "extra"], 1),
        ("Comparison", ["groups", 0, "curves", "selectivity", "low", 0], "x"),
        ("Comparison", ["groups", 0, "curves", "selectivity", "extra"], []),
    ],
)
def test_broken_json_fails(comparison, kind, path, value):
    made = {"SimilarityReport": sample_similarity, "Explanation": sample_explanation}
    found = made[kind]() if kind in made else comparison
    data = json.loads(json.dumps(found.to_dict()))
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert not jsonschema.Draft202012Validator(schema(found)).is_valid(data)


def test_the_summary_is_plain_and_the_same_everywhere(result, monkeypatch):
    text = result.summary()
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert result.summary() == text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 120
    assert text.splitlines()[0] == result._title()
    console = Console(file=io.StringIO(), width=120, force_terminal=False, color_system=None)
    result.print_to(console)
    assert [line.rstrip() for line in console.file.getvalue().splitlines()] == text.splitlines()


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def test_a_notebook_shows_tables(result):
    reader = Reader()
    reader.feed(result._repr_html_())
    assert "table" in reader.tags
    assert reader.text[0] == result._title()
    assert all(re.search(r"\S", cell) for cell in reader.text)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_names_are_only_text(kind):
    made = {
        "Report": lambda: dataclasses.replace(sample_report(names=("clean", EVIL)), subject={"model": EVIL}),
        "Comparison": lambda: selplug.compare({EVIL: family(1)["adv-s0"], "b": family(1)["alpha+0-s0"]}, resamples=100),
        "SimilarityReport": lambda: sample_similarity(EVIL),
        "Explanation": lambda: sample_explanation(EVIL),
    }
    found = made[kind]()
    shown = found._repr_html_()
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert "[bold]" in found.summary()
    assert "\x1b" not in shown + found.summary() + repr(found)


def test_the_pictures_of_a_notebook_are_few_and_small():
    import base64

    from PIL import Image

    explanation = sample_explanation(size=(300, 200))
    many = dataclasses.replace(explanation, images=explanation.images * 4)
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', many._repr_html_())
    assert len(pictures) == 3
    for picture in pictures:
        image = Image.open(io.BytesIO(base64.b64decode(picture)))
        assert max(image.height, image.width / 5) <= 72
        assert len(picture) < 100_000
    one = np.asarray(Image.open(io.BytesIO(base64.b64decode(pictures[0]))))
    clean = np.rint(255 * explanation.images[0].images["clean"]).transpose(1, 2, 0)
    np.testing.assert_array_equal(one[:60, :40], clean[::5, ::5])


def test_saved_files_and_what_json_cannot_hold(result, tmp_path):
    assert result.save(tmp_path / "new") == tmp_path / "new"
    assert (tmp_path / "new" / result.PAGE).is_file()
    text = (tmp_path / "new" / result.JSON).read_bytes()
    assert text.endswith(b"}\n")
    assert text.isascii()
    assert json.loads(text) == result.to_dict()
    odd = dataclasses.replace(result, environment={"torch": [1, object()]})
    with pytest.raises(ReportError, match=rf"{result.JSON}: expected numbers.*got object at environment\.torch\[1\]"):
        odd.save(tmp_path / "odd")
    assert not (tmp_path / "odd").exists()


def test_json_for_programs(result, tmp_path, capsys):
    hand_out(result, tmp_path, None, quiet=False)
    captured = capsys.readouterr()
    assert result._title() in captured.out
    assert captured.out.splitlines()[-1] == f"page: {tmp_path / result.PAGE}"
    hand_out(result, tmp_path, "-", quiet=False)
    captured = capsys.readouterr()
    assert json.loads(captured.out) == result.to_dict()
    assert "page: " in captured.err
    hand_out(result, tmp_path, str(tmp_path / "copy.json"), quiet=True)
    assert json.loads((tmp_path / "copy.json").read_text()) == result.to_dict()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["Report", "Comparison", "SimilarityReport", "Explanation"])
def test_a_missing_pandas_is_one_error(kind, comparison, monkeypatch):
    frames = {
        "Report": sample_report().conditions_frame,
        "Comparison": comparison.frame,
        "SimilarityReport": sample_similarity().frame,
        "Explanation": sample_explanation().frame,
    }
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(PluginError, match=r'need pandas, which is not installed: pip install "selplug\[notebook\]"'):
        frames[kind]()
