"""Every claim on made networks that bear it out, on ones that do the opposite, and on too few."""

from __future__ import annotations

import dataclasses

import pytest
from sample_comparison import family, trained_report

from selplug.comparisons.api import compare
from selplug.comparisons.claims import CLAIMS, NOT_ENOUGH, NOT_SUPPORTED, SUPPORTED, judge
from selplug.core.errors import InputError

IDS = [claim.id for claim in CLAIMS]
RESAMPLES = 300


@pytest.fixture(scope="module")
def networks():
    return compare(family(), resamples=RESAMPLES).networks


def changed(networks, change):
    """The networks with the values that ``change`` makes of theirs."""
    return tuple(
        dataclasses.replace(n, measured=dataclasses.replace(n.measured, values=change(dict(n.measured.values))))
        for n in networks
    )


def verdict(claim_id, networks):
    return judge(next(claim for claim in CLAIMS if claim.id == claim_id), networks, RESAMPLES, 0)


@pytest.mark.parametrize("claim_id", [i for i in IDS if i not in ("robust-overfitting", "exponent-accuracy")])
def test_supported_by_networks_made_for_it(claim_id, networks):
    found = verdict(claim_id, networks)
    assert found.verdict == SUPPORTED, found
    low, high = found.estimate.ci95
    assert low <= found.estimate.value <= high


VALUE_OF = {
    "selectivity-corruptions": "corruption_accuracy",
    "selectivity-attacks": "adversarial_accuracy",
    "selectivity-dimensionality": "dimensionality_early",
    "dimensionality-gain": "gain_difference_early",
    "selectivity-gradients-samples": "cv_samples",
    "selectivity-gradients-units": "cv_units",
    "robust-blocks": "block_score",
    "robust-specialization": "cka_between",
    "robust-closeness": "cka_attack",
}


@pytest.mark.parametrize("claim_id", VALUE_OF)
def test_not_supported_by_the_opposite(claim_id, networks):
    key = VALUE_OF[claim_id]
    found = verdict(claim_id, changed(networks, lambda values: values | {key: -values[key]}))
    assert found.verdict == NOT_SUPPORTED
    assert "other side" in found.why


@pytest.mark.parametrize("claim_id", VALUE_OF)
def test_not_enough_data_without_the_value(claim_id, networks):
    found = verdict(claim_id, changed(networks, lambda values: values | {VALUE_OF[claim_id]: None}))
    assert (found.verdict, found.estimate.value, found.estimate.ci95) == (NOT_ENOUGH, None, None)
    assert found.why


def test_a_monotonic_sweep_and_one_that_is_not(networks):
    swapped = changed(
        networks,
        lambda v: v | {"nonmonotonic_noise": v["nonmonotonic_fgsm"], "nonmonotonic_fgsm": v["nonmonotonic_noise"]},
    )
    assert verdict("exponent-noise", swapped).verdict == NOT_SUPPORTED
    assert verdict("exponent-fgsm", swapped).verdict == NOT_SUPPORTED


@pytest.mark.parametrize("alphas", [(-1.0, 1.0), (0.0,)])
def test_a_correlation_needs_three_trainings(alphas):
    reports = [trained_report(alpha=a, seed=s, selectivity=0.3 + a / 9 + s / 99) for a in alphas for s in range(4)]
    for claim in compare(reports, resamples=RESAMPLES).claims[:3]:
        assert claim.verdict == NOT_ENOUGH
    configurations = "1 training configuration " if len(alphas) == 1 else f"{len(alphas)} training configurations "
    assert f"{len(reports)} networks of {configurations}" in claim.why


def test_a_correlation_needs_five_networks_and_shows_its_number_before():
    reports = [
        trained_report(alpha=a, selectivity=0.3 + a / 9, accuracy={"clean": 0.8, "corruption": 0.5 - a / 9})
        for a in (-1.0, 0.0, 1.0, 2.0)
    ]
    found = compare(reports, resamples=RESAMPLES).claims[0]
    assert (found.verdict, found.estimate.value, found.estimate.n) == (NOT_ENOUGH, -1, 4)
    assert "4 networks of 4 training configurations" in found.why
    assert compare([*reports, trained_report(seed=9)], resamples=RESAMPLES).claims[0].verdict == SUPPORTED


def test_a_value_that_never_varies():
    reports = [trained_report(alpha=a, seed=s, selectivity=0.3) for a in (-1.0, 0.0, 1.0) for s in range(2)]
    found = compare(reports, resamples=RESAMPLES).claims[0]
    assert found.verdict == NOT_ENOUGH
    assert "the same in all networks" in found.why


