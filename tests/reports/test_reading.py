"""A report that was saved is read back whole, and what is no such report is refused with its reason."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_report import NAMES, sample_report, with_perturbations

import selplug
from selplug.audits.engine.results import AttackProbe, Step, TargetSuccess
from selplug.audits.facts.attack_checks import checks
from selplug.audits.files import write_json, write_npz
from selplug.audits.page.page import render
from selplug.audits.report import Report
from selplug.core.errors import InputError

ATTACK = {"name": NAMES[1], "kind": "attack", "options": {"eps": 0.03}, "threat": {"norm": "Linf", "eps": 0.03}}
FOG = {"name": NAMES[2], "kind": "corruption", "options": {"corruption": "fog", "severity": 3, "strengths": "cifar"}}


def written(report: Report, folder: Path) -> Path:
    write_npz(report, folder)
    return write_json(report, folder)


def full_report() -> Report:
    """With everything that a report can hold, and a probe, from which the checks of its attacks are made."""
    report = sample_report()
    first, second, *others = report.result.conditions
    result = dataclasses.replace(
        report.result,
        conditions=(first, dataclasses.replace(second, targeted=TargetSuccess(0.5, (0.4, 0.6), 90)), *others),
        worst_case=dataclasses.replace(
            report.result.worst_case, norm="Linf", eps=0.03, steps=(Step("square", 300, 290),)
        ),
        probe=AttackProbe(64, 0.5, True, False, {NAMES[1]: (20, 10)}),
        between_layers={
            "cka": {"debiased": [[1.0, float("nan")], [None, 1.0]], "block_structure": {"blocks": [[0, 2]]}}
        },
        samples_per_class=(50,) * 10,
        samples_digest="ab" * 32,
    )
    data = {**report.subject["data"], "samples_digest": "ab" * 32}
    report = dataclasses.replace(report, subject={**report.subject, "data": data}, result=result)
    return with_perturbations(report, [ATTACK, FOG])


def assert_same(found: Report, report: Report) -> None:
    assert found.to_dict() == report.to_dict()
    arrays, expected = found.arrays(), report.arrays()
    assert list(arrays) == list(expected)
    for key, array in expected.items():
        assert arrays[key].dtype == array.dtype
        np.testing.assert_array_equal(arrays[key], array)


@pytest.mark.parametrize("folder", [True, False])
def test_a_whole_report_comes_back(tmp_path, folder):
    report = full_report()
    path = written(report, tmp_path)
    found = selplug.read(str(tmp_path) if folder else path)
    assert found.to_dict() == json.loads(path.read_text())
    assert_same(found, report)
    for field in ("conditions", "worst_case", "samples_per_class", "samples_digest"):
        assert getattr(found.result, field) == getattr(report.result, field)
    assert [layer.rectified for layer in found.result.layers] == [False, True, False, False, False]
    assert not found.examples.images


def test_what_is_made_of_more_than_the_files_hold_is_kept(tmp_path):
    report = full_report()
    made = checks(report.result.conditions, report.result.probe)
    assert made
    assert not all(check.passed for check in made)
    written(report, tmp_path)
    found = selplug.read(tmp_path)
    assert found.result.probe is None
    assert found.attack_checks == [dataclasses.asdict(check) for check in made]
    assert found.corruptions == report.corruptions
    assert found.corruptions["accuracy"] == {"fog": {"3": report.result.conditions[2].accuracy}}


def test_what_was_read_is_shown_and_saved_like_the_first(tmp_path):
    report = full_report()
    written(report, tmp_path)
    found = selplug.read(tmp_path)
    assert found.summary() == report.summary()
    assert found._repr_html_() == report._repr_html_()
    without = dataclasses.replace(report, result=dataclasses.replace(report.result, examples=found.examples))
    assert render(found) == render(without)
    again = found.save(tmp_path / "again")
    for file in ("report.json", "units.npz"):
        assert (again / file).read_bytes() == (tmp_path / file).read_bytes()


def test_without_the_arrays(tmp_path):
    report = sample_report()
    path = write_json(report, tmp_path)
    found = selplug.read(path)
    assert found.to_dict() == report.to_dict()
    assert found.arrays() == {}
    render(found)


def test_undefined_numbers_stay_undefined(tmp_path):
    report = sample_report()
    layer = report.result.layers[0]
    conditions = {**layer.conditions, "clean": {**layer.conditions["clean"], "selectivity": {"mean": float("nan")}}}
    layers = (dataclasses.replace(layer, conditions=conditions), *report.result.layers[1:])
    report = dataclasses.replace(report, result=dataclasses.replace(report.result, layers=layers))
    write_json(report, tmp_path)
    found = selplug.read(tmp_path)
    assert_same(
        found, dataclasses.replace(report, result=dataclasses.replace(report.result, layers=found.result.layers))
    )
    assert found.result.layers[0].conditions["clean"]["selectivity"]["mean"] is None
    assert np.isnan(report.network_selectivity())
    assert np.isnan(found.network_selectivity())


#: As model, layer and perturbation names may come; "|" parts the names of an array.
texts = st.text(st.characters(codec="utf-8") | st.sampled_from("|:.@"), min_size=1, max_size=8)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    layers=st.integers(0, 3),
    units=st.integers(1, 5),
    classes=st.integers(2, 5),
    names=st.lists(texts, max_size=3, unique=True),
    layer_names=st.lists(texts, min_size=3, max_size=3, unique=True),
    sections=st.dictionaries(texts, st.dictionaries(texts, plain, max_size=3), max_size=3),
    facts=st.dictionaries(texts, plain, max_size=3),
    attacked=st.booleans(),
)
def test_random_reports_round_trip(tmp_path, layers, units, classes, names, layer_names, sections, facts, attacked):
    report = sample_report(layers, units, classes, ("clean", *(n for n in names if n != "clean")))
    changed = [
        dataclasses.replace(layer, name=name, conditions={**layer.conditions, "clean": sections}, rectified=False)
        for layer, name in zip(report.result.layers, layer_names, strict=False)
    ]
    result = dataclasses.replace(
        report.result,
        layers=tuple(changed),
        worst_case=report.result.worst_case if attacked else None,
        between_layers=sections,
        probe=AttackProbe(3, 0.0, False, False) if attacked else None,
    )
    report = dataclasses.replace(report, environment=facts, result=result)
    path = write_json(report, tmp_path)
    # Names with "|" can make two arrays one, in the file too.
    if len(report.arrays()) == sum(len(layer.arrays) for layer in changed) and not any(
        "\0" in k for k in report.arrays()
    ):
        write_npz(report, tmp_path)
        found = selplug.read(path)
        assert {key: array.tolist() for key, array in found.arrays().items()} == {
            key: array.tolist() for key, array in report.arrays().items()
        }
    else:
        (tmp_path / "units.npz").unlink(missing_ok=True)
        found = selplug.read(path)
    assert found.to_dict() == json.loads(path.read_text())


def test_older_reports_lack_entries(tmp_path):
    report = sample_report()
    data = report.to_dict()
    for key in ("attack_checks", "corruptions", "between_layers"):
        del data[key]
    for condition in data["conditions"]:
        del condition["targeted"]
    for key in ("norm", "eps", "steps"):
        del data["worst_case"][key]
    del data["subject"]["data"]["samples_per_class"]
    (tmp_path / "report.json").write_text(json.dumps(data))
    found = selplug.read(tmp_path)
    assert found.to_dict() == dataclasses.replace(report, subject=data["subject"]).to_dict()
    assert found.result.samples_digest is None
    assert found.result.samples_per_class == ()
    render(found)


def change(data: Any, path: list[Any], value: Any) -> None:
    for key in path[:-1]:
        data = data[key]
    data[path[-1]] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["schema_version"], "2.0", r"expected schema_version 1\.x, got '2\.0'; install a selplug"),
        (["schema_version"], 1.0, "expected an object with a text schema_version"),
        (["maps"], [], "a result of selplug similarity; give the report.json of an audit"),
        (["images"], [], "a result of selplug explain"),
        (["subject"], [], r"subject: expected an object, got \[\]"),
        (["subject", "data"], "cifar", r"subject\.data: expected an object, got 'cifar'"),
        (["subject", "data", "samples_per_class"], 5, r"subject\.data\.samples_per_class: expected a list, got 5"),
        (["settings"], None, "settings: expected an object, got None"),
        (["conditions"], {}, "conditions: expected a list, got {}"),
        (["conditions"], [], "conditions: expected at least one"),
        (["conditions", 1], "clean", r"conditions\[1\]: expected an object, got 'clean'"),
        (["conditions", 0, "accuracy"], "0.8", r"conditions\[0\]\.accuracy: expected a number, got '0\.8'"),
        (["conditions", 0, "accuracy"], True, r"conditions\[0\]\.accuracy: expected a number, got True"),
        (["conditions", 0, "accuracy_ci95"], [0.5], r"conditions\[0\]\.accuracy_ci95: expected a list of 2"),
        (["conditions", 0, "samples"], 1.5, r"conditions\[0\]\.samples: expected a whole number, got 1\.5"),
        (["worst_case", "conditions", 1], 3, r"worst_case\.conditions\[1\]: expected a text, got 3"),
        (["layers", 2, "units"], None, r"layers\[2\]\.units: expected a whole number, got None"),
        (
            ["layers", 0, "conditions", "clean", "mine"],
            3,
            r"layers\[0\]\.conditions\['clean'\]\['mine'\]: expected an obj",
        ),
        (["layers", 0, "arrays"], {"a": 1}, r"layers\[0\]\.arrays\['a'\]: expected ndarray, got 1"),
        (
            ["attack_checks"],
            [{"name": "a", "passed": 1, "detail": ""}],
            r"attack_checks\[0\]\.passed: expected true or",
        ),
        (["corruptions"], {"strengths": ""}, "corruptions has no 'accuracy'"),
        (["between_layers"], {"cka": []}, r"between_layers\['cka'\]: expected an object"),
    ],
)
def test_wrong_content_is_named_with_its_place(tmp_path, path, value, message):
    data = sample_report().to_dict()
    change(data, path, value)
    (tmp_path / "report.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=message) as caught:
        selplug.read(tmp_path)
    assert str(tmp_path / "report.json") in str(caught.value)


@pytest.mark.parametrize("key", ["schema_version", "subject", "settings", "environment", "conditions", "layers"])
def test_every_part_is_needed(tmp_path, key):
    data = sample_report().to_dict()
    del data[key]
    (tmp_path / "report.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=key):
        selplug.read(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "hello", '{"schema_version": "1.0"', "[" * 100_000, "\udc80".encode("utf-8", "surrogatepass")]
)
def test_what_is_no_json_or_only_half_of_it(tmp_path, text):
    (tmp_path / "report.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match="is no JSON, or only a part of it"):
        selplug.read(tmp_path)


@pytest.mark.parametrize("text", ["[]", "1", "null", '{"a": 1}'])
def test_json_of_something_else(tmp_path, text):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(InputError, match="expected an object with a text schema_version"):
        selplug.read(tmp_path)


def test_no_such_file(tmp_path):
    for path in (tmp_path, tmp_path / "report.json", tmp_path / "none"):
        with pytest.raises(InputError, match=r"expected a report\.json or the folder of one, got .*No such file"):
            selplug.read(path)


def test_arrays_of_another_report(tmp_path):
    write_npz(sample_report(units=16), tmp_path)
    write_json(sample_report(), tmp_path)
    with pytest.raises(InputError, match=r"units\.npz does not belong .* expected 32 units .* got the shape \(16,\)"):
        selplug.read(tmp_path)
    write_npz(sample_report(layers=6), tmp_path)
    with pytest.raises(InputError, match=r"no layer and condition of the report belongs to 'layer5\.act\|clean"):
        selplug.read(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "one array", "objects", "a changed byte"])
def test_damaged_arrays(tmp_path, damage):
    write_json(sample_report(), tmp_path)
    path = write_npz(sample_report(), tmp_path)
    content = path.read_bytes()
    if damage == "one array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif damage == "objects":
        np.savez(path, a=np.array([{}], dtype=object))
    else:
        middle = 300  # of the first array
        flipped = content[:middle] + bytes([content[middle] ^ 0xFF]) * 8 + content[middle + 8 :]
        cut = {"empty": b"", "text": b"hello", "truncated": content[: len(content) // 2], "a changed byte": flipped}
        path.write_bytes(cut[damage])
    with pytest.raises(InputError, match=r"units\.npz is damaged or no file of numpy arrays"):
        selplug.read(tmp_path)


def test_without_arrays_the_rest_is_the_same(tmp_path):
    path = written(full_report(), tmp_path)
    found = selplug.read(path, arrays=False)
    assert found.to_dict() == selplug.read(path).to_dict()
    assert found.arrays() == {}
    assert len(selplug.read(path).arrays()) > 0
