"""Robustness to corruptions: accuracy per corruption and severity, its mean, and the errors relative to a baseline.

Source: Hendrycks & Dietterich, arXiv 1903.12261, section 4.2. ``E[c,s]`` is the error under corruption ``c`` at
severity ``s``, ``B`` that of the baseline: ``CE[c] = sum_s E[c,s] / sum_s B[c,s]``, and relative to clean images
``sum_s (E[c,s] - E[clean]) / sum_s (B[c,s] - B[clean])``; mCE and relative mCE are their means over corruptions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.errors import InputError

#: AlexNet's errors, means over the five severities, as the benchmark's authors published them with ImageNet-C.
_ALEXNET = {
    "gaussian_noise": 0.886428, "shot_noise": 0.894468, "impulse_noise": 0.922640, "defocus_blur": 0.819880,
    "glass_blur": 0.826268, "motion_blur": 0.785948, "zoom_blur": 0.798360, "snow": 0.866816, "frost": 0.826572,
    "fog": 0.819324, "brightness": 0.564592, "contrast": 0.853204, "elastic_transform": 0.646056, "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}  # fmt: skip
ALEXNET = {
    "name": "alexnet",
    "clean_error": 0.435,
    "strengths": "imagenet",
    "also": ["the ImageNet-C files"],  # on which they were measured
    "errors": {name: dict.fromkeys("12345", error) for name, error in _ALEXNET.items()},
}


def load_baseline(source: str) -> dict[str, Any]:
    """``alexnet``, or a report's errors: ``name``, ``clean_error``, ``strengths``, ``errors[corruption][severity]``.

    Args:
        source: the word, a ``report.json``, or the folder that holds one.

    Raises:
        InputError: no such report, or one without corruptions.
    """
    if source == "alexnet":
        return ALEXNET
    path = Path(source)
    path = path / "report.json" if path.is_dir() else path
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        accuracies = {condition["name"]: condition["accuracy"] for condition in data["conditions"]}
        found = table(data["settings"], accuracies)
        name, clean = str(data["subject"]["model"]), accuracies["clean"]
    except OSError as error:
        raise InputError(
            f"--baseline: expected alexnet, a report.json or its folder, got {source!r} ({error.strerror or error})"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"--baseline: {path} is not a report of selplug ({error!r})") from error
    if not found["accuracy"]:
        raise InputError(f"--baseline: {path} has no corruptions; audit the baseline with --perturb corruptions")
    errors = {name: {s: 1 - a for s, a in row.items()} for name, row in found["accuracy"].items()}
    return {"name": name, "clean_error": 1 - clean, "strengths": found["strengths"], "errors": errors}


def table(settings: Mapping[str, Any], accuracies: Mapping[str, float]) -> dict[str, Any]:
    """``accuracy[corruption][severity]``, severities as text, and the ``strengths`` they have.

    Where a run has several strengths, they stand behind the corruption's name.
    """
    entries = [
        (entry["options"], accuracies[entry["name"]])
        for entry in settings.get("perturbations", ())
        if isinstance(entry, Mapping) and {"corruption", "severity"} <= entry.get("options", {}).keys()
    ]
    sets = sorted({str(options.get("strengths")) for options, _ in entries})
    rows: dict[str, dict[str, float]] = {}
    for options, accuracy in entries:
        suffix = f" ({options.get('strengths')})" if len(sets) > 1 else ""
        rows.setdefault(f"{options['corruption']}{suffix}", {})[str(options["severity"])] = accuracy
    return {"strengths": ", ".join(sets), "accuracy": rows}


def summarize(settings: Mapping[str, Any], accuracies: Mapping[str, float]) -> dict[str, Any] | None:
    """What a report says of corruptions, JSON-ready; None if it has none.

    Args:
        settings: of the report; ``baseline`` as :func:`load_baseline` gives it, if there is one.
        accuracies: by the name of the condition.

    Returns:
        ``strengths``, ``accuracy`` (see :func:`table`), ``mean_accuracy`` (over severities, then corruptions), and with
        a baseline of the same strengths its name as ``baseline``, ``corruption_error`` per corruption, ``mce`` and
        ``relative_mce`` over the corruptions that both have at the same severities; None where there are none.
    """
    result = table(settings, accuracies)
    rows = result["accuracy"]
    if not rows:
        return None
    result["mean_accuracy"] = _mean([_mean(row.values()) for row in rows.values()])
    baseline = settings.get("baseline")
    result |= {"baseline": baseline["name"] if baseline else None, "corruption_error": {}}
    relative = []
    if baseline and result["strengths"] in (baseline["strengths"], *baseline.get("also", ())):
        for name, row in rows.items():
            other = baseline["errors"].get(name, {})
            if other.keys() != row.keys():
                continue
            error, base = 1 - _mean(row.values()), _mean(other.values())
            if base > 0:
                result["corruption_error"][name] = error / base
            if base > baseline["clean_error"]:
                relative.append((error - (1 - accuracies["clean"])) / (base - baseline["clean_error"]))
    result["mce"] = _mean(result["corruption_error"].values()) if result["corruption_error"] else None
    result["relative_mce"] = _mean(relative) if relative else None
    return result


def _mean(values: Any) -> float:
    values = list(values)
    return sum(values) / len(values)