def test_other_differences_in_training_are_never_mixed_in():
    # Within each learning rate selectivity goes with robustness; over both it goes against it.
    reports = [
        trained_report(
            alpha=a,
            seed=s,
            flags={"lr": lr},
            selectivity=0.2 + 0.2 * (lr > 0.1) + a / 50 + s / 999,
            accuracy={"clean": 0.8, "attack": 0.5 - 0.3 * (lr > 0.1) + a / 50},
        )
        for lr in (0.1, 0.5)
        for a in (-1.0, 0.0, 1.0)
        for s in range(2)
    ]
    found = compare(reports, resamples=RESAMPLES).claims[1]
    assert found.claim.id == "selectivity-attacks"
    assert found.estimate.value > 0.9
    assert found.estimate.n == 12


def test_robust_networks_count_in_no_correlation(networks):
    assert verdict("selectivity-corruptions", networks).estimate.n == 9
    assert verdict("dimensionality-gain", networks).estimate.n == 9


def test_robust_and_standard_trained_alike_but_for_that(networks):
    found = verdict("robust-blocks", networks)
    assert found.estimate.n == 6  # alpha 0 alone: the other standard networks have a regularizer
    assert found.why == "the whole interval is < 0"
    robust = [n.value("block_score") for n in networks if n.training.robust]
    standard = [n.value("block_score") for n in networks if not n.training.robust and n.training.alpha == 0]
    assert found.estimate.value == pytest.approx(sum(robust) / 3 - sum(standard) / 3)
    assert verdict("robust-blocks", networks[:-1]).verdict == NOT_ENOUGH


def test_otherwise_of_the_same_layers_with_a_caveat():
    reports = {f"s{s}": trained_report(seed=s, score=0.3) for s in range(3)}
    reports |= {f"a{s}": trained_report(seed=s, adversarial="pgd", flags={"lr": 0.2}, score=0.1) for s in range(3)}
    found = next(c for c in compare(reports, resamples=RESAMPLES).claims if c.claim.id == "robust-blocks")
    assert found.verdict == SUPPORTED
    assert "their training may differ in other settings too" in found.why
    wider = {name: trained_report(seed=9, adversarial="pgd", layers=7) for name in ("w",)}
    assert compare(reports | wider, resamples=RESAMPLES).claims[6].estimate.n == 6


def test_robust_by_the_users_word_alone():
    reports = {f"s{s}": trained_report(told=False, score=0.3) for s in range(3)}
    reports |= {f"hard{s}": trained_report(told=False, score=0.1) for s in range(3)}
    assert compare(reports, resamples=RESAMPLES).claims[6].verdict == NOT_ENOUGH
    assert compare(reports, robust=["hard*"], resamples=RESAMPLES).claims[6].verdict == SUPPORTED
    with pytest.raises(InputError, match="matches no report"):
        compare(reports, robust=["soft*"])


def epochs(late_moves):
    """Three robust runs at two epochs each; the CKA of late layers moves, or that of early ones."""
    reports = {}
    for seed in range(3):
        for epoch in (0, 9):
            report = trained_report(seed=seed, epoch=epoch, adversarial="pgd:eps=4/255")
            layers = tuple(
                dataclasses.replace(
                    layer,
                    conditions={
                        name: sections
                        if name == "clean"
                        else {**sections, "cka": {"debiased": 0.9 - (0.2 + seed / 99) * bool(epoch and moves)}}
                        for name, sections in layer.conditions.items()
                    },
                )
                for place, layer in enumerate(report.result.layers)
                for moves in [(place >= 4) == late_moves and (place < 2 or place >= 4)]
            )
            reports[f"s{seed}-e{epoch}"] = dataclasses.replace(
                report, result=dataclasses.replace(report.result, layers=layers)
            )
    return reports


@pytest.mark.parametrize(("late_moves", "expected"), [(True, SUPPORTED), (False, NOT_SUPPORTED)])
def test_epochs_of_robust_runs(late_moves, expected):
    comparison = compare(epochs(late_moves), resamples=RESAMPLES)
    found = next(c for c in comparison.claims if c.claim.id == "robust-overfitting")
    assert found.verdict == expected
    assert found.estimate.n == 3
    assert abs(found.estimate.value) == pytest.approx(0.2 + 1 / 99)
    assert sum(network.training.earlier for network in comparison.networks) == 3
    assert len(comparison.groups) == 2


def test_every_claim_names_paper_statistic_and_side():
    assert len(set(IDS)) == len(IDS)
    for claim in CLAIMS:
        assert claim.source.startswith("arXiv ")
        assert claim.statistic
        assert claim.side[0] in "<>"
