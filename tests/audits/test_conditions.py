"""An audit tells of every condition what it is and which options were in force, and so do files, the older ones too."""

from __future__ import annotations

import dataclasses
import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
import torch
from sample_comparison import trained_report
from sample_report import NAMES, sample_report, with_perturbations
from torch import Tensor, nn

import selplug
from selplug.audits.baseline import load_baseline
from selplug.audits.page.page import render
from selplug.audits.report import Report
from selplug.comparisons.sources import Source, common
from selplug.core.errors import InputError
from selplug.core.types import Perturbation, Subject

K = 3
BALL = {"norm": "Linf", "eps": 0.1, "option": "eps", "steps": 1}


class Attack:
    """A factory that tells its options and its ball, and how often it was asked."""

    def __init__(self) -> None:
        self.described: list[int] = []

    def __call__(self, model: nn.Module, eps: float) -> Any:
        return lambda images, labels: (images + eps).clamp(0, 1)

    def describe(self, options: dict[str, Any], num_classes: int) -> dict[str, Any]:
        self.described.append(num_classes)
        return {**options, "steps": 1, "classes": num_classes}

    def threat(self, options: dict[str, Any]) -> dict[str, Any]:
        return {**BALL, "eps": options["eps"]}


class Fog:
    """A corruption that tells its strength after it has run."""

    def __init__(self) -> None:
        self.facts = {"corruption": "fog", "severity": 2}

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        self.facts["strengths"] = "mine"
        return images * 0.5


class Elsewhere:
    """Images of its own."""

    def prepare(self, subject: Subject) -> Subject:
        return dataclasses.replace(subject, loader=loader(1), targets=None)


def loader(seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    images = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return [(images[:16], torch.arange(16) % K), (images[16:], torch.arange(16, 24) % K)]


def audit(*perturbations: Perturbation, **options: Any) -> Report:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, K))
    return selplug.audit(model, loader(), perturbations, ["selectivity"], progress=False, **options)


def test_an_audit_fills_in_what_a_condition_is():
    attack = Attack()
    given = Perturbation("attack", attack, {"eps": 0.1}, spec="mine:eps=0.1")
    last = Perturbation("last", attack, {"eps": 0.2})
    report = audit(
        given,
        Perturbation("set", lambda model, folder: Elsewhere(), {"folder": "x"}, "shift"),
        Perturbation("fog", lambda model: Fog(), kind="corruption"),
        worst_case=[last],
    )
    found = [(c.name, c.spec, c.kind, c.options, c.threat) for c in report.result.conditions]
    assert found == [
        ("clean", "clean", "clean", {}, {}),
        ("attack", "mine:eps=0.1", "attack", {"eps": 0.1, "steps": 1, "classes": K}, BALL),
        ("set", "set", "shift", {"folder": "x"}, {}),
        ("fog", "fog", "corruption", {"corruption": "fog", "severity": 2, "strengths": "mine"}, {}),
    ]
    assert report.clean is report.result.conditions[0]
    assert attack.described == [K, K]  # once as a condition, once in the worst case
    assert report.settings["perturbations"] == [
        {"name": "attack", "kind": "attack", "options": {"eps": 0.1, "steps": 1, "classes": K}, "threat": BALL},
        {"name": "set", "kind": "shift", "options": {"folder": "x"}},
        {"name": "fog", "kind": "corruption", "options": {"corruption": "fog", "severity": 2, "strengths": "mine"}},
    ]
    (worst,) = report.settings["worst_case"]
    assert worst == {
        "name": "last",
        "kind": "attack",
        "options": {"eps": 0.2, "steps": 1, "classes": K},
        "threat": {**BALL, "eps": 0.2},
    }
    assert report.corruptions is not None
    assert report.corruptions["accuracy"] == {"fog": {"2": report.result.conditions[3].accuracy}}


