"""The one way to write each kind of file, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from selplug.core.errors import ReportError
from selplug.report.jsonable import jsonable
from selplug.report.writing import json_text, write_arrays, write_csv


def test_undefined_numbers_are_null_and_text_is_ascii():
    text = json_text(jsonable({"a": [float("nan"), np.float64("inf"), np.int64(3)], "é\udc80": True}), "x.json")
    assert text == '{\n "a": [\n  null,\n  null,\n  3\n ],\n "\\u00e9\\udc80": true\n}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": {"b": [1, object()]}}, r"got object at a\.b\[1\]; look at"),
        ({"a": {1, 2}}, "got set at a;"),
        ({"a": [float("nan")]}, r"got nan at a\[0\];"),
        ({"a": {("x", "y"): 1}}, r"got the key \('x', 'y'\) of type tuple in a;"),
        (b"bytes", "got bytes at the top"),
    ],
)
def test_what_json_cannot_hold_is_named_with_its_place(content, message):
    with pytest.raises(ReportError, match=r"x\.json: expected numbers, strings, lists and mappings only, " + message):
        json_text(content, "x.json")


def test_what_holds_itself_is_told():
    content: dict = {}
    content["a"] = content
    with pytest.raises(ReportError, match=r"a nesting that does not end, at a\.a\.a"):
        json_text(content, "x.json")


def test_arrays_without_objects(tmp_path):
    arrays = {"a|b": np.arange(3.0), "c": np.zeros((2, 0), np.float32)}
    path = write_arrays(arrays, tmp_path / "x.npz")
    with np.load(path, allow_pickle=False) as loaded:
        for name, array in arrays.items():
            assert loaded[name].dtype == array.dtype
            np.testing.assert_array_equal(loaded[name], array)
    with pytest.raises(ReportError, match=r"y\.npz: expected an array of numbers under 'a', got Python objects"):
        write_arrays({"a": np.array([None])}, tmp_path / "y.npz")
    assert not (tmp_path / "y.npz").exists()


def test_rows_with_different_columns(tmp_path):
    rows = [{"a": 1, "b": "=cmd()"}, {"a": float("nan"), "c": "x,\x1b"}]
    assert (
        write_csv(rows, tmp_path / "x.csv").read_text(encoding="utf-8")
        == 'a,b,c\n1,\'=cmd(),\n,,"x,\N{REPLACEMENT CHARACTER}"\n'
    )
