"""Mean corruption accuracy, mCE and relative mCE, and where they are shown."""

from __future__ import annotations

import dataclasses
import json
from importlib.resources import files

import jsonschema
import numpy as np
import plotly.graph_objects as go
import pytest
from sample_report import sample_report, told
from typer.testing import CliRunner

from selplug.audits.baseline import ALEXNET, load_baseline
from selplug.audits.engine.results import Condition
from selplug.audits.facts.corruptions import summarize
from selplug.audits.figures import accuracy
from selplug.audits.page.page import render
from selplug.cli.commands import app
from selplug.core.errors import InputError

NAMES = ("fog", "contrast", "saturate")


def entry(name, severity, strengths="imagenet"):
    options = {"corruption": name, "severity": severity, "strengths": strengths}
    return {"name": f"{name}@{severity}", "kind": "corruption", "options": options}


def conditions(entries, accuracies):
    """Clean and those of the entries, with these accuracies."""
    entries = [{"name": "clean", "kind": "clean"}, *entries]
    levels = [(e, accuracies[e["name"]]) for e in entries]
    return tuple(Condition(e["name"], e["name"], a, (a, a), 500, 1.0, 0.5, **told(e)) for e, a in levels)


def made_up(seed, names=NAMES, severities=range(1, 6)):
    generator = np.random.default_rng(seed)
    entries = [entry(name, severity) for name in names for severity in severities]
    accuracies = {"clean": 0.9, "fgsm": 0.0}
    accuracies |= {e["name"]: float(generator.uniform(0.2, 0.8)) for e in entries}
    return [*entries, {"name": "fgsm", "kind": "attack", "options": {"eps": 0.1}}], accuracies


def report(seed=0, baseline=None, **kwargs):
    entries, accuracies = made_up(seed, **kwargs)
    base = sample_report()
    result = dataclasses.replace(base.result, conditions=conditions(entries, accuracies), layers=(), worst_case=None)
    settings = {"perturbations": entries} | ({"baseline": baseline} if baseline else {})
    return dataclasses.replace(base, settings=settings, result=result)


def test_mce_is_the_published_formula(tmp_path):
    base = report(1)
    base.save(tmp_path)
    baseline = load_baseline(str(tmp_path))
    assert baseline == load_baseline(str(tmp_path / "report.json"))
    found = report(0, baseline).corruptions
    ours, theirs = made_up(0)[1], made_up(1)[1]
    plain, relative = [], []
    for name in NAMES:
        error, other = (sum(1 - a[f"{name}@{s}"] for s in range(1, 6)) for a in (ours, theirs))
        plain.append(error / other)
        relative.append((error - 5 * (1 - ours["clean"])) / (other - 5 * (1 - theirs["clean"])))
    assert found["mce"] == pytest.approx(np.mean(plain))
    assert found["relative_mce"] == pytest.approx(np.mean(relative))
    assert found["corruption_error"]["contrast"] == pytest.approx(plain[1])
    assert found["mean_accuracy"] == pytest.approx(np.mean([a for n, a in ours.items() if "@" in n]))
    assert report(1, baseline).corruptions["mce"] == pytest.approx(1)
    assert report(1, baseline).corruptions["relative_mce"] == pytest.approx(1)


def test_alexnet_itself_has_an_mce_of_one():
    errors = {name: row["1"] for name, row in ALEXNET["errors"].items()}
    entries = [entry(n, s) for n in errors for s in range(1, 6)]
    accuracies = {f"{n}@{s}": 1 - e for n, e in errors.items() for s in range(1, 6)} | {"clean": 1 - 0.435}
    found = summarize(conditions(entries, accuracies), load_baseline("alexnet"))
    assert len(found["corruption_error"]) == 15
    assert found["mce"] == pytest.approx(1)
    assert found["relative_mce"] == pytest.approx(1)
    for row in entries:
        row["options"]["strengths"] = "cifar"
    assert summarize(conditions(entries, accuracies), load_baseline("alexnet"))["mce"] is None


def test_other_severities_are_not_compared():
    found = report(0, load_baseline("alexnet"), severities=(1, 2)).corruptions
    assert found["mce"] is found["relative_mce"] is None
    assert found["corruption_error"] == {}


def test_several_strengths_have_rows_of_their_own():
    entries = [entry("fog", 1), entry("fog", 2, "cifar")]
    found = summarize(conditions(entries, {"clean": 1.0, "fog@1": 0.5, "fog@2": 0.25}))
    assert found["accuracy"] == {"fog (imagenet)": {"1": 0.5}, "fog (cifar)": {"2": 0.25}}


def test_no_corruptions_no_summary():
    assert sample_report().corruptions is None
    assert "Mean corruption accuracy</dt>" not in render(sample_report())


def test_it_is_shown_and_written():
    full = report(0, load_baseline("alexnet"))
    schema = json.loads(files("selplug.audits").joinpath("report.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(full.to_dict(), schema)
    jsonschema.validate(sample_report().to_dict(), schema)
    figure = accuracy.corruptions(full)
    assert go.Figure(figure).data
    assert figure["data"][0]["z"][0][2] == pytest.approx(100 * made_up(0)[1]["fog@3"])
    page = render(full)
    assert "Mean corruption accuracy" in page
    assert "over 2 corruptions, baseline alexnet" in page  # saturate is none of the benchmark's
    assert "over 2 corruptions, baseline alexnet" in " ".join(full.summary().split())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"expected alexnet, a report.json or its folder, got"),
        ("{", "is not a report of selplug"),
        ("[]", "is not a report of selplug"),
        ('{"conditions": [], "settings": {}, "subject": {"model": "x"}}', "is not a report of selplug"),
        (
            json.dumps(sample_report(layers=1).to_dict()),
            "has no corruptions; audit the baseline with --perturb corruptions",
        ),
    ],
)
def test_bad_baselines(tmp_path, content, message):
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    with pytest.raises(InputError, match=message):
        load_baseline(str(tmp_path))
    result = CliRunner().invoke(
        app, ["audit", "resnet18", "--baseline", str(tmp_path), "--output", str(tmp_path / "r")]
    )
    assert result.exit_code == 2
