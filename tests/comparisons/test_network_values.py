"""The values of a network, by hand from its report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sample_comparison import STDS, trained_report, with_settings
from sample_report import with_perturbations

from selplug.comparisons.network_values import CURVES, VALUES, early, late, measure
from selplug.comparisons.sources import Source, common


def values(*reports, alphas=None):
    shared = common([Source(f"r{place}", report) for place, report in enumerate(reports)])
    return measure(shared, alphas or [None] * len(reports))


def with_section(report, layer, condition, section, **changes):
    """The report with other numbers in one layer under one condition."""
    layers = list(report.result.layers)
    old = layers[layer].conditions
    sections = {**old[condition], section: {**old[condition][section], **changes}}
    layers[layer] = replace(layers[layer], conditions={**old, condition: sections})
    return replace(report, result=replace(report.result, layers=tuple(layers)))


def test_thirds():
    assert [early(n) for n in (1, 2, 3, 6, 19)] == [slice(0, k) for k in (1, 1, 1, 2, 6)]
    assert [late(n) for n in (1, 3, 19)] == [slice(0, 1), slice(2, 3), slice(13, 19)]


def test_every_value_by_hand():
    accuracy = {"clean": 0.8, "fog@1": 0.7, "fog@2": 0.5, "snow@1": 0.4, "snow@2": 0.2, "noise": 0.6, "attack": 0.1}
    accuracy |= {"fgsm:eps=0.5/255": 0.5}
    report = trained_report(
        selectivity=0.3,
        accuracy=accuracy,
        dimensions={"clean": 4.0, "attack": 5.0, "corruption": 4.4},
        exponents={"clean": 1.2},
        variation=0.5,
        closeness=0.8,
        between=0.6,
        score=0.25,
    )
    (found, _), notes = values(report, trained_report(), alphas=[-1.0, 0.0])
    assert notes == ["one-step attacks are matched with corruptions of nearly the same L2 size"]
    expected = {
        "alpha": -1.0,
        "selectivity": 0.3,
        "selectivity_alive": 0.3,
        "selectivity_null": 0.04,
        "clean_accuracy": 0.8,
        "corruption_accuracy": 0.45,
        "corruption_relative": 0.45 / 0.8,
        "adversarial_accuracy": 0.2,
        "adversarial_relative": 0.25,
        "adversarial_one_step": 0.2,
        "adversarial_iterated": None,
        "noise_accuracy": 0.6,
        "worst_case": 0.1,
        "dimensionality_early": 4 / 8,
        "dimensionality_late": 4 / 8,
        "gain_attack_early": 1 / 8,
        "gain_corruption_early": 0.4 / 8,
        "gain_difference_early": 0.6 / 8,
        "exponent_last": 1.2,
        "exponent_mean": 1.2,
        "gradient": 1.0,
        "cv_samples": 0.5,
        "cv_units": 0.5,
        "cka_attack": 0.8,
        "cka_corruption": 0.8,
        "block_score": 0.25,
        "cka_between": 0.6,
    }
    assert found.values.keys() == VALUES.keys()
    assert {key: found.values[key] for key in expected} == pytest.approx(expected)
    assert found.curves.keys() == CURVES.keys()
    assert all(len(curve) == 6 for curve in found.curves.values())


def test_corruptions_are_averaged_over_severities_first():
    short = with_settings(
        trained_report(accuracy={"fog@1": 1.0, "fog@2": 0.0, "snow@1": 0.9}),
        perturbations=[e for e in trained_report().settings["perturbations"] if e["name"] != "snow@2"],
    )
    kept = tuple(c for c in short.result.conditions if c.name != "snow@2")
    short = replace(short, result=replace(short.result, conditions=kept))
    (_, found), _ = values(trained_report(), short)
    assert found.values["corruption_accuracy"] == pytest.approx((0.5 + 0.9) / 2)


def test_early_layers_alone():
    report = trained_report()
    for layer in range(2):
        report = with_section(report, layer, "clean", "dimensionality", participation_ratio_corrected=2.0)
    (found, _), _ = values(report, trained_report())
    assert found.values["dimensionality_early"] == pytest.approx(2 / 8)
    assert found.values["dimensionality_late"] == pytest.approx(4 / 8)


def test_a_layer_not_resolved_in_one_network_is_plain_in_all():
    odd = with_section(trained_report(), 0, "fgsm:eps=1/255", "dimensionality", participation_ratio_corrected=None)
    (first, second), notes = values(odd, trained_report())
    for found in (first, second):
        assert found.curves["dimensionality"][:2] == [pytest.approx(3.5 / 8), pytest.approx(4 / 8)]
    assert any("plain participation ratio" in note and note.endswith("act0") for note in notes)
    assert not any("act1" in note for note in notes)


def test_a_layer_undefined_in_one_network_is_left_out_in_all():
    odd = with_section(trained_report(), 5, "clean", "spectrum", exponent=None)
    odd = with_section(odd, 1, "clean", "selectivity", mean=None)
    other = with_section(trained_report(), 1, "clean", "selectivity", mean=0.9)
    (first, second), notes = values(odd, other)
    assert first.values["selectivity"] == second.values["selectivity"] == pytest.approx(0.3)
    assert second.values["exponent_last"] is None
    assert first.values["exponent_mean"] == pytest.approx(1.0)
    assert sum("left out in all" in note for note in notes) == 2


def test_a_measure_that_one_network_lacks_takes_nothing_from_the_others():
    bare = trained_report()
    layers = tuple(
        replace(
            layer,
            conditions={
                name: {key: value for key, value in sections.items() if key not in ("gradients", "cka")}
                for name, sections in layer.conditions.items()
            },
        )
        for layer in bare.result.layers
    )
    bare = replace(bare, result=replace(bare.result, layers=layers, between_layers={}, worst_case=None))
    (first, second), notes = values(bare, trained_report())
    for key in ("cv_samples", "cka_attack", "block_score", "cka_between", "worst_case"):
        assert first.values[key] is None
        assert second.values[key] is not None
    assert first.similarity is None
    assert notes == ["one-step attacks are matched with corruptions of nearly the same L2 size"]


def test_worst_cases_over_other_attacks_are_not_compared():
    other = trained_report()
    other = replace(other, result=replace(other.result, worst_case=replace(other.result.worst_case, eps=0.1)))
    found, notes = values(trained_report(), other)
    assert [each.values["worst_case"] for each in found] == [None, None]
    assert any("worst-case" in note for note in notes)


def test_sweeps_begin_at_the_clean_images():
    accuracy = {"clean": 0.9, **{f"gaussian-noise:std={s}": 0.8 - s for s in STDS}}
    exponents = {"clean": 1.5, **{f"gaussian-noise:std={s}": 1.4 - s for s in STDS}}
    (found, _), _ = values(trained_report(accuracy=accuracy, exponents=exponents), trained_report())
    noise = next(sweep for sweep in found.sweeps if sweep.kind == "noise")
    assert [point.strength for point in noise.points] == [0, *STDS]
    assert [point.accuracy for point in noise.points] == pytest.approx([0.9, *(0.8 - s for s in STDS)])
    assert (noise.loss, noise.rho) == (0, 1)
    fgsm = next(sweep for sweep in found.sweeps if sweep.kind == "fgsm")
    assert len(fgsm.points) == 5
    assert found.values["nonmonotonic_noise"] == 0


def test_too_few_strengths_and_no_variation_are_not_judged():
    (_, found), _ = values(trained_report(), trained_report())  # the same accuracy at every strength
    assert found.values["nonmonotonic_noise"] is None
    report = trained_report(accuracy={"clean": 0.9}, exponents={"clean": 1.4})
    for std in STDS[:2]:
        report = with_section(report, 5, f"gaussian-noise:std={std}", "spectrum", exponent=None)
    (found, _), _ = values(report, trained_report())
    assert next(sweep for sweep in found.sweeps if sweep.kind == "noise").loss is None


def test_an_attack_of_no_size_is_no_attack():
    names = {"fgsm:eps=0.5/255": {"eps": 0}}
    entries = [
        {**entry, "options": names.get(entry["name"], entry["options"])}
        for entry in trained_report().settings["perturbations"]
    ]
    report = with_perturbations(trained_report(accuracy={"attack": 0.1, "fgsm:eps=0.5/255": 0.9}), entries)
    (found, _), _ = values(report, report)
    assert found.values["adversarial_accuracy"] == pytest.approx(0.1)


def test_undefined_pairs_of_layers_are_left_out_of_the_mean():
    report = trained_report(between=0.5)
    rows = np.array(report.result.between_layers["cka"]["debiased"])
    rows[0, 1:] = rows[1:, 0] = np.nan
    cka = {**report.result.between_layers["cka"], "debiased": rows.tolist()}
    report = replace(report, result=replace(report.result, between_layers={"cka": cka}))
    (found, _), _ = values(report, trained_report())
    assert found.values["cka_between"] == pytest.approx(0.5)
    assert found.similarity[0][1] is None
