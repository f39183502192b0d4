"""``selplug.read`` gives back every kind of result as it was saved, and refuses what is none with its reason."""

from __future__ import annotations

import copy
import dataclasses
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sample_comparison import family, trained_report
from sample_report import sample_report
from sample_results import sample_explanation, sample_similarity

import selplug
from selplug.audits import reading as audits
from selplug.comparisons.build import curves_of
from selplug.core.errors import InputError
from selplug.report.result import Result

KINDS = {
    "report": selplug.Report,
    "comparison": selplug.Comparison,
    "similarity": selplug.SimilarityReport,
    "explanation": selplug.Explanation,
}


@pytest.fixture(scope="module")
def comparison() -> selplug.Comparison:
    robust, *others = family().items()
    odd = {"odd": trained_report(digest="e" * 64)}
    return selplug.compare(dict([*others, robust]) | odd, leave_out=True, resamples=200, robust=["adv*"])


@pytest.fixture(scope="module")
def results(comparison) -> dict[str, Result]:
    return {
        "report": sample_report(),
        "comparison": comparison,
        "similarity": sample_similarity(),
        "explanation": sample_explanation(),
    }


@pytest.fixture(scope="module")
def saved(results, tmp_path_factory) -> dict[str, Path]:
    """A folder per kind."""
    root = tmp_path_factory.mktemp("saved")
    return {name: result.save(root / name) for name, result in results.items()}


@pytest.mark.parametrize("name", KINDS)
def test_the_same_class_with_the_same_content(results, saved, name):
    file = saved[name] / KINDS[name].JSON
    for path in (saved[name], str(file)):
        found = selplug.read(path)
        assert type(found) is KINDS[name]
        assert found.to_dict() == json.loads(file.read_text())
        assert repr(found) == repr(results[name])
        assert found.summary() == results[name].summary()
        assert found._repr_html_() == results[name]._repr_html_()


@pytest.mark.parametrize("name", KINDS)
def test_what_was_read_can_be_saved_again(saved, name, tmp_path):
    found = selplug.read(saved[name])
    found.save(tmp_path)
    names = {path.relative_to(saved[name]) for path in saved[name].rglob("*") if path.is_file()}
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()} == names
    # The page of an audit shows its example images, which its files do not hold.
    for path in sorted(names - {Path("report.html")}):
        assert (tmp_path / path).read_bytes() == (saved[name] / path).read_bytes(), path


@pytest.mark.parametrize("name", ["report", "similarity", "explanation"])
def test_arrays_come_back(results, saved, name):
    found, expected = selplug.read(saved[name]).arrays(), results[name].arrays()
    assert list(found) == list(expected)
    for key, array in expected.items():
        assert found[key].dtype == array.dtype
        np.testing.assert_array_equal(found[key], array)


@pytest.mark.parametrize("name", ["comparison", "similarity", "explanation"])
def test_frames_are_the_same(results, saved, name):
    pandas = pytest.importorskip("pandas")
    pandas.testing.assert_frame_equal(selplug.read(saved[name]).frame(), results[name].frame())


def test_figures_of_a_comparison_are_the_same(comparison, saved):
    plots = [each.plot for each in (selplug.read(saved["comparison"]), comparison)]
    for name, arguments in (
        ("linking", ("selectivity", "fgsm:eps=1/255")),
        ("depth", ("gain_difference",)),
        ("sweep", ()),
        ("map", ("adv-s1",)),
    ):
        first, second = (getattr(each, name)(*arguments).to_plotly_json() for each in plots)
        assert json.dumps(first, default=list) == json.dumps(second, default=list)


def test_figures_of_a_similarity_are_the_same(results, saved):
    found = selplug.read(saved["similarity"])
    for key in found.result.maps:
        first, second = (each.plot.map(*key).to_json() for each in (found, results["similarity"]))
        assert first == second


def test_the_kind_is_that_of_the_content_not_of_the_name(saved, tmp_path):
    for name, kind in KINDS.items():
        if name == "explanation":
            continue  # has its arrays beside it
        (tmp_path / "any.json").write_bytes((saved[name] / kind.JSON).read_bytes())
        assert type(selplug.read(tmp_path / "any.json")) is kind


def test_of_several_in_a_folder_the_first_or_the_one_asked_for(results, tmp_path):
    for found in reversed(results.values()):
        found.save(tmp_path)
    for kind in KINDS.values():
        assert type(selplug.read(tmp_path, kind)) is kind
    for kind in KINDS.values():
        assert type(selplug.read(tmp_path)) is kind
        (tmp_path / kind.JSON).unlink()
    with pytest.raises(InputError, match=r"expected a report\.json, comparison\.json, similarity\.json or explain\.js"):
        selplug.read(tmp_path)


