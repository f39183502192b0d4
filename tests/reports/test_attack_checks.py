"""Curves over a budget, and the checks of the attacks: each fails on evidence and on nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

import plotly.graph_objects as go
import pytest
from sample_report import sample_report, told

from selplug.audits.engine.results import AttackProbe, Condition, Step, TargetSuccess, WorstCase
from selplug.audits.facts.attack_checks import checks
from selplug.audits.facts.curves import curves
from selplug.audits.figures import accuracy
from selplug.audits.page.notes import notes
from selplug.audits.page.page import render
from selplug.audits.page.tables import checks_table, conditions_table, survivors_table

N = 200
GOOD = AttackProbe(32, zero_gradient=0.0, randomized=False, probabilities=False)


def condition(entry: dict[str, Any], accuracy: float, targeted: TargetSuccess | None = None) -> Condition:
    ci95 = (max(0, accuracy - 0.05), min(1, accuracy + 0.05))
    return Condition(entry["name"], entry["name"], accuracy, ci95, N, 1.0, 0.1, targeted, **told(entry))


CLEAN = condition({"name": "clean", "kind": "clean"}, 0.9)


def attack(plugin: str, eps: float, steps: int = 10, kind: str = "attack", **options):
    entry = {"name": f"{plugin}:eps={eps:g}", "kind": kind, "options": {"eps": eps, "steps": steps, **options}}
    return entry | {"threat": {"norm": "Linf", "eps": eps, "option": "eps", "steps": steps}}


def judged(entries, accuracies, probe=GOOD):
    """``{what should hold: passed}``, and the details."""
    conditions = [CLEAN, *(condition(e, a) for e, a in zip(entries, accuracies, strict=True))]
    found = checks(conditions, probe)
    return {check.name: check.passed for check in found}, " ".join(check.detail for check in found)


@pytest.mark.parametrize(
    ("probe", "failing", "words"),
    [
        (GOOD, None, "on the first 32 images"),
        (
            dataclasses.replace(GOOD, zero_gradient=0.25),
            "no gradient is exactly zero",
            "zero for 25.0 % of the first 32",
        ),
        (dataclasses.replace(GOOD, randomized=True), "the same images give the same outputs", "EOT"),
        (dataclasses.replace(GOOD, probabilities=True), "outputs are logits", "they are probabilities"),
    ],
)
def test_what_the_probe_saw(probe, failing, words):
    found, detail = judged([], [], probe)
    assert [name for name, passed in found.items() if not passed] == ([failing] if failing else [])
    assert words in detail


FALLS, ZERO = "accuracy falls with the budget", "a large budget breaks nearly everything"


@pytest.mark.parametrize(
    ("accuracies", "falls", "zero"),
    [
        ([0.5, 0.2, 0.0], True, True),
        ([0.5, 0.2, 0.02], True, True),
        ([0.5, 0.2, 0.1], True, False),
        ([0.2, 0.205, 0.0], True, True),  # within a sample or two
        ([0.2, 0.5, 0.0], False, True),
        ([0.95, 0.2, 0.0], False, True),  # above the clean accuracy, where the curve starts
    ],
)
def test_accuracy_over_the_budget(accuracies, falls, zero):
    found, _ = judged([attack("pgd", eps) for eps in (0.01, 0.02, 0.05)], accuracies)
    assert (found[FALLS], found[ZERO]) == (falls, zero)


def test_one_step_and_targeted_sweeps_are_not_judged():
    found, _ = judged([attack("fgsm", eps, steps=1) for eps in (0.01, 0.02)], [0.2, 0.5])
    assert FALLS not in found
    entries = [attack("pgd", eps, target=3) for eps in (0.01, 0.02)]
    for entry in entries:
        entry["name"] += ",target=3"
    assert FALLS not in judged(entries, [0.2, 0.5])[0]


ITERATIONS = "iterations are at least as strong as one step"


def test_iterations_against_one_step_in_the_same_ball():
    one, many, other = attack("fgsm", 0.01, steps=1), attack("pgd", 0.01), attack("bim", 0.02)
    assert judged([one, many, other], [0.3, 0.2, 0.9])[0][ITERATIONS] is True
    found, detail = judged([one, many], [0.3, 0.4])
    assert found[ITERATIONS] is False
    assert "pgd:eps=0.01 leaves 40.0 %, fgsm:eps=0.01 30.0 %" in detail
    assert ITERATIONS not in judged([one, other], [0.3, 0.4])[0]
    assert ITERATIONS not in judged([one, attack("pgd", 0.01, target="random")], [0.3, 0.8])[0]


NOISE = "attacks do more than random noise of their size"


def test_attacks_against_noise():
    entries = [attack("pgd", 0.01), attack("bim", 0.01)]
    weak = dataclasses.replace(GOOD, noise={"pgd:eps=0.01": (28, 31), "bim:eps=0.01": (28, 3)})
    found, detail = judged(entries, [0.2, 0.2], weak)
    assert found[NOISE] is False
    assert "pgd:eps=0.01 leaves 96.9 % of the first 32 images right, noise 87.5 %; so 1 of 2 attacks" in detail
    fine = dataclasses.replace(GOOD, noise={"pgd:eps=0.01": (28, 28), "bim:eps=0.01": (28, 3)})
    assert judged(entries, [0.2, 0.2], fine)[0][NOISE] is True
    assert NOISE not in judged([attack("pgd", 0.01, target=1)], [0.9], weak)[0]


def test_curves_join_what_differs_in_one_number():
    entries = [attack("pgd", 0.02), attack("pgd", 0.01), attack("pgd", 0.01, alpha=0.5), attack("bim", 0.01)]
    entries[2]["name"] = "pgd:eps=0.01,alpha=0.5"
    entries += [{"name": f"salt:share={s}", "kind": "noise", "options": {"share": s}} for s in (0.0, 0.5)]
    entries += [{"name": f"fog@{s}", "kind": "corruption", "options": {"severity": s}} for s in (1, 2)]
    found = curves([CLEAN, *(condition(e, 0.5) for e in entries)])
    assert [(c.name, c.option, c.norm, [v for v, _ in c.points]) for c in found] == [
        ("pgd", "eps", "Linf", [0.0, 0.01, 0.02]),
        ("salt", "share", None, [0.0, 0.5]),
    ]
    assert found[0].points[0][1].name == "clean"


def full_report():
    entries = [attack("pgd", eps) for eps in (0.01, 0.02)]
    entries += [{"name": f"salt:share={s}", "kind": "noise", "options": {"share": s}} for s in (0.0, 0.5)]
    base = sample_report()
    conditions = (
        CLEAN,
        condition(entries[0], 0.3),
        condition(entries[1], 0.6, TargetSuccess(0.25, (0.2, 0.3), 180)),
        *(condition(e, 0.5) for e in entries[2:]),
    )
    worst = WorstCase(0.2, (0.1, 0.3), N, ("clean", "fab"), "Linf", 4 / 255, (Step("fab:<b>", 60, 40),))
    result = dataclasses.replace(base.result, conditions=conditions, layers=(), worst_case=worst, probe=GOOD)
    return dataclasses.replace(base, settings={"perturbations": entries}, result=result)


def test_figure_tables_notes_and_page():
    report = full_report()
    figure = accuracy.budgets(report)
    assert go.Figure(figure).data
    assert figure["data"][0]["x"] == pytest.approx([0, 2.55, 5.1])
    assert figure["data"][0]["y"] == pytest.approx([90, 30, 60])
    assert (figure["data"][1]["xaxis"], figure["data"][1]["x"]) == ("x2", [0.0, 0.5])
    assert survivors_table(report).rows == (("fab:<b>", "60", "20", "40", "20.0 %"),)
    assert [row[-1] for row in conditions_table(report).rows] == ["–", "–", "25.0 % of 180", "–", "–", "–"]
    assert [row[1] for row in checks_table(report).rows] == ["yes", "yes", "yes", "no", "no"]
    failed = [note for note in notes(report) if note.startswith("Check of the attacks failed")]
    assert len(failed) == 2
    page = render(report)
    assert "Accuracy over the budget" in page
    assert "Checks of the attacks" in page
    assert "fab:&lt;b&gt;" in page
    assert "within Linf 4/255" in page


def test_a_report_without_attacks_has_none_of_it():
    report = sample_report()
    assert report.attack_checks is None
    assert report.curves == []
    assert survivors_table(report) is None
    assert checks_table(report) is None
    assert "Accuracy over the budget" not in render(report)
