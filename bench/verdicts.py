"""How often verdicts on claims are wrong where nothing is to be found, and missed where something is.

``python -m bench verdicts --repeats 1000``. A rate of false verdicts is set beside its bound plus what chance adds to
it in 99 of 100 cases; power stands as the share missed, of which 20 % are allowed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from selplug.comparisons.claims import ROWS
from selplug.comparisons.claims import Row as ClaimRow
from selplug.comparisons.evidence import Draws, Found
from selplug.comparisons.network import Network
from selplug.comparisons.statistics import LEVEL, POWER, SLACK
from selplug.comparisons.verdicts import CONTRADICTED, SUPPORTED, judge

from .harness import Row
from .made_up_sheets import (
    BENT,
    FIXED,
    MONOTONIC,
    RIGHT,
    STRAIGHT,
    TURNING,
    improving,
    mean_of_three,
    nothing,
    steps,
    sweeps,
    three_against_three,
    uneven,
)

DRAWS = Draws(2000, 0)
BY_ID = {row.claim.id: row for row in ROWS}
CORRELATIONS = ("selectivity-dimensionality", "selectivity-gradients-samples", "selectivity-gradients-units")
ROBUSTNESS = ("selectivity-corruptions", "selectivity-attacks")

_CORRELATED = (*CORRELATIONS, *ROBUSTNESS)
_SHAPES = ("exponent-noise", "exponent-fgsm")

Make = Callable[[np.random.Generator], Sequence[Network]]


@dataclass
class Count:
    """Of ``repeats`` sheets: how often each claim was supported or contradicted alone, and any claim on the sheet."""

    repeats: int
    supported: dict[str, int]
    contradicted: dict[str, int]
    enough: dict[str, int]
    on_sheet: dict[str, int]
    any_false: int


def count(make: Make, claims: Sequence[str], repeats: int, right: Sequence[tuple[str, str]] = ()) -> Count:
    """Judges as many made-up sheets; ``right`` are claims with the verdict that is no error."""
    supported, contradicted, enough, on_sheet = (dict.fromkeys(claims, 0) for _ in range(4))
    found = Count(repeats, supported, contradicted, enough, on_sheet, 0)
    for repeat in range(repeats):
        networks = make(np.random.default_rng(repeat))
        evidence = {claim: BY_ID[claim].evidence(networks, DRAWS) for claim in claims}
        for claim, own in evidence.items():
            if own.enough:
                found.enough[claim] += 1
                found.supported[claim] += max(part.with_claim for part in own.parts) <= LEVEL / 2 + SLACK
                found.contradicted[claim] += max(part.against_claim for part in own.parts) <= LEVEL / 2 + SLACK
        rows = [ClaimRow(BY_ID[claim].claim, _given(own)) for claim, own in evidence.items()]
        judged = judge(networks, DRAWS, rows) if len(rows) > 1 else ()
        for one in judged:
            found.on_sheet[one.claim.id] += one.verdict == SUPPORTED
        found.any_false += any(
            one.verdict in (SUPPORTED, CONTRADICTED) and (one.claim.id, one.verdict) not in right for one in judged
        )
    return found


def _given(found: Found) -> Callable[[Sequence[Network], Draws], Found]:
    return lambda networks, draws: found


def rows(repeats: int = 1000) -> Iterator[Row]:
    """False rates first, then power."""
    start = time.perf_counter()
    for alphas, seeds in ((3, 3), (3, 5), (5, 3), (7, 3)):
        found = count(nothing(alphas, seeds), list(BY_ID), repeats, RIGHT)
        name = f"no effect, seeds of an alpha share .9 of it, {alphas} x {seeds}"
        yield from _worst(name, found, RIGHT)
        yield _rate(f"{name}, whole sheet: any false verdict", found.any_false, repeats, LEVEL)
    found = count(uneven, CORRELATIONS, repeats)
    yield from _worst("no effect, 1 to 6 seeds per alpha, 7 alphas", found)
    for what, make in FIXED.items():
        found = count(make, ROBUSTNESS, repeats)
        yield from _worst(f"alpha moves clean accuracy alone, {what}", found)
    found = count(mean_of_three, ("dimensionality-gain",), repeats)
    yield from _worst("mean of 3 networks, no effect", found)
    found = count(three_against_three, ("robust-blocks", "robust-specialization", "robust-closeness"), repeats)
    yield from _worst("3 robust against 3 standard networks, no effect", found)
    found = count(improving, ("robust-overfitting",), repeats)
    yield from _worst("late layers' CKA rises from .6 to .9 on both sets", found)
    for what, error, exponents in MONOTONIC:
        found = count(sweeps(exponents, error), _SHAPES, repeats)
        wrong = max(found.contradicted["exponent-noise"], found.supported["exponent-fgsm"])
        judged = f", judged in {100 * found.enough['exponent-noise'] / repeats:.0f} %"
        yield _rate(f"{what}: not monotonic", wrong, repeats, LEVEL / 2, judged)
    found = count(sweeps(BENT, 0.01), _SHAPES, repeats)
    yield _rate("bent a little, loss .07: monotonic", found.supported["exponent-noise"], repeats, LEVEL / 2)
    found = count(sweeps(TURNING, 0.01), ("exponent-fgsm",), repeats)
    yield _missed("falls and rises again: not monotonic", found.supported["exponent-fgsm"], repeats)
    found = count(sweeps(STRAIGHT, 0.02), ("exponent-noise",), repeats)
    yield _missed("monotonic, errors of .02 in a range of .4: monotonic", found.supported["exponent-noise"], repeats)
    for claims in (_CORRELATED, tuple(BY_ID)):
        found = count(steps, claims, repeats)
        for claim in ("selectivity-dimensionality", *ROBUSTNESS):
            share = found.on_sheet[claim] / repeats
            if claims is _CORRELATED:
                yield _missed(f"one sd of seeds per step, 7 x 3: {claim}", found.supported[claim], repeats)
            what = f"   {claim} adjusted for {len(claims)} claims, missed"
            yield Row(what, 1 - share, float("inf"), f"power {share:.3f}")
    seconds = time.perf_counter() - start
    yield Row("seconds, all of it", seconds, float("inf"), f"{repeats} repeats")


def _worst(what: str, found: Count, right: Sequence[tuple[str, str]] = ()) -> Iterator[Row]:
    """The claim that was wrongly supported most often, and the one that was wrongly contradicted."""
    for verdict, counts in ((SUPPORTED, found.supported), (CONTRADICTED, found.contradicted)):
        wrong = {claim: number for claim, number in counts.items() if (claim, verdict) not in right}
        claim = max(wrong, key=lambda name: wrong[name])
        judged = sum(number > 0 for number in found.enough.values())
        told = f", {claim} is the worst of {judged} claims with data" if judged > 1 else ""
        yield _rate(f"{what}: {verdict}", wrong[claim], found.repeats, LEVEL / 2, told, max(judged, 1))


def _rate(what: str, wrong: int, repeats: int, level: float, detail: str = "", looks: int = 1) -> Row:
    # The worst of several claims is further out than one of them.
    away = float(ndtri(0.99 ** (1 / looks)))
    bound = level + away * np.sqrt(level * (1 - level) / repeats)
    return Row(what, wrong / repeats, float(bound), f"{wrong} of {repeats}, {100 * level:g} % wanted{detail}")


def _missed(what: str, seen: int, repeats: int) -> Row:
    return Row(f"{what}, missed", 1 - seen / repeats, 1 - POWER, f"power {seen / repeats:.3f}")
