"""Which type an attack is of, and which attacks count: those that a check of their report speaks against do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..audits.record import AuditRecord
from ..report.style import listing, printable
from .sources import Common

#: Key of a type -> what it is, in order.
TYPES = {
    "one_step": "one-step attacks",
    "iterated": "iterated attacks",
    "other_norm": "attacks in other norms",
    "black_box": "black-box attacks",
}
#: By the name of the plugin, where the threat does not tell.
_BLACK_BOX = {"square", "spsa", "onepixel", "pixle", "nes", "boundary", "hopskipjump", "rays"}
_OTHER_NORMS = {"cw", "deepfool", "sparsefool", "jsma", "eadl1", "eaden", "pgdl2", "pgdrsl2", "ddn"}


def type_of(name: str, threat: Mapping[str, Any]) -> str:
    """A key of :data:`TYPES`, from the attack's name and its ``threat``: ``norm`` and ``steps``, as far as told."""
    plugin = name.partition(":")[0].partition("@")[0]
    if plugin in _BLACK_BOX:
        return "black_box"
    if threat.get("norm", "Linf") != "Linf" or ("norm" not in threat and plugin in _OTHER_NORMS):
        return "other_norm"
    return "one_step" if threat.get("steps") == 1 else "iterated"


def counted(common: Common, attacks: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The attacks that count in claims, by type, and notes on those that do not.

    An attack counts if no check of any report speaks against it: the networks are to be compared under the same ones.
    """
    threats = {condition.name: condition.threat for condition in common.of(common.sources[0])}
    failing: dict[str, list[str]] = {}
    names = list(attacks)
    for source in common.sources:
        for name in _failing(source.report, names, threats):
            failing.setdefault(name, []).append(source.name)
    found: dict[str, list[str]] = {}
    for name in names:
        if name not in failing:
            found.setdefault(type_of(name, threats.get(name, {})), []).append(name)
    notes = [
        f"{printable(name)} counts in no claim: checks of the attacks speak against it in {listing(where)}"
        for name, where in failing.items()
    ]
    return {key: found[key] for key in TYPES if key in found}, notes


def _failing(report: AuditRecord, names: Sequence[str], threats: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Attacks that a failed check speaks against; in older reports those that its detail begins with."""
    found: set[str] = set()
    for check in report.attack_checks or ():
        if check["passed"]:
            continue
        against = check.get("against")
        if against is None:
            against = [name for name in names if str(check["detail"]).startswith(f"{printable(name)} leaves")]
        if "*" in against:
            against = [name for name in names if type_of(name, threats.get(name, {})) != "black_box"]
        found.update(name for name in names if name in against)
    return found