def test_another_kind_than_asked_for(saved):
    file = saved["similarity"] / "similarity.json"
    with pytest.raises(InputError, match=r"result of selplug similarity; give the report\.json of selplug audit"):
        selplug.read(file, selplug.Report)
    with pytest.raises(InputError, match=r"expected a report\.json or the folder of one, got .*No such file"):
        selplug.read(saved["similarity"], selplug.Report)
    with pytest.raises(InputError, match=r"expected a kind of result such as selplug\.Report, got <class 'dict'>"):
        selplug.read(file, dict)


@pytest.mark.parametrize("name", ["comparison", "similarity", "explanation"])
def test_only_audits_are_compared(saved, name):
    file = saved[name] / KINDS[name].JSON
    with pytest.raises(InputError, match=r"is a result of selplug \w+; give the report\.json of selplug audit"):
        audits.read(file)
    with pytest.raises(InputError, match=r"is a result of selplug \w+; give the report\.json of selplug audit"):
        selplug.compare([file, sample_report()])


def test_a_comparison_of_the_first_weeks_lacks_curves(comparison, tmp_path):
    data = comparison.to_dict()
    for group in data["groups"]:
        del group["curves"], group["values"]["cv_units"]
    for network in data["networks"]:
        del network["values"]["cv_units"], network["curves"]["exponent"]
    (tmp_path / "comparison.json").write_text(json.dumps(data))
    found = selplug.read(tmp_path)
    for group, old in zip(found.groups, comparison.groups, strict=True):
        assert group.values["cv_units"].value is None
        expected = curves_of(old.networks)
        assert expected is not None
        np.testing.assert_array_equal(group.curves["selectivity"], expected["selectivity"])
    found.save(tmp_path)


def test_networks_with_other_layers(tmp_path):
    given = [trained_report(), trained_report(layers=11, seed=1)]
    made = selplug.compare({"one": given}, resamples=100)
    assert made.groups[0].curves is None
    found = selplug.read(made.save(tmp_path))
    assert found.groups[0].curves is None
    assert found.to_dict() == made.to_dict()


def test_an_explanation_without_probabilities(tmp_path):
    explanation = sample_explanation()
    explanation.save(tmp_path)
    arrays = {name: array for name, array in explanation.arrays().items() if "|probabilities|" not in name}
    np.savez_compressed(tmp_path / "explain.npz", **arrays)
    found = selplug.read(tmp_path)
    assert found.to_dict() == explanation.to_dict()
    for image, expected in zip(found.images, explanation.images, strict=True):
        for condition, values in expected.probabilities.items():
            known = np.argsort(-values)[:5]
            np.testing.assert_array_equal(image.probabilities[condition][known], values[known])
            assert np.isnan(image.probabilities[condition]).sum() == 3
            assert image.predicted(condition) == expected.predicted(condition)
    assert found.summary() == explanation.summary()


def test_sums_are_those_of_the_file(tmp_path):
    """Another machine may add up a map in another order."""
    explanation = sample_explanation()
    data = json.loads((explanation.save(tmp_path) / "explain.json").read_text())
    data["images"][0]["maps"][0]["clean"]["sum"] += 1e-13
    (tmp_path / "explain.json").write_text(json.dumps(data))
    assert selplug.read(tmp_path).to_dict() == data


def change(data: Any, path: list[Any], value: Any) -> None:
    for key in path[:-1]:
        data = data[key]
    data[path[-1]] = value


