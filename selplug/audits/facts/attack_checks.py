"""Accuracy over the budget of an attack, and what a sane evaluation of attacks has to show.

Source: Carlini et al., *On evaluating adversarial robustness*, arXiv 1902.06705, section 4 and the checklist of section
3.2: larger budgets never help the defender, iterations beat a single step, attacks beat noise, and a large budget
breaks everything. What a run has no evidence for is not judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...report.style import percent, printable
from ..engine.results import AttackProbe, Condition
from .curves import Curve, curves

#: Accuracies on the same samples may differ by as much, in samples and as a share, before a check fails.
SLACK_SAMPLES, SLACK_SHARE = 1, 0.01
_ALL = ("*",)
#: What is left at a large budget may be as much.
ABOUT_ZERO = 0.02


@dataclass(frozen=True)
class Check:
    """One check: ``name`` says what should hold, ``detail`` what was seen.

    ``against``: the attacks that a failed check speaks against, ``"*"`` for all by gradient; none where larger budgets
    are all that is missing, and None in files that do not tell.
    """

    name: str
    passed: bool
    detail: str
    against: tuple[str, ...] | None = None


def checks(conditions: Sequence[Condition], probe: AttackProbe | None) -> list[Check]:
    """Every check that the run has evidence for."""
    found = []
    if probe is not None:
        found += [*_of_the_model(probe), *_against_noise(conditions, probe)]
    found += list(_iterations(conditions))
    for curve in curves(conditions):
        if curve.norm and not curve.one_step and "target=" not in curve.name:  # a single long step may overshoot
            found += list(_over_budget(curve))
    return found


def summarize(conditions: Sequence[Condition], probe: AttackProbe | None) -> list[dict[str, Any]] | None:
    """The checks ready for JSON; None where no attack ran."""
    if probe is None:
        return None
    return [
        {"name": c.name, "passed": c.passed, "detail": c.detail, "against": c.against}
        for c in checks(conditions, probe)
    ]


def _of_the_model(probe: AttackProbe) -> Iterator[Check]:
    where = f"the first {probe.samples} images"
    yield Check(
        "the same images give the same outputs",
        not probe.randomized,
        f"other outputs the second time on {where}: average over the randomness (EOT), as eotpgd or "
        "autoattack:version=rand do"
        if probe.randomized
        else f"on {where}",
        _ALL if probe.randomized else (),
    )
    yield Check(
        "no gradient is exactly zero",
        probe.zero_gradient == 0,
        f"zero for {percent(probe.zero_gradient)} of {where}"
        + (
            ": attacks by the gradient of the cross-entropy do nothing there; add apgd:loss=dlr, fab and square"
            if probe.zero_gradient
            else ""
        ),
        _ALL if probe.zero_gradient else (),
    )
    yield Check(
        "outputs are logits",
        not probe.probabilities,
        "they are probabilities, on which the cross-entropy of most attacks is flat: return logits"
        if probe.probabilities
        else "they are no probabilities",
        _ALL if probe.probabilities else (),
    )


def _against_noise(conditions: Sequence[Condition], probe: AttackProbe) -> Iterator[Check]:
    """An attack that does less than noise of its size is broken."""
    untargeted = {condition.name for condition in conditions if "target" not in condition.options}
    pairs = {name: pair for name, pair in probe.noise.items() if name in untargeted}
    if not pairs:
        return
    weak = {name: pair for name, pair in pairs.items() if _more(pair[1], pair[0], probe.samples)}
    shown = weak or pairs
    name, (noise, attack) = max(shown.items(), key=lambda item: item[1][1] - item[1][0])
    yield Check(
        "attacks do more than random noise of their size",
        not weak,
        f"{printable(name)} leaves {percent(attack / probe.samples)} of the first {probe.samples} images right, noise "
        f"{percent(noise / probe.samples)}"
        + (f"; so {len(weak)} of {len(pairs)} attacks" if weak else f"; none of {len(pairs)} attacks does less"),
        tuple(weak),
    )


def _iterations(conditions: Sequence[Condition]) -> Iterator[Check]:
    """Several steps in the same ball are at least as strong as one."""
    balls: dict[tuple[str, float], tuple[list[Condition], list[Condition]]] = {}
    for condition in conditions:
        threat = condition.threat
        if condition.kind == "attack" and {"eps", "steps"} <= threat.keys() and "target" not in condition.options:
            one, many = balls.setdefault((threat["norm"], threat["eps"]), ([], []))
            (one if threat["steps"] == 1 else many).append(condition)
    for one, many in balls.values():
        if not one or not many:
            continue
        single = min(one, key=lambda c: c.accuracy)
        worst = max(many, key=lambda c: c.accuracy)
        weak = _rises(single, worst)
        yield Check(
            "iterations are at least as strong as one step",
            not weak,
            f"{printable(worst.name)} leaves {percent(worst.accuracy)}, {printable(single.name)} "
            f"{percent(single.accuracy)}"
            + (": take more steps or another step size, or suspect masked gradients" if weak else ""),
            tuple(c.name for c in many if _rises(single, c)),
        )


def _over_budget(curve: Curve) -> Iterator[Check]:
    rising = [
        (small, large)
        for (_, small), (_, large) in zip(curve.points, curve.points[1:], strict=False)
        if _rises(small, large)
    ]
    name = printable(curve.name)
    yield Check(
        "accuracy falls with the budget",
        not rising,
        f"{name}: rises from {percent(rising[0][0].accuracy)} to {percent(rising[0][1].accuracy)} at "
        f"{printable(rising[0][1].name)}: the attack does not find what smaller budgets hold"
        if rising
        else f"{name}: over {len(curve.points)} budgets",
        tuple(condition.name for budget, condition in curve.points if budget > 0) if rising else (),
    )
    last = curve.points[-1][1]
    yield Check(
        "a large budget breaks nearly everything",
        last.accuracy <= ABOUT_ZERO,
        f"{printable(last.name)} leaves {percent(last.accuracy)}"
        + (
            "; go on to larger budgets: if accuracy stays above 0 the attack fails and the model need not be robust"
            if last.accuracy > ABOUT_ZERO
            else ""
        ),
        (),
    )


def _rises(small: Condition, large: Condition) -> bool:
    """Whether accuracy is clearly higher where it cannot be."""
    return _more(round(large.accuracy * large.samples), round(small.accuracy * small.samples), small.samples)


def _more(first: int, second: int, samples: int) -> bool:
    return first - second > max(SLACK_SAMPLES, SLACK_SHARE * samples)
