"""The files for machines hold exactly the report, and report.json keeps to its schema."""

from __future__ import annotations

import copy
import dataclasses
import json
from importlib.resources import files

import jsonschema
import numpy as np
import pytest
from sample_report import sample_report

from selplug.audits.files import write_json, write_npz
from selplug.audits.record import SCHEMA_VERSION
from selplug.core.errors import ReportError

SCHEMA = json.loads(files("selplug.audits").joinpath("report.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_schema_is_valid_and_of_this_version():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["schema_version"]["const"] == SCHEMA_VERSION


def test_json_round_trip(tmp_path):
    report = sample_report()
    path = write_json(report, tmp_path)
    text = path.read_text()
    assert path.name == "report.json"
    assert text.endswith("}\n")
    assert json.loads(text) == report.to_dict()
    VALIDATOR.validate(json.loads(text))


def test_variants_keep_to_the_schema():
    clean = sample_report(names=("clean",))
    VALIDATOR.validate(clean.to_dict())
    result = dataclasses.replace(clean.result, worst_case=None)
    layer = dataclasses.replace(result.layers[0], conditions={"clean": {"mine": {"x": 1}}}, dead_units=None)
    VALIDATOR.validate(dataclasses.replace(clean, result=dataclasses.replace(result, layers=(layer,))).to_dict())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["schema_version"], "2.0"),
        (["extra"], 1),
        (["conditions", 0, "accuracy"], 80.0),
        (["conditions", 0, "accuracy_ci95"], [0.5]),
        (["conditions", 0, "samples"], 1.5),
        (["worst_case"], {}),
        (["layers", 0, "units"], "32"),
        (["layers", 0, "unknown"], 1),
        (["layers", 0, "conditions", "clean", "selectivity"], {}),
        (["layers", 0, "conditions", "clean", "spectrum", "exponent"], "steep"),
        (["layers", 0, "conditions", "clean", "mine"], 3),
        (["layers", 0, "differences", "fgsm:eps=8/255", "dimensionality", "rank_limited"], None),
    ],
)
def test_broken_reports_fail(path, value):
    data = copy.deepcopy(sample_report().to_dict())
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert not VALIDATOR.is_valid(data)


@pytest.mark.parametrize("key", SCHEMA["required"])
def test_every_part_is_required(key):
    data = sample_report().to_dict()
    del data[key]
    assert not VALIDATOR.is_valid(data)


def test_undefined_numbers_and_odd_text(tmp_path):
    report = dataclasses.replace(sample_report(), subject={"model": "é\udc80\n", "loss": float("nan")})
    data = json.loads(write_json(report, tmp_path).read_bytes())
    assert data["subject"] == {"model": "é\udc80\n", "loss": None}


def test_what_json_cannot_hold_is_named(tmp_path):
    report = dataclasses.replace(sample_report(), subject={"model": object()})
    with pytest.raises(ReportError, match=r"report\.json: expected numbers.*look at what the subject"):
        write_json(report, tmp_path)


def test_npz_round_trip(tmp_path):
    report = sample_report()
    path = write_npz(report, tmp_path)
    assert path.name == "units.npz"
    with np.load(path, allow_pickle=False) as loaded:
        assert set(loaded.files) == set(report.arrays())
        for name, array in report.arrays().items():
            np.testing.assert_array_equal(loaded[name], array)


def test_npz_refuses_objects(tmp_path):
    report = sample_report(layers=1)
    layer = dataclasses.replace(report.result.layers[0], arrays={("clean", "x"): np.array([None])})
    report = dataclasses.replace(report, result=dataclasses.replace(report.result, layers=(layer,)))
    with pytest.raises(ReportError, match=r"units\.npz: expected an array of numbers under 'layer0"):
        write_npz(report, tmp_path)
