"""Reports that cannot be compared are found and named; what cannot change a number is a note."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sample_comparison import PERTURBATIONS, trained_report, with_settings, with_subject
from sample_report import with_perturbations

from selplug.comparisons.sources import Source, common


def sources(*reports):
    return [Source(f"r{place}", report) for place, report in enumerate(reports)]


def test_alike():
    found = common(sources(trained_report(), trained_report(seed=1)))
    assert len(found.sources) == 2
    assert not found.left_out
    assert not found.notes
    assert list(found.kinds) == ["clean", *(entry["name"] for entry in PERTURBATIONS)]
    assert found.of_kind("noise") == [e["name"] for e in PERTURBATIONS if e["kind"] == "noise"]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (trained_report(digest="e" * 64), "samples: 500, digest eeeeeeeeeeee, most have 500, digest dddddddddddd"),
        (with_settings(trained_report(), seed=3), "seed: 3, most have 0"),
        (with_settings(trained_report(), layers=["layer1*"]), "layers: layer1*, most have not told"),
        (with_subject(trained_report(), interpolation="bilinear"), "interpolation: bilinear, most have bicubic"),
        (with_subject(trained_report(), input_size=[3, 64, 64]), "input size: 3, 64, 64, most have 3, 32, 32"),
        (with_subject(trained_report(), crop_pct=0.9), "crop: 0.9, center, most have 1.0, center"),
        (with_subject(trained_report(), num_classes=11), "classes: 11, most have 10"),
    ],
)
def test_what_differs_from_most_is_left_out_even_in_first_place(other, says):
    found = common(sources(other, trained_report(), trained_report(seed=1)))
    assert [source.name for source in found.sources] == ["r1", "r2"]
    ((source, reasons),) = found.left_out
    assert source.name == "r0"
    assert reasons == (says,)


def test_without_a_digest_the_facts_of_the_data_decide():
    old, drawn = trained_report(digest=None), trained_report(digest=None, seed=1)
    drawn = with_subject(drawn, data={**drawn.subject["data"], "draw_seed": 7})
    found = common(sources(trained_report(), trained_report(seed=1), old, drawn))
    assert [source.name for source in found.sources] == ["r0", "r1", "r2"]
    assert any("no digest of the samples" in note and "r2" in note for note in found.notes)
    assert [source.name for source, _ in found.left_out] == ["r3"]
    # Told by no one which samples they were: the same facts with two digests fit neither.
    found = common(sources(trained_report(), trained_report(), trained_report(digest="e" * 64), old))
    assert [source.name for source, _ in found.left_out] == ["r2", "r3"]


def test_conditions_that_not_all_have_alike_are_named_and_not_compared():
    short = with_settings(trained_report(seed=1), perturbations=[dict(entry) for entry in PERTURBATIONS[:-1]])
    short = replace(short, result=replace(short.result, conditions=short.result.conditions[:-1]))
    changed = [dict(entry) for entry in PERTURBATIONS]
    changed[0] = changed[0] | {"options": changed[0]["options"] | {"strengths": "imagenet"}}
    found = common(sources(trained_report(), short, with_perturbations(trained_report(), changed)))
    assert len(found.sources) == 3
    assert not {PERTURBATIONS[0]["name"], PERTURBATIONS[-1]["name"]} & found.kinds.keys()
    assert len(found.kinds) == 1 + len(PERTURBATIONS) - 2
    assert f"1 condition is not in r1, and so not compared: {PERTURBATIONS[-1]['name']}" in found.notes
    assert any("options are not the same" in note and "fog@1" in note for note in found.notes)


def test_versions_devices_and_precision_are_notes():
    other = with_settings(trained_report(seed=1), batch_size=64, amp="bfloat16", measures=["selectivity"])
    other = replace(other, environment={"selplug": "0.2.0", "torch": "2.15.0", "device": "H100"})
    found = common(sources(trained_report(), other))
    assert not found.left_out
    text = "; ".join(found.notes)
    for part in ("amp (None, bfloat16)", "batch_size (128, 64)", "selplug (0.1.0, 0.2.0)", "cka was not taken in r1"):
        assert part in text
    assert "torch" not in text
