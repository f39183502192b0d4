"""What ``--baseline`` names: the network whose errors under corruptions others are related to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import InputError
from .facts.corruptions import table
from .reading import read

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
    if not path.exists():
        raise InputError(f"--baseline: expected alexnet, a report.json or its folder, got {source!r} (no such file)")
    try:
        report = read(path, arrays=False)
    except InputError as error:
        raise InputError(f"--baseline: {path} is not a report of selplug: {error}") from error
    found = table(report.result.conditions)
    if not found["accuracy"]:
        raise InputError(f"--baseline: {path} has no corruptions; audit the baseline with --perturb corruptions")
    errors = {name: {s: 1 - a for s, a in row.items()} for name, row in found["accuracy"].items()}
    name, clean = str(report.subject.get("model", "model")), report.clean.accuracy
    return {"name": name, "clean_error": 1 - clean, "strengths": found["strengths"], "errors": errors}