@pytest.mark.parametrize(
    ("name", "path", "value", "message"),
    [
        ("comparison", ["schema_version"], "2.0", r"expected schema_version 1\.x, got '2\.0'"),
        ("comparison", ["networks"], [], "networks: expected at least one"),
        ("comparison", ["networks", 1, "name"], "adv-s0", "networks: expected at least one, each with a name of its"),
        ("comparison", ["networks", 0, "layers"], ["x"], r"networks\[0\]\.curves\['selectivity'\]: expected 1 numbers"),
        ("comparison", ["networks", 0, "similarity"], [[1.0]], r"networks\[0\]\.similarity: expected 6 rows"),
        ("comparison", ["networks", 0, "blocks"], [[0, 9]], r"networks\[0\]\.blocks: expected pairs"),
        ("comparison", ["networks", 0, "accuracies"], {}, r"networks\[0\]\.accuracies: expected one for each of cond"),
        ("comparison", ["networks", 0, "robust"], "yes", r"networks\[0\]\.robust: expected true or false, got 'yes'"),
        ("comparison", ["groups", 0, "networks"], ["x"], r"groups\[0\]\.networks: expected names of networks"),
        ("comparison", ["groups", 0, "curves", "exponent", "low"], [1.0], r"groups\[0\]\.curves\['exponent'\]: exp"),
        ("comparison", ["groups", 0, "values", "alpha", "n"], None, r"groups\[0\]\.values\['alpha'\]\.n: expected a"),
        ("comparison", ["networks", 0, "train_gap"], [0.1], r"networks\[0\]\.train_gap: expected 6 numbers"),
        ("comparison", ["networks", 0, "matched"], {"x": "y"}, r"networks\[0\]\.matched\['x'\]: expected a number"),
        ("comparison", ["claims", 0, "supported_if"], 3, r"claims\[0\]\.supported_if: expected a text, got 3"),
        ("comparison", ["claims", 0, "verdict"], "maybe", r"claims\[0\]\.verdict: expected one of supported, contra"),
        ("comparison", ["claims", 0, "parts"], [], r"claims\[0\]\.parts: expected at least one"),
        ("comparison", ["claims", 0, "p"], "small", r"claims\[0\]\.p: expected a number, got 'small'"),
        ("comparison", ["protocol"], {"file": None}, "protocol has no 'sha256'"),
        ("comparison", ["train_set"], [{}], r"train_set\[0\] has no 'name'"),
        ("comparison", ["settings"], {}, "settings has no 'seed'"),
        ("comparison", ["left_out", 0, "reasons"], "x", r"left_out\[0\]\.reasons: expected a list, got 'x'"),
        ("similarity", ["schema_version"], "2.0", r"expected schema_version 1\.x, got '2\.0'"),
        ("similarity", ["maps", 0, "values"], [[1.0]], r"maps\[0\]\.values: expected 5 rows of 3 numbers"),
        ("similarity", ["maps", 0, "values", 1, 1], "x", r"maps\[0\]\.values\[1\]\[1\]: expected a number, got 'x'"),
        ("similarity", ["maps", 0, "rows"], "c", r"maps\[0\]: expected rows and columns of a or b, got 'c'"),
        ("similarity", ["maps", 0, "columns"], "a", r"maps\[0\]\.values: expected 5 rows of 5"),
        ("similarity", ["maps", 0, "measure"], "x", "maps: expected one of 'cka' with rows a and columns b"),
        ("similarity", ["layers", "a", 0, "units"], None, r"layers\['a'\]\[0\]\.units: expected a whole number"),
        ("similarity", ["subjects"], {"a": {}}, "subjects has no 'b'"),
        ("similarity", ["settings"], {}, "settings has no 'estimator'"),
        ("similarity", ["block_structure", "a", "blocks"], [[1]], r"block_structure\['a'\]\.blocks\[0\]: expected a l"),
        ("explanation", ["images"], [], "images: expected at least one"),
        ("explanation", ["images", 0, "maps"], [], "images: expected at least one, with at least one map each"),
        ("explanation", ["images", 0, "maps", 0, "size"], [8], r"images\[0\]\.maps\[0\]\.size: expected a list of 2"),
        ("explanation", ["images", 0, "target"], "cat", r"images\[0\]\.target: expected a whole number, got 'cat'"),
        ("explanation", ["settings"], {}, "settings has no 'perturbation'"),
        ("explanation", ["images", 0, "predictions"], {"clean": []}, r"images\[0\]\.predictions has no 'adversarial'"),
        ("explanation", ["images", 0, "maps", 0, "size"], [4, 4], r"explain\.npz does not belong .* \(4, 4\), under"),
        ("explanation", ["images", 0, "maps", 0, "method"], "x", r"under '1\|x\|input\|clean', got nothing"),
    ],
)
def test_wrong_content_is_named_with_its_place(saved, tmp_path, name, path, value, message):
    file = saved[name] / KINDS[name].JSON
    data = json.loads(file.read_text())
    change(data, path, value)
    (tmp_path / file.name).write_text(json.dumps(data))
    if name == "explanation":
        (tmp_path / "explain.npz").write_bytes((saved[name] / "explain.npz").read_bytes())
    with pytest.raises(InputError, match=message) as caught:
        selplug.read(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["comparison", "similarity", "explanation"])
def test_every_part_is_needed(saved, tmp_path, name):
    file = saved[name] / KINDS[name].JSON
    whole = json.loads(file.read_text())
    own = {"comparison": "claims", "similarity": "maps", "explanation": "images"}[name]
    for key in whole.keys() - {own, "block_structure"}:
        data = copy.copy(whole)
        del data[key]
        (tmp_path / "x.json").write_text(json.dumps(data))
        with pytest.raises(InputError, match=key):
            selplug.read(tmp_path / "x.json")


