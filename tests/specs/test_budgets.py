"""Specs of a worst case and the budget of those that say none; sweeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selplug.core.errors import InputError
from selplug.core.types import Perturbation
from selplug.specs import parse_spec, perturbation, split_specs, sweep
from selplug.specs import perturbations as perturbations_of
from selplug.specs.budgets import worst_case_attacks

pytest.importorskip("torchattacks")


def names(specs, perturbations=()):
    chosen = [each for spec in perturbations for each in perturbations_of(spec)]
    return [attack.name for attack in worst_case_attacks(specs, chosen)]


@pytest.mark.parametrize(
    ("text", "specs"),
    [
        ("apgd,fab", ["apgd", "fab"]),
        (" apgd , fab,", ["apgd", "fab"]),
        ("apgd:eps=2/255,steps=20,fab:eps=1/255,square", ["apgd:eps=2/255,steps=20", "fab:eps=1/255", "square"]),
        ("", []),
    ],
)
def test_one_text_holds_several_specs(text, specs):
    assert split_specs(text) == specs


BUDGETS = [
    ("apgd,fab", ["pgd:eps=2/255"], ["apgd:eps=2/255", "fab:eps=2/255"]),
    ("apgd,fab:eps=1/255", ["pgd:eps=2/255"], ["apgd:eps=1/255", "fab:eps=1/255"]),
    ("apgd:eps=2/255,fab,square:n_queries=9", [], ["apgd:eps=2/255", "fab:eps=2/255", "square:n_queries=9,eps=2/255"]),
    ("apgd:eps=2/255,fab", ["pgd:eps=0..16/255*5"], ["apgd:eps=2/255", "fab:eps=2/255"]),
    ("apgd,fab", [], ["apgd", "fab"]),
    ("apgd", ["pgd"], ["apgd:eps=8/255"]),
    ("apgd,apgd:norm=L2", ["pgd:eps=2/255", "pgdl2:eps=0.5"], ["apgd:eps=2/255", "apgd:norm=L2,eps=0.5"]),
    ("apgd", ["gaussian-noise", "cw", "gn"], ["apgd"]),
    ("cw,apgd", ["pgd:eps=2/255"], ["cw", "apgd:eps=2/255"]),
    ("pifgsm", ["pgd:eps=0.1"], ["pifgsm:max_epsilon=25.5/255"]),
    ("apgd", ["pgd:eps=0.02"], ["apgd:eps=0.02"]),
    ("apgd:eps=1/255..2/255*2,fab:eps=1/255", [], ["apgd:eps=1/255", "apgd:eps=2/255", "fab:eps=1/255"]),
]


@pytest.mark.parametrize(("specs", "perturbations", "expected"), BUDGETS)
def test_an_attack_without_a_budget_takes_that_of_the_others(specs, perturbations, expected):
    assert names(specs, perturbations) == expected
    for attack in worst_case_attacks(specs, [p for s in perturbations for p in perturbations_of(s)]):
        if "eps=" in attack.name:
            assert attack.options["eps"] == pytest.approx(perturbation(attack.name).options["eps"], rel=1e-12)


def test_objects_are_taken_as_they_are():
    own = Perturbation("own", lambda model: lambda images, labels: images)
    assert worst_case_attacks([own, "cw"])[0] is own


@pytest.mark.parametrize(
    ("specs", "perturbations", "message"),
    [
        (
            "apgd",
            ["pgd:eps=0..16/255*3"],
            r"apgd in the worst case has no budget, and the other .*0/255, 8/255, 16/255",
        ),
        ("apgd:eps=1/255,fab:eps=2/255,square", [], r"square in the worst case .* as in square:eps=8/255"),
        ("apgd,apgd", [], "the worst case contains apgd twice"),
        ("apgd:steps=0.5.5", [], "option steps: expected a number"),
    ],
)
def test_what_is_not_clear_is_refused(specs, perturbations, message):
    with pytest.raises(InputError, match=message):
        names(specs, perturbations)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("pgd:eps=0..16/255*5", ["pgd:eps=0", "pgd:eps=4/255", "pgd:eps=8/255", "pgd:eps=12/255", "pgd:eps=16/255"]),
        ("pgd:eps=8/255..2/255*3,steps=5", ["pgd:eps=8/255,steps=5", "pgd:eps=5/255,steps=5", "pgd:eps=2/255,steps=5"]),
        ("pgd:steps=10..50*3", ["pgd:steps=10", "pgd:steps=30", "pgd:steps=50"]),
        ("gaussian-noise:std=0..0.2*3", ["gaussian-noise:std=0", "gaussian-noise:std=0.1", "gaussian-noise:std=0.2"]),
    ],
)
def test_a_sweep_is_several_perturbations(spec, expected):
    assert sweep(spec) == expected
    assert [p.name for p in perturbations_of(spec)] == expected


@pytest.mark.parametrize("value", ["0..x*3", "0..1*1", "0..1*2.5", "0..1*1000", "..1*3", "0..true*3", "0..1/255*x"])
def test_sweeps_that_are_none_are_refused(value):
    with pytest.raises(InputError, match=r"expected one sweep such as eps=0\.\.16/255"):
        perturbations_of(f"pgd:eps={value}")
    with pytest.raises(InputError, match="expected one sweep"):
        perturbations_of("pgd:eps=0..1/255*2,alpha=0..1*2")
    with pytest.raises(InputError, match="which stands for 2"):
        perturbation("pgd:eps=0..1/255*2")


@given(st.integers(0, 255), st.integers(0, 255), st.integers(2, 100))
def test_the_values_of_a_sweep_are_evenly_spaced(low, high, count):
    values = [parse_spec(spec)[1]["eps"] for spec in sweep(f"pgd:eps={low}/255..{high}/255*{count}")]
    assert len(values) == count
    for place, value in enumerate(values):
        assert value == pytest.approx((low + (high - low) * place / (count - 1)) / 255, rel=1e-5, abs=1e-9)


def test_a_denominator_that_is_missing_is_asked_for():
    with pytest.raises(InputError, match=r"first value is 1, above the last, 8/255; did you mean 1/255\.\.8/255\?"):
        sweep("fgsm:eps=1..8/255*5")
