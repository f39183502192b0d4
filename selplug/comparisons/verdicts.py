"""Verdicts on claims, held to an error rate: on a sheet of claims none is wrong in 95 % of cases.

A claim with several parts is supported if each part lies on its side, so the largest of their p-values counts. The
other side is judged by the same rule. The two-sided p-values of all claims that could be judged are adjusted by Holm.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..report.style import listing
from .claims import ROWS, Claim, Row
from .evidence import Draws, Found, Part
from .network import Network
from .statistics import LEVEL, SLACK, Estimate, holm, two_sided

SUPPORTED, CONTRADICTED, INCONCLUSIVE, NOT_ENOUGH = "supported", "contradicted", "inconclusive", "not enough data"
VERDICTS = (SUPPORTED, CONTRADICTED, INCONCLUSIVE, NOT_ENOUGH)


@dataclass(frozen=True)
class PartFacts:
    """One part of a claim as it is told: the estimate of what ``label`` says, which has to lie on ``side``."""

    label: str
    side: str
    estimate: Estimate


@dataclass(frozen=True)
class Judged:
    """A claim beside the numbers; ``why`` says what decided.

    ``estimate`` is of the part that decided, the weakest one; ``parts`` are all of them. ``p`` is that of the claim
    with all of its parts, ``p_adjusted`` that among the ``tests`` claims of the sheet; None without a verdict.
    ``smallest_effect`` is the smallest one that this design finds with 80 % power among as many, None if none.
    ``in_protocol`` is None without a protocol.
    """

    claim: Claim
    estimate: Estimate
    parts: tuple[PartFacts, ...]
    verdict: str
    why: str
    p: float | None = None
    p_adjusted: float | None = None
    tests: int = 0
    smallest_effect: float | None = None
    in_protocol: bool | None = None

    def __repr__(self) -> str:
        return f"Judged({self.claim.id!r}, {self.verdict!r}, {self.estimate!r})"


def judge(
    networks: Sequence[Network],
    draws: Draws,
    rows: Sequence[Row] = ROWS,
    planned: Collection[str] | None = None,
    others: Sequence[Network] | None = None,
) -> tuple[Judged, ...]:
    """The verdicts of a sheet.

    Args:
        networks: earlier epochs of a run count where a claim is about them alone.
        draws: permutations where there are too many to try all.
        rows: the claims, in order.
        planned: ids of the claims that a protocol names; None without a protocol. They alone are the sheet: those that
            were added later do not weigh on them, and are adjusted for all claims.
        others: the networks that claims beyond the protocol are judged on; by default the same.
    """
    beyond = networks if others is None else others
    inside = [planned is None or row.claim.id in planned for row in rows]
    found = [row.evidence(networks if own else beyond, draws) for row, own in zip(rows, inside, strict=True)]
    plain = [_p(one) for one in found]
    sheet = [place for place, one in enumerate(found) if one.enough and inside[place]]
    every = [place for place, one in enumerate(found) if one.enough]
    adjusted = dict(zip(every, holm([plain[place] for place in every]), strict=True))
    adjusted |= dict(zip(sheet, holm([plain[place] for place in sheet]), strict=True))
    return tuple(
        _judged(
            row.claim,
            one,
            plain[place],
            adjusted.get(place),
            len(sheet if inside[place] else every),
            None if planned is None else inside[place],
        )
        for place, (row, one) in enumerate(zip(rows, found, strict=True))
    )


def _p(found: Found) -> float:
    return two_sided(*(max(side) for side in _sides(found)))


def _sides(found: Found) -> tuple[list[float], list[float]]:
    return [part.with_claim for part in found.parts], [part.against_claim for part in found.parts]


def _judged(
    claim: Claim, found: Found, p: float, adjusted: float | None, tests: int, in_protocol: bool | None
) -> Judged:
    parts = tuple(PartFacts(part.label, part.side, part.tested.estimate) for part in found.parts)
    weakest = _weakest(found.parts)
    estimate = weakest.tested.estimate
    if adjusted is None:
        return Judged(claim, estimate, parts, NOT_ENOUGH, found.remark or claim.needs, in_protocol=in_protocol)
    level = LEVEL / tests
    sizes = [part.tested.smallest(level) for part in found.parts]
    smallest = weakest.tested.smallest(level) if all(size is not None for size in sizes) else None
    towards = max(part.with_claim for part in found.parts) <= max(part.against_claim for part in found.parts)
    if adjusted <= LEVEL + SLACK:
        verdict = SUPPORTED if towards else CONTRADICTED
        why = _all_on(found.parts, "the claim's" if towards else "the other")
    else:
        verdict, why = INCONCLUSIVE, _open(found.parts, p, tests, smallest)
    why = "; ".join(filter(None, (why, found.remark)))
    return Judged(claim, estimate, parts, verdict, why, p, adjusted, tests, smallest, in_protocol)


def _weakest(parts: Sequence[Part]) -> Part:
    """The part that decides: the largest p-value on the side to which all of them lean."""
    towards = max(part.with_claim for part in parts) <= max(part.against_claim for part in parts)
    defined = [part for part in parts if part.tested.estimate.value is not None] or list(parts)
    return max(defined, key=lambda part: part.with_claim if towards else part.against_claim)


def _all_on(parts: Sequence[Part], side: str) -> str:
    return f"on {side} side" if len(parts) == 1 else f"all {len(parts)} parts are on {side} side"


def _open(parts: Sequence[Part], p: float, tests: int, smallest: float | None) -> str:
    """Why neither side is decided."""
    undefined = [part.label for part in parts if part.tested.estimate.value is None]
    clear = {
        "holds": [part.label for part in parts if part.with_claim <= LEVEL / 2 + SLACK],
        "fails": [part.label for part in parts if part.against_claim <= LEVEL / 2 + SLACK],
    }
    decided = [*clear["holds"], *clear["fails"]]
    said = []
    if undefined:
        said.append(f"cannot be told apart with these configurations: {listing(undefined)}")
    if (decided and len(decided) < len(parts)) or (clear["holds"] and clear["fails"]):
        rest = [part.label for part in parts if part.label not in decided and part.label not in undefined]
        kinds = (("on the claim's side", clear["holds"]), ("on the other side", clear["fails"]), ("open", rest))
        said.append("the parts part: " + "; ".join(f"{name}: {listing(labels)}" for name, labels in kinds if labels))
    elif not undefined and p <= LEVEL + SLACK:
        said.append(f"told from chance by itself, but not among {tests} claims")
    elif not undefined:
        said.append("not told from chance")
    if smallest is None and not undefined:
        said.append(f"among {tests} claims this design finds no effect, however large")
    return "; ".join(said)
