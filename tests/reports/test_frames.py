"""Data frames hold the numbers of report.json and units.npz, and nothing else."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from sample_report import NAMES, sample_report

from selplug.audits.engine.results import TargetSuccess
from selplug.audits.report import Report
from selplug.core.errors import InputError, PluginError
from selplug.report.frames import table_frame

pd = pytest.importorskip("pandas")
REPORT = sample_report()


def with_result(report: Report, **changes: object) -> Report:
    return dataclasses.replace(report, result=dataclasses.replace(report.result, **changes))


def test_conditions_are_those_of_the_file():
    frame = REPORT.conditions_frame()
    assert frame["condition"].tolist() == list(NAMES)
    for row, entry in zip(frame.to_dict("records"), REPORT.to_dict()["conditions"], strict=True):
        assert [row["accuracy_low"], row["accuracy_high"]] == entry["accuracy_ci95"]
        for key in ("spec", "accuracy", "samples", "l2_mean", "linf_max"):
            assert row[key] == entry[key]
    assert frame["kind"].tolist() == ["clean", "attack", "noise"]
    np.testing.assert_array_equal(frame["options.eps"], [np.nan, 8 / 255, np.nan])
    np.testing.assert_array_equal(frame["options.std"], [np.nan, np.nan, 0.1])
    assert frame.dtypes["accuracy"] == np.float64
    assert frame.dtypes["samples"] == np.int64
    assert not any(column.startswith("targeted") for column in frame)


def test_targets_threats_and_images_without_clean_ones():
    clean, attack, _ = REPORT.result.conditions
    attack = dataclasses.replace(
        attack,
        targeted=TargetSuccess(0.5, (0.4, 0.6), 90),
        options={"target": 3},
        threat={"norm": "Linf", "eps": 0.1},
    )
    shift = dataclasses.replace(
        clean, name="shift:x", l2_mean=None, linf_max=None, kind="shift", options={"mean": [1, 2]}
    )
    frame = with_result(REPORT, conditions=(clean, attack, shift)).conditions_frame()
    assert frame.loc[1, ["targeted.success", "targeted.success_low", "targeted.samples"]].tolist() == [0.5, 0.4, 90]
    assert frame.loc[1, ["threat.norm", "threat.eps", "options.target"]].tolist() == ["Linf", 0.1, 3]
    assert np.isnan(frame.loc[2, "l2_mean"])
    assert frame.loc[2, "options.mean"] == [1, 2]
    assert frame["threat.norm"].isna().tolist() == [True, False, True]


def test_every_number_of_every_layer_is_in_the_frame_once():
    frame = REPORT.layers_frame()
    expected = 0
    for depth, layer in enumerate(REPORT.to_dict()["layers"], 1):
        for difference, table in ((False, layer["conditions"]), (True, layer["differences"])):
            for condition, sections in table.items():
                expected += 1
                here = (frame["layer"] == layer["name"]) & (frame["condition"] == condition)
                (row,) = frame[here & (frame["difference"] == difference)].to_dict("records")
                assert (row["depth"], row["layer_kind"], row["units"]) == (depth, "ReLU", 32)
                values = {f"{s}.{key}": value for s, section in sections.items() for key, value in section.items()}
                for column in frame.columns[6:]:
                    np.testing.assert_equal(row[column], np.nan if values.get(column) is None else values[column])
                assert set(values) <= set(frame.columns)
    assert len(frame) == expected
    assert frame.dtypes["difference"].kind == "b"
    assert frame.dtypes["dimensionality.rank_limited"].kind == "b"
    assert frame.dtypes["dimensionality.components_90"] == np.int64
    assert frame.dtypes["dimensionality.participation_ratio_corrected"] == np.float64


def test_undefined_and_absent_values_are_nan_whatever_their_kind():
    first, second, *_ = REPORT.result.layers
    flags = {"mine": {"flag": True, "name": "x", "none": None, "nested": {"deep": np.float32(0.5)}}}
    report = with_result(REPORT, layers=(dataclasses.replace(first, conditions={"clean": flags}), second))
    frame = report.layers_frame()
    assert frame.dtypes["mine.flag"] == "boolean"
    assert frame["mine.flag"].isna().sum() == len(frame) - 1
    assert frame.dtypes["mine.none"] == np.float64
    assert frame.loc[0, "mine.nested.deep"] == 0.5
    assert frame.loc[0, "mine.name"] == "x"


def test_without_layers_there_are_columns_still():
    frame = with_result(REPORT, layers=()).layers_frame()
    assert list(frame.columns) == ["layer", "depth", "layer_kind", "units", "condition", "difference"]
    assert frame.empty


def test_units_are_the_arrays():
    frame = REPORT.units_frame()
    arrays = REPORT.arrays()
    assert len(frame) == 5 * 3 * 32
    for (layer, condition), rows in frame.groupby(["layer", "condition"]):
        assert rows["unit"].tolist() == list(range(32))
        np.testing.assert_array_equal(rows["selectivity"], arrays[f"{layer}|{condition}|selectivity"])
    assert frame.dtypes["selectivity"] == np.float64
    assert frame.dtypes["unit"] == np.int64
    assert not frame["difference"].any()
    one = REPORT.units_frame("layer3.act")
    pd.testing.assert_frame_equal(one, frame[frame["layer"] == "layer3.act"].reset_index(drop=True))
    assert one["depth"].unique().tolist() == [4]


def test_units_where_not_every_value_was_measured():
    first, second, *_ = REPORT.result.layers
    added = {("clean", "gradient"): np.arange(32.0), ("difference:x|y", "selectivity"): np.ones(32)}
    changed = dataclasses.replace(first, arrays={**first.arrays, **added, ("clean", "odd"): np.ones((2, 2))})
    frame = with_result(REPORT, layers=(changed, second)).units_frame()
    clean = frame[(frame["layer"] == first.name) & (frame["condition"] == "clean")]
    assert clean["gradient"].tolist() == list(range(32))
    assert frame["gradient"].isna().sum() == len(frame) - 32
    assert frame[frame["difference"]]["condition"].unique().tolist() == ["x|y"]
    assert "odd" not in frame


def test_eigenvalues_are_ranked_from_the_largest():
    frame = REPORT.eigenvalues_frame("layer0.act")
    arrays = REPORT.arrays()
    assert len(frame) == (3 + 2) * 32
    for (condition, difference), rows in frame.groupby(["condition", "difference"]):
        assert rows["rank"].tolist() == list(range(1, 33))
        stored = arrays[f"layer0.act|{'difference:' if difference else ''}{condition}|eigenvalues"]
        assert rows["eigenvalue"].tolist() == sorted(stored, reverse=True)


def test_maps_are_labelled():
    names = [layer.name for layer in REPORT.result.layers]
    values = np.arange(25.0).reshape(5, 5).tolist()
    values[1][2] = None
    maps = {"cka": {"block_structure": {"score": 1, "blocks": [[0, 1]]}, "debiased": values}}
    frame = with_result(REPORT, between_layers=maps).map_frame()
    assert list(frame.columns) == list(frame.index) == names
    assert frame.loc["layer2.act", "layer1.act"] == 11
    assert np.isnan(frame.loc["layer1.act", "layer2.act"])
    with pytest.raises(InputError, match="no map between layers by 'cca': this report has those of cka"):
        with_result(REPORT, between_layers=maps).map_frame("cca")
    with pytest.raises(InputError, match="has none; audit with the measure cka"):
        REPORT.map_frame()


def test_what_is_not_held_is_said():
    bare = with_result(REPORT, layers=tuple(dataclasses.replace(x, arrays={}) for x in REPORT.result.layers))
    with pytest.raises(InputError, match=r"no values of units; audit .* keep units\.npz"):
        bare.units_frame()
    with pytest.raises(InputError, match="no eigenvalues; audit with the measure dimensionality"):
        bare.eigenvalues_frame()
    with pytest.raises(InputError, match=r"name of a layer of this report \(layer0\.act, .* got 'layer9'"):
        REPORT.units_frame("layer9")


def test_columns_of_odd_values():
    frame = table_frame([{"a": 2**70, "b": None, "c": np.int64(3)}, {"a": 1, "b": True, "d": "x"}])
    assert frame["a"].tolist() == [2**70, 1]
    assert frame.dtypes["b"] == "boolean"
    assert frame.dtypes["c"] == np.float64
    assert frame["d"].isna().tolist() == [True, False]


def test_without_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(PluginError, match=r'need pandas, which is not installed: pip install "selplug\[notebook\]"'):
        REPORT.conditions_frame()


def test_pandas_is_imported_by_frames_alone():
    code = "import sys, selplug.audits.frames, selplug.audits.figures.notebook; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603
