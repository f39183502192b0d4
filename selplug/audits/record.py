"""The report of an audit: what was measured, of what, with which settings, where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..core.clean import CLEAN
from ..core.errors import InputError
from ..report.jsonable import jsonable
from .engine.results import AuditResult, Condition, Examples, LayerResult
from .facts.attack_checks import summarize as summarize_checks
from .facts.corruptions import summarize
from .facts.curves import Curve, curves

SCHEMA_VERSION = "1.0"


@dataclass(frozen=True)
class AuditRecord:
    """One audit with its provenance; :func:`selplug.audit` makes it, ``save`` writes it.

    ``subject`` says which model on which data, ``settings`` everything that was asked for, ``environment`` versions,
    device and times, ``plan`` the plan with its digest, see :class:`~selplug.audits.plan.AuditPlan` (None in older
    files). All are JSON-ready. ``as_saved`` is for one that was read from its files: the entries of
    ``report.json`` that are made of more than the files hold.
    """

    subject: Mapping[str, Any]
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    result: AuditResult = field(repr=False)
    as_saved: Mapping[str, Any] = field(default_factory=dict, repr=False)
    plan: Mapping[str, Any] | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The content of ``report.json``: plain dicts, lists, numbers and strings; undefined numbers are None."""
        result = self.result
        data = {
            "schema_version": SCHEMA_VERSION,
            "subject": dict(self.subject),
            "settings": dict(self.settings),
            "plan": self.plan,
            "environment": dict(self.environment),
            "conditions": [_condition(condition) for condition in result.conditions],
            "worst_case": asdict(result.worst_case) if result.worst_case else None,
            "attack_checks": self.attack_checks,
            "corruptions": self.corruptions,
            "layers": [
                {
                    "name": layer.name,
                    "kind": layer.kind,
                    "units": layer.units,
                    "dead_units": layer.dead_units,
                    "conditions": layer.conditions,
                    "differences": layer.differences,
                }
                for layer in result.layers
            ],
            "between_layers": result.between_layers,
        }
        return jsonable(data)

    def arrays(self) -> dict[str, np.ndarray]:
        """The content of ``units.npz``: ``layer|condition|value`` -> array (per-unit values (U,), eigenvalues (K,))."""
        return {
            f"{layer.name}|{condition}|{value}": array
            for layer in self.result.layers
            for (condition, value), array in layer.arrays.items()
        }

    @property
    def clean(self) -> Condition:
        """The condition of clean images."""
        return self.result.clean

    @property
    def examples(self) -> Examples:
        """A few images beside their perturbed versions."""
        return self.result.examples

    @property
    def attack_checks(self) -> list[dict[str, Any]] | None:
        """What a sane evaluation of attacks has to show, see :mod:`selplug.audits.facts.attack_checks`."""
        if "attack_checks" in self.as_saved:
            found: list[dict[str, Any]] | None = self.as_saved["attack_checks"]
            return found
        return summarize_checks(self.result.conditions, self.result.probe)

    @property
    def curves(self) -> list[Curve]:
        """Accuracy over an option in which perturbations differ, see :func:`~selplug.audits.facts.curves.curves`."""
        return curves(self.result.conditions)

    @property
    def corruptions(self) -> dict[str, Any] | None:
        """Accuracy per corruption and severity, see :func:`~selplug.audits.facts.corruptions.summarize`."""
        if "corruptions" in self.as_saved:
            found: dict[str, Any] | None = self.as_saved["corruptions"]
            return found
        return summarize(self.result.conditions, self.settings.get("baseline"))

    def network_selectivity(self, condition: str = CLEAN) -> float:
        """Mean over layers of the layers' mean selectivity; each layer counts the same (arXiv 2003.01262)."""
        values = [layer.conditions[condition]["selectivity"]["mean"] for layer in self.result.layers]
        return float(np.mean(np.array(values, dtype=np.float64)))  # None, an undefined number in a file, is NaN

    def layer_map(self, measure: str = "cka") -> tuple[str, list[list[Any]]]:
        """What a map layer x layer of clean images shows, as in "debiased", and its L rows of L numbers.

        Raises:
            InputError: no such map was measured.
        """
        maps: dict[str, tuple[str, list[list[Any]]]] = {}
        for name, values in self.result.between_layers.items():
            for key, value in values.items():
                if isinstance(value, list) and len(value) == len(self.result.layers):
                    maps.setdefault(name, (key, value))
        if measure not in maps:
            known = f"has those of {', '.join(maps)}" if maps else "has none; audit with the measure cka"
            raise InputError(f"no map between layers by {measure!r}: this report {known}")
        return maps[measure]


def _condition(condition: Condition) -> dict[str, Any]:
    # Not asdict() on all of it: that copies options, and those of a third party may be what cannot be copied.
    targeted = asdict(condition.targeted) if condition.targeted else None
    return {**vars(condition), "targeted": targeted}


def find_layer(report: AuditRecord, name: str) -> LayerResult:
    """The layer of this name.

    Raises:
        InputError: there is none.
    """
    for layer in report.result.layers:
        if layer.name == name:
            return layer
    known = ", ".join(layer.name for layer in report.result.layers)
    raise InputError(f"expected the name of a layer of this report ({known}), got {name!r}")
