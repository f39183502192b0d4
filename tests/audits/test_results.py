"""One number of a result can be asked for, and what is no number is None."""

from __future__ import annotations

import numpy as np
import pytest
from sample_report import NAMES, sample_report

from selplug.audits.engine.results import AuditResult, Condition, LayerResult, clean_of
from selplug.core.errors import InputError

CLEAN = Condition("clean", "clean", 0.9, (0.8, 1.0), 10, 0.0, 0.0, kind="clean")
DARK = Condition("dark", "dark", 0.5, (0.4, 0.6), 10, 1.0, 0.5, kind="corruption", options={"factor": 0.5})
VALUES = {
    "mean": 0.25,
    "units": 3,
    "zero": 0.0,
    "scalar": np.float64(0.5),
    "undefined": None,
    "nan": float("nan"),
    "infinite": float("inf"),
    "flag": True,
    "text": "0.5",
    "several": [1.0, 2.0],
}
LAYER = LayerResult("act", "ReLU", 3, 0, {"clean": {"mine": VALUES}, "dark": {}}, {"dark": {"mine": {"mean": -1.0}}})


@pytest.mark.parametrize("condition", ["clean", CLEAN])
@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("mean", 0.25),
        ("units", 3),
        ("zero", 0.0),
        ("scalar", 0.5),
        *((key, None) for key in ("undefined", "nan", "infinite", "flag", "text", "several", "not there")),
    ],
)
def test_a_value_is_a_finite_number_or_none(condition, key, expected):
    found = LAYER.value(condition, "mine", key)
    assert found == expected
    assert type(found) in (float, int, type(None))
    assert isinstance(found, int) == (key == "units")
    assert LAYER.has(condition, "mine", key) == (key != "not there")


def test_what_was_not_measured_is_none():
    assert LAYER.value("clean", "other", "mean") is None
    assert LAYER.value(DARK, "mine", "mean") is None
    assert LAYER.value("no such condition", "mine", "mean") is None
    assert LAYER.sections("no such condition") == {}
    assert not LAYER.has(DARK, "mine", "mean")


@pytest.mark.parametrize("condition", ["dark", DARK])
def test_values_of_the_difference(condition):
    assert LAYER.value(condition, "mine", "mean", difference=True) == -1.0
    assert LAYER.has(condition, "mine", "mean", difference=True)
    assert LAYER.sections(condition, difference=True) == {"mine": {"mean": -1.0}}
    assert LAYER.value(CLEAN, "mine", "mean", difference=True) is None


def test_the_clean_condition_is_the_one_whose_kind_says_so():
    assert clean_of([DARK, CLEAN]) is CLEAN
    assert AuditResult((CLEAN, DARK), None, (), ()).clean is CLEAN
    assert sample_report().clean.name == NAMES[0]
    with pytest.raises(InputError, match="expected a condition of the kind 'clean' among the conditions, got dark"):
        clean_of([DARK])
    with pytest.raises(InputError, match="got none at all"):
        AuditResult((), None, (), ()).clean  # noqa: B018


def test_a_condition_has_to_say_its_kind():
    with pytest.raises(TypeError, match="kind"):
        Condition("dark", "dark", 0.5, (0.4, 0.6), 10, 1.0, 0.5)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"block_structure": {"blocks": [[0, 2]], "score": 0.1}}, [[0, 2]]),
        ({"block_structure": {"score": 0.1}}, ()),
        ({"block_structure": None}, ()),
        ({}, ()),
    ],
)
def test_blocks(values, expected):
    result = AuditResult((CLEAN,), None, (), (), between_layers={"cka": values})
    assert result.blocks("cka") == expected
    assert result.blocks("other") == ()
