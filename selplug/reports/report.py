"""The report of an audit: what was measured, of what, with which settings, where."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core.types import AuditResult, Examples
from .attack_checks import Curve, curves
from .attack_checks import summarize as summarize_checks
from .corruptions import summarize

SCHEMA_VERSION = "1.0"


@dataclass(frozen=True)
class Report:
    """One audit with its provenance; :func:`selplug.audit` makes it, ``save`` writes it.

    ``subject`` says which model on which data, ``settings`` everything that was asked for, ``environment`` versions,
    device and times. The three are JSON-ready. ``as_saved`` is for one that was read from its files: the entries of
    ``report.json`` that are made of more than the files hold.
    """

    subject: Mapping[str, Any]
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    result: AuditResult = field(repr=False)
    as_saved: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The content of ``report.json``: plain dicts, lists, numbers and strings; undefined numbers are None."""
        result = self.result
        data = {
            "schema_version": SCHEMA_VERSION,
            "subject": dict(self.subject),
            "settings": dict(self.settings),
            "environment": dict(self.environment),
            "conditions": [asdict(condition) for condition in result.conditions],
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
        return _plain(data)

    def arrays(self) -> dict[str, np.ndarray]:
        """The content of ``units.npz``: ``layer|condition|value`` -> array (per-unit values (U,), eigenvalues (K,))."""
        return {
            f"{layer.name}|{condition}|{value}": array
            for layer in self.result.layers
            for (condition, value), array in layer.arrays.items()
        }

    @property
    def examples(self) -> Examples:
        """A few images beside their perturbed versions."""
        return self.result.examples

    @property
    def attack_checks(self) -> list[dict[str, Any]] | None:
        """What a sane evaluation of attacks has to show, see :mod:`selplug.reports.attack_checks`."""
        if "attack_checks" in self.as_saved:
            found: list[dict[str, Any]] | None = self.as_saved["attack_checks"]
            return found
        return summarize_checks(self.settings, self.result.conditions, self.result.probe)

    @property
    def curves(self) -> list[Curve]:
        """Accuracy over an option in which perturbations differ, see :func:`~selplug.reports.attack_checks.curves`."""
        return curves(self.settings, self.result.conditions)

    @property
    def corruptions(self) -> dict[str, Any] | None:
        """Accuracy per corruption and severity with its means, see :func:`selplug.reports.corruptions.summarize`."""
        if "corruptions" in self.as_saved:
            found: dict[str, Any] | None = self.as_saved["corruptions"]
            return found
        return summarize(self.settings, {c.name: c.accuracy for c in self.result.conditions})

    def network_selectivity(self, condition: str = "clean") -> float:
        """Mean over layers of the layers' mean selectivity; each layer counts the same (arXiv 2003.01262)."""
        values = [layer.conditions[condition]["selectivity"]["mean"] for layer in self.result.layers]
        return float(np.mean(np.array(values, dtype=np.float64)))  # None, an undefined number in a file, is NaN

    def save(self, folder: str | Path) -> Path:
        """Writes ``report.json``, ``units.npz`` and ``report.html``; see :func:`selplug.reports.save`."""
        from . import save

        return save(self, folder)

    def summary(self) -> str:
        """The tables of the terminal as plain text."""
        from .text import summary

        return summary(self)

    def _repr_html_(self) -> str:
        from .text import notebook

        return notebook(self)


def _plain(value: Any) -> Any:
    """JSON-ready: mappings and sequences copied, numpy and torch scalars unwrapped, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
