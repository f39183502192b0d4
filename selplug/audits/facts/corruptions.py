"""Robustness to corruptions: accuracy per corruption and severity, its mean, and the errors relative to a baseline.

Source: Hendrycks & Dietterich, arXiv 1903.12261, section 4.2. ``E[c,s]`` is the error under corruption ``c`` at
severity ``s``, ``B`` that of the baseline: ``CE[c] = sum_s E[c,s] / sum_s B[c,s]``, and relative to clean images
``sum_s (E[c,s] - E[clean]) / sum_s (B[c,s] - B[clean])``; mCE and relative mCE are their means over corruptions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..engine.results import Condition, clean_of


def table(conditions: Sequence[Condition]) -> dict[str, Any]:
    """``accuracy[corruption][severity]``, severities as text, and the ``strengths`` they have.

    Where a run has several strengths, they stand behind the corruption's name.
    """
    corrupted = [condition for condition in conditions if {"corruption", "severity"} <= condition.options.keys()]
    sets = sorted({str(condition.options.get("strengths")) for condition in corrupted})
    rows: dict[str, dict[str, float]] = {}
    for condition in corrupted:
        options = condition.options
        suffix = f" ({options.get('strengths')})" if len(sets) > 1 else ""
        rows.setdefault(f"{options['corruption']}{suffix}", {})[str(options["severity"])] = condition.accuracy
    return {"strengths": ", ".join(sets), "accuracy": rows}


def summarize(conditions: Sequence[Condition], baseline: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """What a report says of corruptions, JSON-ready; None if it has none.

    Args:
        conditions: of the report; with a baseline the clean one among them.
        baseline: as :func:`~selplug.audits.baseline.load_baseline` gives it.

    Returns:
        ``strengths``, ``accuracy`` (see :func:`table`), ``mean_accuracy`` (over severities, then corruptions), and with
        a baseline of the same strengths its name as ``baseline``, ``corruption_error`` per corruption, ``mce`` and
        ``relative_mce`` over the corruptions that both have at the same severities; None where there are none.
    """
    result = table(conditions)
    rows = result["accuracy"]
    if not rows:
        return None
    result["mean_accuracy"] = _mean([_mean(row.values()) for row in rows.values()])
    result |= {"baseline": baseline["name"] if baseline else None, "corruption_error": {}}
    relative = []
    if baseline and result["strengths"] in (baseline["strengths"], *baseline.get("also", ())):
        for name, row in rows.items():
            other = baseline["errors"].get(name)
            if other is None or other.keys() != row.keys():
                continue
            error, base = 1 - _mean(row.values()), _mean(other.values())
            if base > 0:
                result["corruption_error"][name] = error / base
            if base > baseline["clean_error"]:
                relative.append((error - (1 - clean_of(conditions).accuracy)) / (base - baseline["clean_error"]))
    result["mce"] = _mean(result["corruption_error"].values()) if result["corruption_error"] else None
    result["relative_mce"] = _mean(relative) if relative else None
    return result


def _mean(values: Any) -> float:
    values = list(values)
    return sum(values) / len(values)
