"""Types of attacks, and attacks that checks speak against; perturbations that are matched."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest
from sample_comparison import EPS, trained_report

from selplug.audits.engine.results import AttackProbe, Condition
from selplug.audits.facts.attack_checks import checks
from selplug.comparisons.api import compare
from selplug.comparisons.attack_types import TYPES, type_of


@pytest.mark.parametrize(
    ("name", "threat", "expected"),
    [
        ("fgsm:eps=4/255", {"norm": "Linf", "eps": 0.1, "steps": 1}, "one_step"),
        ("pgd:eps=4/255", {"norm": "Linf", "eps": 0.1, "steps": 10}, "iterated"),
        ("apgd", {"norm": "L2", "eps": 0.5, "steps": 10}, "other_norm"),
        ("cw", {}, "other_norm"),
        ("square:eps=1/255", {"norm": "Linf", "eps": 0.1}, "black_box"),
        ("mine", {}, "iterated"),
    ],
)
def test_types(name, threat, expected):
    assert type_of(name, threat) == expected
    assert expected in TYPES


def test_values_by_type():
    (first, _) = compare([trained_report(accuracy={"attack": 0.3}), trained_report(seed=1)]).networks
    assert first.value("adversarial_one_step") == pytest.approx(0.3)
    assert first.value("adversarial_iterated") is None


def checked(report, *failed):
    told = [{"name": "a check", "passed": False, "detail": detail, **more} for detail, more in failed]
    return replace(report, as_saved={"attack_checks": told})


NAMES = [f"fgsm:eps={e}/255" for e in EPS]


@pytest.mark.parametrize(
    ("failed", "left"),
    [
        (("x", {"against": [NAMES[0]]}), NAMES[1:]),
        (("x", {"against": ["*"]}), []),
        (("x", {"against": []}), NAMES),
        ((f"{NAMES[1]} leaves 10 %, x 9 %", {}), [NAMES[0], *NAMES[2:]]),  # older reports name it in words alone
    ],
)
def test_attacks_whose_checks_fail_in_any_report_count_in_no_claim(failed, left):
    accuracy = {name: 0.1 * place for place, name in enumerate(NAMES, 1)}
    reports = [trained_report(accuracy=accuracy), checked(trained_report(seed=1, accuracy=accuracy), failed)]
    found = compare(reports)
    mean = sum(accuracy[name] for name in left) / len(left) if left else None
    for network in found.networks:
        assert network.value("adversarial_one_step") == (None if mean is None else pytest.approx(mean))
        assert network.value("adversarial_accuracy") == pytest.approx(0.25)  # tables show all
    assert any("counts in no claim" in note for note in found.notes) == (len(left) < len(NAMES))


def test_checks_name_the_attacks_that_they_speak_against():
    report = trained_report(accuracy={"clean": 0.9, "attack": 0.5})
    conditions = [
        *report.result.conditions,
        *(
            Condition(
                f"pgd:eps={e}/255",
                f"pgd:eps={e}/255",
                level,
                (0.1, 0.9),
                500,
                0.1,
                0.01,
                kind="attack",
                options={"eps": e / 255, "steps": 10},
                threat={"norm": "Linf", "eps": e / 255, "option": "eps", "steps": 10},
            )
            for e, level in ((1, 0.7), (2, 0.8))
        ),
    ]
    probe = AttackProbe(100, 0.0, True, False, {"pgd:eps=1/255": (60, 70), "pgd:eps=2/255": (60, 10)})
    found: dict[str, tuple[str, ...]] = {}
    for check in checks(conditions, probe):
        assert check.against is not None
        assert check.passed <= (check.against == ())
        found[check.name] = (*found.get(check.name, ()), *check.against)
    assert found["the same images give the same outputs"] == ("*",)
    assert found["attacks do more than random noise of their size"] == ("pgd:eps=1/255",)
    assert found["iterations are at least as strong as one step"] == ("pgd:eps=1/255", "pgd:eps=2/255")
    assert found["accuracy falls with the budget"] == ("pgd:eps=1/255", "pgd:eps=2/255")
    assert found["a large budget breaks nearly everything"] == ()


def sized(report, **sizes):
    conditions = tuple(
        dataclasses.replace(c, l2_mean=next((v for k, v in sizes.items() if c.name.startswith(k)), c.l2_mean))
        for c in report.result.conditions
    )
    return dataclasses.replace(report, result=dataclasses.replace(report.result, conditions=conditions))


def matched(*reports):
    found = compare(list(reports))
    return [n.measured.matched.get("gain|one_step|participation_ratio") for n in found.networks], found.notes


def test_matched_by_the_accuracy_that_they_cost():
    accuracy = {"clean": 0.9, "fog": 0.8, **dict.fromkeys(("fog@1", "fog@2"), 0.85), "snow@1": 0.5, "snow@2": 0.1}
    accuracy |= {NAMES[0]: 0.88, NAMES[1]: 0.52, NAMES[2]: 0.3, NAMES[3]: 0.12}
    # The first costs nothing, the third has no corruption near it.
    dimensions = {"clean": 4, "snow@1": 5, "snow@2": 6, "fog@1": 9, "fog@2": 9}
    dimensions |= {NAMES[0]: 50, NAMES[1]: 5.8, NAMES[2]: 50, NAMES[3]: 7.6}
    report = trained_report(accuracy=accuracy, dimensions=dimensions)
    values, notes = matched(report, trained_report(seed=1, accuracy=accuracy, dimensions=dimensions))
    assert values == [pytest.approx((0.8 + 1.6) / 2 / 8)] * 2
    assert "one-step attacks are matched with corruptions of nearly the same accuracy" in notes


def test_else_by_size_in_all_networks():
    far = {"clean": 0.9, "corruption": 0.85, "attack": 0.1}
    dimensions = {"clean": 4, "attack": 6, "fog": 5, "corruption": 5}
    report = sized(trained_report(accuracy=far, dimensions=dimensions), fgsm=1.0, fog=1.4, snow=3.0)
    other = trained_report(seed=1, dimensions=dimensions, accuracy={"clean": 0.9, "corruption": 0.5, "attack": 0.5})
    values, notes = matched(report, sized(other, fgsm=1.0, fog=9.0, snow=9.0))
    assert values == [pytest.approx(1 / 8), None]
    assert any("nearly the same L2 size, which 1 of 2 networks do not have" in note for note in notes)
