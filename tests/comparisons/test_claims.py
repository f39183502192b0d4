"""Every claim on made networks that bear it out, on ones that do the opposite, and on too few."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sample_comparison import PERTURBATIONS, STDS, steps, trained_report, with_settings

from selplug.comparisons.api import compare
from selplug.comparisons.claims import CLAIMS, ROWS
from selplug.comparisons.evidence import Draws
from selplug.comparisons.verdicts import CONTRADICTED, INCONCLUSIVE, NOT_ENOUGH, SUPPORTED, judge
from selplug.core.errors import InputError

IDS = [claim.id for claim in CLAIMS]
DRAWS = Draws(500, 0)


@pytest.fixture(scope="module")
def networks():
    return compare(steps()).networks


def changed(networks, change):
    """The networks with the values that ``change`` makes of theirs."""
    return tuple(
        dataclasses.replace(n, measured=dataclasses.replace(n.measured, values=change(dict(n.measured.values))))
        for n in networks
    )


def verdict(claim_id, networks, alone=True):
    rows = [row for row in ROWS if not alone or row.claim.id == claim_id]
    return next(judged for judged in judge(networks, DRAWS, rows) if judged.claim.id == claim_id)


def of(comparison, claim_id):
    return next(judged for judged in comparison.claims if judged.claim.id == claim_id)


#: Decided elsewhere: two sets of audits, values that :func:`steps` does not move.
APART = ("robust-overfitting", "exponent-accuracy", "exponent-required", "dimensionality-explains")


@pytest.mark.parametrize("claim_id", [i for i in IDS if i not in APART])
def test_supported_by_networks_made_for_it(claim_id, networks):
    found = verdict(claim_id, networks, alone=False)
    assert found.verdict == SUPPORTED, found
    low, high = found.estimate.ci95
    assert low <= found.estimate.value <= high
    assert found.p <= found.p_adjusted <= 0.05
    assert found.smallest_effect is not None
    assert found.tests > 10


VALUES_OF = {
    "selectivity-corruptions": ("corruption_accuracy",),
    "selectivity-attacks": ("adversarial_one_step",),
    "selectivity-dimensionality": ("dimensionality_early",),
    "selectivity-gradients-samples": ("cv_samples",),
    "selectivity-gradients-units": ("cv_units",),
    "robust-blocks": ("block_score",),
    "robust-specialization": ("cka_between",),
    "robust-closeness": ("cka_attack",),
}


@pytest.mark.parametrize("claim_id", VALUES_OF)
def test_contradicted_by_the_opposite(claim_id, networks):
    (key,) = VALUES_OF[claim_id]
    found = verdict(claim_id, changed(networks, lambda values: values | {key: -values[key]}))
    assert found.verdict == CONTRADICTED
    assert "other side" in found.why


@pytest.mark.parametrize("claim_id", VALUES_OF)
def test_not_enough_data_without_the_value(claim_id, networks):
    found = verdict(claim_id, changed(networks, lambda v: v | dict.fromkeys(VALUES_OF[claim_id])))
    assert (found.verdict, found.estimate.ci95, found.p, found.p_adjusted) == (NOT_ENOUGH, None, None, None)
    assert found.why


# What was "supported" or "not supported" before configurations were the unit.


@pytest.mark.parametrize(("alphas", "seeds"), [(3, 3), (3, 5), (4, 3)])
def test_seeds_that_share_an_effect_are_one_configuration(alphas, seeds):
    """Three steps in order come in 1 of 6 cases where alpha does nothing, however many seeds repeat them."""
    reports = steps(alphas, seeds, sd=0.05)
    found = compare(reports)
    for claim in IDS[:3]:
        assert of(found, claim).verdict == NOT_ENOUGH
    assert f"{alphas} training configurations ({alphas * seeds} networks)" in of(found, IDS[0]).why


def test_five_shared_effects_in_no_clear_order_are_inconclusive():
    shared = [1.0, 0.0, 3.0, 2.0, 4.0]  # rho .8
    reports = [
        trained_report(alpha=a, seed=s, selectivity=0.2 + 0.1 * a, dimensions={"clean": 5 - 0.5 * effect + 0.001 * s})
        for a, effect in enumerate(shared)
        for s in range(3)
    ]
    found = of(compare(reports), "selectivity-dimensionality")
    assert (found.verdict, found.estimate.value) == (INCONCLUSIVE, pytest.approx(-0.8))
    assert (found.estimate.configurations, found.estimate.n) == (5, 15)
    assert found.estimate.ci95[0] < 0 <= found.estimate.ci95[1]


def gains(values):
    return [
        trained_report(
            flags={"lr": place}, dimensions={"clean": 4, "attack": 5 + 8 * value, "corruption": 5}, components=0
        )
        for place, value in enumerate(values)
    ]


def test_three_means_on_one_side_are_not_yet_a_difference():
    assert of(compare(gains([0.02, 0.3, 0.1])), "dimensionality-gain").verdict == INCONCLUSIVE
    assert of(compare(gains([0.28, 0.3, 0.29])), "dimensionality-gain").verdict == SUPPORTED


def test_three_against_three_that_do_not_overlap_are_not_yet_a_difference():
    def reports(*scores):
        return [
            trained_report(seed=s, adversarial=spec, score=score)
            for spec, own in zip((None, "pgd"), scores, strict=True)
            for s, score in enumerate(own)
        ]

    assert of(compare(reports((0.5, 0.31, 0.4), (0.3, 0.1, 0.29))), "robust-blocks").verdict == INCONCLUSIVE
    assert of(compare(reports((0.5, 0.49, 0.5), (0.3, 0.31, 0.29))), "robust-blocks").verdict == SUPPORTED


def test_what_is_told_from_chance_alone_is_not_so_among_many(networks):
    few = [n for n in networks if n.training.robust or n.training.alpha is None or abs(n.training.alpha) < 3]
    alone, among = (verdict("selectivity-dimensionality", few, alone) for alone in (True, False))
    assert (alone.verdict, among.verdict) == (SUPPORTED, INCONCLUSIVE)
    assert alone.p == among.p == pytest.approx(2 / 120)
    assert among.p_adjusted > 0.05
    assert f"not among {among.tests} claims" in among.why
    assert among.smallest_effect is None
    assert "finds no effect, however large" in among.why


@pytest.mark.parametrize("noise", [0.0, 0.002, 0.01])
def test_accuracy_that_follows_clean_accuracy_alone_is_no_robustness(noise):
    rng = np.random.default_rng(1)
    reports = []
    for alpha in range(7):
        for seed in range(3):
            clean = 0.9 - 0.05 * alpha + 0.01 * rng.normal()
            perturbed = {kind: 0.6 * clean + noise * rng.normal() for kind in ("corruption", "attack")}
            selectivity = 0.2 + 0.1 * alpha + 0.02 * rng.normal()
            reports.append(
                trained_report(alpha=alpha, seed=seed, selectivity=selectivity, accuracy={"clean": clean, **perturbed})
            )
    found = of(compare(reports), "selectivity-corruptions")
    assert found.verdict == INCONCLUSIVE
    assert found.parts[0].estimate.value < -0.9
    assert "parts part" in found.why or "cannot be told apart" in found.why


def test_clean_accuracy_in_the_order_of_selectivity_cannot_be_told_apart(networks):
    ordered = changed(networks, lambda v: v | {"clean_accuracy": 0.9 - v["selectivity"] / 10})
    found = verdict("selectivity-corruptions", ordered)
    assert found.verdict == INCONCLUSIVE
    assert "cannot be told apart with these configurations: given clean accuracy" in found.why


def with_cka(report, early, late):
    layers = tuple(
        dataclasses.replace(
            layer,
            conditions={
                name: sections if name == "clean" else {**sections, "cka": {"debiased": late if place >= 4 else early}}
                for name, sections in layer.conditions.items()
            },
        )
        for place, layer in enumerate(report.result.layers)
    )
    return dataclasses.replace(report, result=dataclasses.replace(report.result, layers=layers))


def two_sets(test_late, train_late):
    """Three robust runs at two epochs, on test and on training images: CKA of late layers before and after."""
    sets = []
    for digest, late in (("d" * 64, test_late), ("e" * 64, train_late)):
        own = {}
        for seed in range(3):
            for epoch, level in zip((0, 9), late, strict=True):
                report = trained_report(
                    seed=seed, epoch=epoch, adversarial="pgd:eps=4/255", digest=digest,
                    accuracy={"attack": 0.5 - 0.01 * epoch},
                )  # fmt: skip
                own[f"s{seed}-e{epoch}"] = with_cka(report, 0.8, level + 0.005 * seed * bool(epoch))
        sets.append(own)
    return sets


def test_late_layers_that_improve_are_no_overfitting():
    test, train = two_sets((0.6, 0.9), (0.6, 0.9))
    assert of(compare(test), "robust-overfitting").verdict == NOT_ENOUGH
    assert "--train-set" in of(compare(test), "robust-overfitting").why
    assert of(compare(test, train_set=list(train.values())), "robust-overfitting").verdict == INCONCLUSIVE


def test_a_gap_that_grows_in_late_layers_is():
    test, train = two_sets((0.6, 0.5), (0.6, 0.9))
    train = {
        name: with_cka(r, 0.8, 0.9 + 0.01 * int(name[1])) if name.endswith("e9") else r for name, r in train.items()
    }
    found = of(compare(test, train_set=list(train.values())), "robust-overfitting")
    assert found.verdict == SUPPORTED
    assert {part.label for part in found.parts} == {"late layers", "late less early layers"}
    assert found.estimate.value == pytest.approx(0.4 + 0.005)
    assert (found.estimate.n, found.estimate.configurations) == (3, 1)
    assert "of this training configuration alone" in found.why
    swapped = of(compare(train, train_set=list(test.values())), "robust-overfitting")
    assert swapped.verdict == CONTRADICTED


def test_runs_whose_last_epoch_is_the_best_do_not_overfit():
    test, train = two_sets((0.6, 0.5), (0.6, 0.9))
    better = {
        name: dataclasses.replace(
            report,
            result=dataclasses.replace(
                report.result,
                conditions=tuple(
                    dataclasses.replace(c, accuracy=0.9 if name.endswith("e9") else 0.2)
                    for c in report.result.conditions
                ),
            ),
        )
        for name, report in test.items()
    }
    found = of(compare(better, train_set=list(train.values())), "robust-overfitting")
    assert found.verdict == NOT_ENOUGH
    assert "the last epoch is the best" in found.why


def noisy_sweeps(exponents, error, seed):
    """Nine networks whose exponents under noise are measured with an error."""
    rng = np.random.default_rng(seed)
    names = ["clean", *(f"gaussian-noise:std={s}" for s in STDS)]
    reports = []
    for alpha in range(3):
        for number in range(3):
            report = trained_report(
                alpha=alpha, seed=number,
                accuracy=dict(zip(names, (0.9, 0.8, 0.65, 0.5, 0.35), strict=True)),
                exponents={name: value + error * rng.normal() for name, value in zip(names, exponents, strict=True)},
            )  # fmt: skip
            layers = tuple(
                dataclasses.replace(
                    layer,
                    conditions={
                        name: {**sections, "spectrum": {**sections["spectrum"], "stderr": error or None}}
                        for name, sections in layer.conditions.items()
                    },
                )
                for layer in report.result.layers
            )
            reports.append(dataclasses.replace(report, result=dataclasses.replace(report.result, layers=layers)))
    return reports


@pytest.mark.parametrize("seed", range(4))
def test_a_monotonic_curve_with_errors_is_never_not_monotonic(seed):
    steep = noisy_sweeps((1.5, 1.4, 1.3, 1.2, 1.1), 0.03, seed)
    assert of(compare(steep), "exponent-noise").verdict in (SUPPORTED, INCONCLUSIVE)
    assert of(compare(noisy_sweeps((1.5, 1.4, 1.3, 1.2, 1.1), 0.005, seed)), "exponent-noise").verdict == SUPPORTED
    flat = of(compare(noisy_sweeps((1.3,) * 5, 0.05, seed)), "exponent-noise")
    assert flat.verdict == NOT_ENOUGH
    assert "less than 8 standard errors" in flat.why
    assert of(compare(noisy_sweeps((1.5, 1.3, 1.1, 1.31, 1.52), 0.01, seed)), "exponent-noise").verdict == CONTRADICTED


def test_without_errors_of_the_exponents_there_is_not_enough_data():
    found = of(compare(noisy_sweeps((1.5, 1.4, 1.3, 1.2, 1.1), 0.0, 0)), "exponent-noise")
    assert found.verdict == NOT_ENOUGH
    assert "have no standard errors" in found.why


def test_fog_alone_is_not_corruptions():
    reports = []
    kept = [dict(entry) for entry in PERTURBATIONS if "snow" not in entry["name"]]
    for depth, gain in ((4, 1.0), (6, 1.2), (8, 1.1)):
        report = trained_report(
            layers=depth, flags={"model": f"d{depth}"}, dimensions={"clean": 4, "attack": 5 + gain, "corruption": 5}
        )
        conditions = tuple(c for c in report.result.conditions if "snow" not in c.name)
        result = dataclasses.replace(report.result, conditions=conditions)
        reports.append(dataclasses.replace(with_settings(report, perturbations=kept), result=result))
    comparison = compare(reports)
    assert of(comparison, "dimensionality-gain").verdict == NOT_ENOUGH
    assert any("fog is the only corruption" in note for note in comparison.notes)


# The rest.


def test_a_claim_on_attacks_holds_for_each_type_or_not_at_all(networks):
    both = changed(networks, lambda v: v | {"adversarial_iterated": v["adversarial_one_step"]})
    assert verdict("selectivity-attacks", both).verdict == SUPPORTED
    split = changed(networks, lambda v: v | {"adversarial_iterated": 1 - v["adversarial_one_step"]})
    found = verdict("selectivity-attacks", split)
    assert found.verdict == INCONCLUSIVE
    assert "on the other side: by itself, iterated attacks" in found.why
    assert len(found.parts) == 6


def test_measures_of_dimensionality_that_part_are_inconclusive(networks):
    turned = [
        dataclasses.replace(
            n,
            measured=dataclasses.replace(
                n.measured, matched={k: -v if "components" in k else v for k, v in n.measured.matched.items()}
            ),
        )
        for n in networks
    ]
    found = verdict("dimensionality-gain", turned)
    assert found.verdict == INCONCLUSIVE
    assert "on the claim's side: participation ratio, one-step attacks" in found.why
    assert "on the other side: components for 90 %, one-step attacks" in found.why


def test_dimensionality_explains_what_it_decides_itself():
    rng = np.random.default_rng(0)

    def reports(through):
        found = []
        for alpha in range(8):
            for seed in range(2):
                dims = 7 - 0.5 * alpha + 0.6 * rng.normal()
                cause = dims if through else 7 - 0.5 * alpha
                found.append(
                    trained_report(
                        alpha=alpha, seed=seed, selectivity=0.2 + 0.05 * alpha,
                        dimensions={"clean": dims}, accuracy={"clean": 0.8, "attack": 0.9 - 0.1 * cause},
                    )
                )  # fmt: skip
        return compare(reports_of(found)).networks

    def reports_of(found):
        return found

    assert verdict("dimensionality-explains", reports(True)).verdict == SUPPORTED
    found = verdict("dimensionality-explains", reports(False))
    assert found.verdict == INCONCLUSIVE
    assert "what selectivity still predicts, given early dimensionality: one-step attacks" in found.why


def test_a_high_accuracy_that_needs_a_high_exponent():
    def networks(exponents, accuracies):
        return compare(
            [
                trained_report(alpha=place, accuracy={"clean": a}, exponents={"clean": x})
                for place, (x, a) in enumerate(zip(exponents, accuracies, strict=True))
            ]
        ).networks

    rising = np.linspace(1.0, 1.6, 7)
    assert verdict("exponent-required", networks(rising, np.linspace(0.4, 0.9, 7))).verdict == SUPPORTED
    found = verdict("exponent-required", networks(rising, (0.9, 0.5, 0.8, 0.4, 0.6, 0.7, 0.45)))
    assert found.verdict != SUPPORTED
    assert found.estimate.value == 0


def test_a_value_that_never_varies():
    reports = [trained_report(alpha=a, seed=s, selectivity=0.3) for a in range(5) for s in range(2)]
    found = compare(reports).claims[0]
    assert found.verdict == NOT_ENOUGH
    assert "the same in all networks" in found.why


def test_other_differences_in_training_are_never_mixed_in():
    # Within each learning rate selectivity goes with dimensionality; over both it goes against it.
    reports = [
        trained_report(
            alpha=a,
            seed=s,
            flags={"lr": lr},
            selectivity=0.2 + 0.2 * (lr > 0.1) + a / 50 + s / 999,
            dimensions={"clean": 4 + 3 * (lr > 0.1) - a / 5},
        )
        for lr in (0.1, 0.5)
        for a in range(4)
        for s in range(2)
    ]
    found = of(compare(reports), "selectivity-dimensionality")
    assert found.estimate.value == pytest.approx(-1)
    assert (found.estimate.configurations, found.estimate.n) == (8, 16)


def test_robust_networks_count_in_no_correlation(networks):
    for claim in ("selectivity-corruptions", "dimensionality-gain"):
        found = verdict(claim, networks).estimate
        assert (found.configurations, found.n) == (7, 21)


def test_robust_and_standard_trained_alike_but_for_that(networks):
    found = verdict("robust-blocks", networks)
    assert (found.estimate.n, found.estimate.configurations) == (6, 2)  # alpha 0 alone
    assert "of these 2 training configurations alone" in found.why
    robust = [n.value("block_score") for n in networks if n.training.robust]
    standard = [n.value("block_score") for n in networks if not n.training.robust and n.training.alpha == 0]
    assert found.estimate.value == pytest.approx(sum(robust) / 3 - sum(standard) / 3)
    assert verdict("robust-blocks", networks[:-1]).verdict == NOT_ENOUGH


def test_three_pairs_of_configurations_are_the_sample():
    reports = [
        trained_report(
            seed=s, flags={"lr": lr}, adversarial=spec, score=0.3 + lr - (0.1 + lr / 100) * bool(spec) + s / 999
        )
        for lr in (0.1, 0.2, 0.3)
        for spec in (None, "pgd")
        for s in range(2)
    ]
    found = of(compare(reports), "robust-blocks")
    assert found.verdict == SUPPORTED
    assert (found.estimate.n, found.estimate.configurations) == (12, 6)
    assert found.estimate.value == pytest.approx(-0.102)
    assert "alone" not in found.why


def test_otherwise_of_the_same_layers_with_a_caveat():
    reports = {f"s{s}": trained_report(seed=s, score=0.3 + s / 99) for s in range(3)}
    reports |= {
        f"a{s}": trained_report(seed=s, adversarial="pgd", flags={"lr": 0.2}, score=0.1 + s / 99) for s in range(3)
    }
    found = of(compare(reports), "robust-blocks")
    assert found.verdict == SUPPORTED
    assert "not known to be trained alike" in found.why
    wider = {"w": trained_report(seed=9, adversarial="pgd", layers=7)}
    assert of(compare(reports | wider), "robust-blocks").estimate.n == 6


def test_robust_by_the_users_word_alone():
    reports = {f"s{s}": trained_report(told=False, score=0.3 + s / 99) for s in range(3)}
    reports |= {f"hard{s}": trained_report(told=False, score=0.1 + s / 99) for s in range(3)}
    assert of(compare(reports), "robust-blocks").verdict == NOT_ENOUGH
    found = of(compare(reports, robust=["hard*"]), "robust-blocks")
    assert (found.verdict, found.estimate.configurations) == (SUPPORTED, 6)
    with pytest.raises(InputError, match="matches no report"):
        compare(reports, robust=["soft*"])


def test_every_claim_names_paper_statistic_and_side():
    assert len(set(IDS)) == len(IDS)
    for claim in CLAIMS:
        assert claim.source.startswith("arXiv ")
        assert claim.statistic
        assert claim.side
    maps = [claim for claim in CLAIMS if "2206.09868" in claim.source]
    assert len(maps) == 4
    assert all("--flatten" in claim.caveat for claim in maps)
