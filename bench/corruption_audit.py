"""All measures under the 75 corruptions of the benchmark, over 76 bare forward passes of the same images.

A ResNet20 that others trained, on 1,000 CIFAR-10 test images; without these files (``SELPLUG_DATA``) nothing is run.
"""

from __future__ import annotations

import os
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from selplug import registry, specs
from selplug.audits.engine.run import run_audit
from selplug.core.measures.metrics import ClassSelectivity, Dimensionality
from selplug.core.types import MeasureFactory, Subject

from .harness import Row

SHARED = Path(os.environ.get("SELPLUG_DATA") or Path(__file__).parents[2] / "shared" / "data")
ARCHIVE, WEIGHTS = SHARED / "cifar10-jpeg.tar.xz", SHARED / "resnet20-12fca82f.th"
PER_CLASS, CLASSES, BATCH = 100, 10, 128
MEASURES: dict[str, MeasureFactory] = {"selectivity": ClassSelectivity, "dimensionality": Dimensionality}


def rows(passes: int = 5) -> list[Row]:
    if not (ARCHIVE.exists() and WEIGHTS.exists()):
        print(f"corruption_audit: needs {ARCHIVE.name} and {WEIGHTS.name}; SELPLUG_DATA says where they are")
        return []
    with tempfile.TemporaryDirectory() as folder:
        subject = _subject(folder)
    images = [batch for batch, _ in subject.loader]
    perturbations = specs.perturbations("corruptions")

    def bare() -> None:
        with torch.no_grad():
            for batch in images:
                subject.model(batch).argmax(1)

    def corrupt() -> None:
        run_audit(subject, perturbations, {})

    bare()
    # One audit takes as long as hundreds of passes: these are timed before and after it.
    before = [_seconds(bare) for _ in range(passes)]
    audit = _seconds(lambda: run_audit(subject, perturbations, MEASURES))
    plain = _seconds(corrupt)
    conditions = len(perturbations) + 1
    one = statistics.median([*before, *(_seconds(bare) for _ in range(passes))])
    what = f"audit / {conditions} bare forward passes: resnet20, 32 px, {PER_CLASS * CLASSES} images, corruptions"
    detail = (
        f"audit {audit:.1f} s, without measures {plain:.1f} s; one bare pass {1000 * one:.0f} ms, "
        f"{conditions} of them {conditions * one:.1f} s; {torch.get_num_threads()} threads"
    )
    return [Row(what, audit / (conditions * one), float("inf"), detail)]


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _subject(folder: str) -> Subject:
    """The network and its images, read once and kept."""
    left = PER_CLASS * CLASSES
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            parts = Path(member.name).parts
            if member.isfile() and parts[-3] == "test" and int(Path(parts[-1]).stem) < PER_CLASS:
                archive.extract(member, folder, filter="data")
                left -= 1
            if not left:
                break
    options = {"checkpoint": str(WEIGHTS), "data_dir": folder, "split": "test", "batch_size": BATCH, "workers": 0}
    subject: Subject = registry.load("selplug.subjects", "timm")("resnet20_cifar", options)
    return replace(subject, loader=list(subject.loader))
