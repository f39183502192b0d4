"""Worst-case accuracy with each attack on the survivors of those before it, over all attacks on all images.

Needs the test data (``SELPLUG_DATA``): the trained ResNet20 and CIFAR-10.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
from pathlib import Path

from selplug import registry
from selplug.audits.engine.results import AuditResult
from selplug.audits.engine.run import run_audit
from selplug.specs.budgets import worst_case_attacks

from .harness import Row, interleaved, ratio_row

SHARED = Path(os.environ.get("SELPLUG_DATA") or Path(__file__).parents[2] / "shared" / "data")
SPECS = "apgd:eps={eps},apgdt,fab,square:n_queries=500"
PER_CLASS = 6


def rows(rounds: int = 2) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        images = _images(Path(folder))
        # Where more images survive, less is left out.
        return [_row(images, "2/255", rounds, bound=0.5), _row(images, "0.5/255", rounds, bound=1.0)]


def _images(root: Path) -> Path:
    with tarfile.open(SHARED / "cifar10-jpeg.tar.xz") as archive:
        for member in archive:
            parts = Path(member.name).parts
            if member.isfile() and parts[-3] == "test" and int(Path(parts[-1]).stem) < PER_CLASS:
                archive.extract(member, root, filter="data")
    return root


def _row(images: Path, eps: str, rounds: int, bound: float) -> Row:
    options = {
        "data_dir": str(images),
        "split": "test",
        "workers": 0,
        "checkpoint": str(SHARED / "resnet20-12fca82f.th"),
    }
    subject = registry.load("selplug.subjects", "timm")("resnet20_cifar", options)
    attacks = worst_case_attacks(SPECS.format(eps=eps))
    found: dict[str, AuditResult] = {}

    def survivors() -> None:
        found["survivors"] = run_audit(subject, [], {}, worst_case=attacks)

    def everything() -> None:
        found["everything"] = run_audit(subject, attacks, {})

    timings = interleaved({"survivors": survivors, "everything": everything}, rounds)
    what = f"worst case of 4 attacks at {eps}, survivors alone / all images: resnet20, {10 * PER_CLASS} images"
    row = ratio_row(what, "survivors", "everything", timings, bound)
    accuracy = [f"{result.worst_case.accuracy:.4f}" for result in found.values() if result.worst_case]
    return Row(row.what, row.ratio, row.bound, f"{row.detail}; worst-case accuracy {' and '.join(accuracy)}")