def test_an_explanation_needs_its_arrays(saved, tmp_path):
    (tmp_path / "explain.json").write_bytes((saved["explanation"] / "explain.json").read_bytes())
    with pytest.raises(InputError, match=r"explain\.npz does not belong .*expected numbers, 3 axes, under '1\|clean'"):
        selplug.read(tmp_path)
    (tmp_path / "explain.npz").write_bytes(b"hello")
    with pytest.raises(InputError, match=r"explain\.npz is damaged .*keep the files of one explanation together"):
        selplug.read(tmp_path)


def test_a_class_that_the_model_does_not_have(saved, tmp_path):
    data = json.loads((saved["explanation"] / "explain.json").read_text())
    data["images"][0]["predictions"]["clean"][0]["class"] = 10**9
    (tmp_path / "explain.json").write_text(json.dumps(data))
    arrays = {name: array for name, array in sample_explanation().arrays().items() if "|probabilities|" not in name}
    np.savez(tmp_path / "explain.npz", **arrays)
    with pytest.raises(InputError, match=r"predictions\.clean: expected a class from 0 to 7 .*, got 1000000000"):
        selplug.read(tmp_path)


def test_claims_of_other_rules_are_to_be_compared_again(saved, tmp_path):
    data = json.loads((saved["comparison"] / "comparison.json").read_text())
    del data["protocol"], data["train_set"]
    for claim in data["claims"]:
        for key in ("caveat", "p", "p_adjusted", "tests", "smallest_effect", "in_protocol", "parts", "configurations"):
            del claim[key]
        claim |= {"beside": None, "dropped": 0, "verdict": "not supported"}
    for network in data["networks"]:
        del network["matched"], network["train_gap"]
    (tmp_path / "comparison.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match="an older selplug, which had other verdicts; run selplug compare again"):
        selplug.read(tmp_path)


def test_a_comparison_with_protocol_and_training_images(tmp_path):
    attacked = {"seed": 0, "adversarial": "pgd"}
    made = selplug.compare(
        [trained_report(**attacked), trained_report(seed=1)],
        train_set=trained_report(**attacked, digest="t" * 64, closeness=0.9),
        protocol={"claims": ["robust-blocks"], "conditions": ["fgsm*", "fog@9"], "note": "beforehand"},
    )
    made.save(tmp_path)
    found = selplug.read(tmp_path)
    assert found.to_dict() == made.to_dict()
    assert found.protocol["missing"] == ["condition fog@9"]
    assert found.networks[0].measured.train_gap == pytest.approx([0.1] * 6)
    assert found.summary() == made.summary()
    assert [one.in_protocol for one in found.claims].count(True) == 1


def test_undefined_numbers_stay_undefined(saved):
    found = selplug.read(saved["similarity"])
    assert np.isnan(found.result.maps["cka", "a", "b"][2]).all()
    assert np.isnan(found.result.blocks["b"].score)
    assert found.result.blocks["a"].blocks == ((1, 3),)


def test_a_part_of_an_explanation_names_its_own_files(saved, tmp_path):
    found = selplug.read(saved["explanation"])
    part = dataclasses.replace(found, images=found.images[1:])
    part.save(tmp_path)
    (entry,) = json.loads((tmp_path / "explain.json").read_text())["images"]
    assert entry["file"] == "cat/2.png"
    assert all((tmp_path / one["png"]).is_file() for one in entry["maps"])
    assert selplug.read(tmp_path).to_dict() == part.to_dict()


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


@pytest.mark.parametrize("name", KINDS)
def test_damage_anywhere_is_told_or_shown(saved, tmp_path, name):
    """One value of another type, at any kind of place: an InputError, or a result that can be shown."""
    for file in saved[name].glob("*.*"):
        shutil.copy(file, tmp_path)
    path = tmp_path / KINDS[name].JSON
    whole = json.loads(path.read_text())
    alike: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for place in places(whole):
        alike.setdefault(tuple(part if isinstance(part, str) else "#" for part in place), []).append(place)
    draw = random.Random(0)
    told = shown = 0
    for _ in range(80):
        place = draw.choice(alike[draw.choice(list(alike))])
        data = copy.deepcopy(whole)
        change(data, list(place), draw.choice([None, "", "x", -1, 0, 1.5, True, [], [1], {}, [[]], [None]]))
        path.write_text(json.dumps(data))
        try:
            found = selplug.read(path, KINDS[name])
        except InputError as error:
            told += str(tmp_path) in str(error)
        else:
            assert found.summary(), place
            assert len(repr(found)) < 200, place
            assert found._repr_html_(), place
            shown += 1
    assert told + shown == 80
    assert told > 10