def test_the_file_tells_it_and_comes_back(tmp_path):
    report = audit(Perturbation("attack", Attack(), {"eps": 0.1}), Perturbation("fog", lambda model: Fog()))
    report.save(tmp_path)
    data = json.loads((tmp_path / "report.json").read_text())
    schema = json.loads(files("selplug.audits").joinpath("report.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(data, schema)
    assert data["conditions"][1]["threat"] == BALL
    assert data["conditions"][0]["kind"] == "clean"
    found = selplug.read(tmp_path)
    assert found.result.conditions == report.result.conditions
    assert found.to_dict() == data


FOG = {"name": NAMES[2], "kind": "corruption", "options": {"corruption": "fog", "severity": 3, "strengths": "cifar"}}
PGD = {"name": NAMES[1], "kind": "attack", "options": {"eps": 0.03}, "threat": {"norm": "Linf", "eps": 0.03}}


def old(report: Report, folder: Any) -> dict[str, Any]:
    """Written as before conditions told what they are; gives the content."""
    data = report.to_dict()
    for condition in data["conditions"]:
        for key in ("kind", "options", "threat"):
            del condition[key]
    folder.mkdir(exist_ok=True)
    (folder / "report.json").write_text(json.dumps(data))
    return data


def test_an_older_file_tells_it_in_its_settings(tmp_path):
    report = with_perturbations(sample_report(), [PGD, FOG])
    data = old(report, tmp_path)
    found = selplug.read(tmp_path)
    assert found.result.conditions == report.result.conditions
    assert found.to_dict() == report.to_dict()
    assert found.to_dict()["conditions"] != data["conditions"]
    assert found.settings == report.settings
    assert found.corruptions == report.corruptions is not None
    assert render(found)
    jsonschema.validate(data, json.loads(files("selplug.audits").joinpath("report.schema.json").read_text("utf-8")))


@pytest.mark.parametrize("listed", [None, [], [3, {"kind": "noise"}], {"a": 1}, [{**FOG, "name": ["x"]}]])
def test_an_older_file_that_does_not_tell_it(tmp_path, listed):
    report = sample_report()
    report = dataclasses.replace(report, settings={**report.settings, "perturbations": listed})
    old(report, tmp_path)
    found = selplug.read(tmp_path).result.conditions
    assert [c.kind for c in found] == ["clean", "attack", "attack"]
    assert all(c.options == c.threat == {} for c in found)


@pytest.mark.parametrize(
    ("place", "key", "value", "message"),
    [
        (0, "kind", "attack", r"conditions\[0\]\.kind: expected 'clean', got 'attack'"),
        (1, "kind", 3, r"conditions\[1\]\.kind: expected a text, got 3"),
        (1, "options", [], r"conditions\[1\]\.options: expected an object, got \[\]"),
        (2, "threat", None, r"conditions\[2\]\.threat: expected an object, got None"),
    ],
)
def test_what_a_file_tells_wrongly_is_named(tmp_path, place, key, value, message):
    data = sample_report().to_dict()
    data["conditions"][place][key] = value
    (tmp_path / "report.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=message):
        selplug.read(tmp_path)


def test_an_older_baseline_is_the_same(tmp_path):
    report = with_perturbations(sample_report(), [PGD, FOG])
    old(report, tmp_path / "old")
    report.save(tmp_path / "new")
    found = load_baseline(str(tmp_path / "old"))
    assert found == load_baseline(str(tmp_path / "new"))
    assert found["clean_error"] == pytest.approx(1 - report.clean.accuracy)
    assert found["errors"] == {"fog": {"3": pytest.approx(1 - report.result.conditions[2].accuracy)}}


def test_older_and_newer_reports_have_the_same_conditions_in_common(tmp_path):
    old(trained_report(), tmp_path)
    sources = [Source("old", selplug.read(tmp_path)), Source("new", trained_report(seed=1))]
    found = common(sources)
    assert not found.left_out
    assert found.kinds == common([sources[1], sources[1]]).kinds
    assert [c.name for c in found.of(sources[0])] == list(found.kinds)
