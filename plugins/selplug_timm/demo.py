"""``selplug demo``: class selectivity and robustness of three small networks, trained on real digits in minutes.

The data are scikit-learn's handwritten digits (1,797 images of 8 x 8 pixels, 10 classes), enlarged to 16 x 16. Training
and audit use the same commands as a user: ``selplug train`` with ``--selectivity-alpha``, then ``selplug audit``.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sklearn.datasets import load_digits

from selplug import specs
from selplug.audits.api import MEASURES, audit_subject
from selplug.audits.report import Report
from selplug.comparisons.api import compare
from selplug.report.saving import check_writable

from .launch.run import run as launch
from .subject import load

ALPHAS = (-1.0, 0.0, 1.0)
PERTURBATIONS = ("fgsm:eps=16/255", "pgd:eps=16/255,alpha=4/255,steps=10", "gaussian-noise:std=0.3")
EPOCHS, SIZE = 12, 16
TRAIN = (
    "--model", "resnet20_cifar", "--num-classes", "10", "--input-size", "1", str(SIZE), str(SIZE), "--mean", "0.3",
    "--std", "0.35", "--epochs", str(EPOCHS), "-b", "64", "--opt", "adamw", "--lr", "4e-3", "--weight-decay", "0.05",
    "--warmup-epochs", "3", "--smoothing", "0", "--no-aug", "--workers", "0", "--device", "cpu",
)  # fmt: skip
TEST_SHARE = 4  # every fourth image


def run(output: Path, seed: int = 0) -> list[Report]:
    """Trains at each alpha, audits, prints the comparison, and writes data, runs and pages below ``output``.

    Args:
        output: the folder for all of it.
        seed: of weights, batches and perturbations.
    """
    check_writable(output)
    console = Console()
    counts = _write_digits(output / "digits")
    console.print(
        f"{counts['train']} training and {counts['validation']} test images; loss = cross-entropy - alpha * mean class "
        "selectivity\nalpha > 0 promotes selectivity, alpha < 0 reduces it"
    )
    reports = []
    for alpha in ALPHAS:
        name = f"alpha{_signed(alpha)}"
        run_folder = _train(output, name, alpha, seed)
        # The last weights. The best ones were chosen on the images of the audit, which would bias it.
        subject = load(str(run_folder / "last.pth.tar"), {"workers": 0, "seed": seed})
        subject = replace(subject, name=f"{subject.name}, alpha {_signed(alpha)}")
        perturbations = [specs.perturbation(spec) for spec in PERTURBATIONS]
        report = audit_subject(subject, perturbations, MEASURES, seed=seed)
        report.save(output / name)
        reports.append(report)
    console.print(_comparison(reports))
    console.print(
        "There is one network per alpha. Selectivity follows alpha in every run, but accuracy under attack differs by "
        "tens of percentage points between runs of the same alpha: a claim needs several seeds."
    )
    names = [f"alpha{_signed(alpha)}" for alpha in ALPHAS]
    compare({name: output / name for name in names}).save(output / "comparison")
    for page in (*(f"{name}/report.html" for name in names), "comparison/compare.html"):
        console.print(f"report: {output / page}", highlight=False, soft_wrap=True)
    return reports


def _write_digits(folder: Path) -> dict[str, int]:
    """Writes PNG files by split and class; returns the number of images in each split."""
    counts = {"train": 0, "validation": 0}
    for number, (pixels, label) in enumerate(zip(*load_digits(return_X_y=True), strict=True)):
        split = "train" if number % TEST_SHARE else "validation"
        path = folder / split / str(label) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        gray = np.round(pixels.reshape(8, 8) * (255 / 16)).astype(np.uint8)
        Image.fromarray(gray).resize((SIZE, SIZE), Image.Resampling.BILINEAR).save(path)
        counts[split] += 1
    return counts


def _train(output: Path, name: str, alpha: float, seed: int) -> Path:
    """Runs ``selplug train`` once; returns the folder of the run."""
    runs = output / "runs"
    if (runs / name / "args.yaml").is_file():  # from an earlier demo
        shutil.rmtree(runs / name)
    flags = ("--data-dir", output / "digits", "--output", runs, "--experiment", name, "--seed", seed)
    with _progress(f"training at alpha {_signed(alpha)}"), torch.random.fork_rng(devices=[]):
        launch("train", [*TRAIN, *map(str, flags), f"--selectivity-alpha={alpha}"])
    return runs / name


@contextmanager
def _progress(title: str) -> Iterator[None]:
    """Shows a progress bar instead of the log of the run."""
    logger, root = logging.getLogger("train"), logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=EPOCHS)

        class Bar(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if record.getMessage().startswith("Test"):
                    progress.advance(task)

        bar = Bar()
        logger.addHandler(bar)
        silent = [logger, logging.getLogger("timm")]
        try:
            for quiet in silent:
                quiet.propagate = False
            yield
        finally:
            logger.removeHandler(bar)
            for quiet in silent:
                quiet.propagate = True
            root.handlers[:] = handlers
            root.setLevel(level)


def _comparison(reports: list[Report]) -> Table:
    table = Table(title="Selectivity and robustness")
    table.add_column("alpha", justify="right")
    table.add_column("selectivity", justify="right")
    for condition in reports[0].result.conditions:
        table.add_column(condition.name.partition(":")[0], justify="right")
    for alpha, report in zip(ALPHAS, reports, strict=True):
        accuracies = (f"{100 * condition.accuracy:.1f} %" for condition in report.result.conditions)
        table.add_row(_signed(alpha), f"{report.network_selectivity():.3f}", *accuracies)
    return table


def _signed(alpha: float) -> str:
    return f"{alpha:+g}" if alpha else "0"
