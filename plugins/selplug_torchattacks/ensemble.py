"""AutoAttack as its authors run it.

Source: Croce & Hein, *Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks*, arXiv 2003.01690, and the settings of the authors' own program: 100 steps, 9 targets, 5,000 queries of Square
without rescaling its schedule. The class of torchattacks 3.5.1 uses other settings (10 steps, K - 1 targets, a rescaled
schedule), so its results differ; only its parts are used here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from .victim import Victim

STEPS = 100
QUERIES = 5000
MAX_TARGETS = 9


@dataclass(frozen=True)
class Part:
    """One attack of the ensemble: the class of torchattacks, its settings, and the fewest classes it works with."""

    name: str
    attack: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    min_classes: int = 2


def targets(num_classes: int) -> int:
    """How many other classes the targeted attacks try, the likeliest first: min(9, K - 1)."""
    return min(MAX_TARGETS, num_classes - 1)


def parts(version: str, num_classes: int) -> tuple[list[Part], list[Part]]:
    """The parts of a version that work with K classes, in order, and the parts left out.

    The difference of logits ratio (DLR) needs 3 logits, its targeted form 4.
    """
    targeted = {"steps": STEPS, "n_restarts": 1, "n_classes": targets(num_classes) + 1}
    descent = {"steps": STEPS, "n_restarts": 5 if version == "plus" else 1, "eot_iter": 20 if version == "rand" else 1}
    ce = Part("apgd-ce", "APGD", {"loss": "ce", **descent})
    dlr = Part("apgd-dlr", "APGD", {"loss": "dlr", **descent}, min_classes=3)
    fab = Part("fab", "FAB", {"steps": STEPS, "n_restarts": 5})
    square = Part("square", "Square", {"n_queries": QUERIES, "n_restarts": 1, "resc_schedule": False})
    apgd_t = Part("apgd-t", "APGDT", targeted, min_classes=4)
    fab_t = Part("fab-t", "FAB", {"multi_targeted": True, **targeted})
    wanted = {
        "standard": [ce, apgd_t, fab_t, square],
        "plus": [ce, dlr, fab, square, apgd_t, fab_t],
        "rand": [ce, dlr],
    }[version]
    return (
        [part for part in wanted if num_classes >= part.min_classes],
        [part for part in wanted if num_classes < part.min_classes],
    )


def build(torchattacks: ModuleType, victim: Victim, options: Mapping[str, Any], num_classes: int) -> Any:
    """The ensemble as one attack object: each part attacks the samples that withstood all parts before it."""
    sizes = {"norm": options["norm"], "eps": options["eps"]}
    chosen, _ = parts(options["version"], num_classes)
    attacks = [getattr(torchattacks, part.attack)(victim, **sizes, **part.settings) for part in chosen]
    return attacks[0] if len(attacks) == 1 else torchattacks.MultiAttack(attacks)


def describe(options: Mapping[str, Any], num_classes: int) -> dict[str, Any]:
    """The settings in use, and the parts left out with the reason, ready for JSON."""
    chosen, left_out = parts(options["version"], num_classes)
    return {
        "parts": [{"name": part.name, **_shown(part, num_classes)} for part in chosen],
        "left_out": [f"{part.name} (needs {part.min_classes} classes)" for part in left_out],
    }


def _shown(part: Part, num_classes: int) -> dict[str, Any]:
    settings = {key: value for key, value in part.settings.items() if key not in ("n_classes", "multi_targeted")}
    return settings | ({"targets": targets(num_classes)} if "n_classes" in part.settings else {})
