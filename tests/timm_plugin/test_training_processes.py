"""Two processes over gloo train as one process does on the whole batch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from training_runs import rows

SIZE, CLASSES, PER_CLASS = 32, 4, 4
#: Layer norms, no batch norms, whose statistics would be those of each process; a batch is the whole data set.
FLAGS = (
    "--model", "test_vit", "--num-classes", CLASSES, "--img-size", 160, "--epochs", 2, "--warmup-epochs", 0, "--lr",
    0.1, "--no-aug", "--smoothing", 0, "--device", "cpu", "--workers", 0, "--selectivity-alpha", -2,
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parallel")
    random = np.random.default_rng(0)
    for split in ("train", "validation"):
        for label in range(CLASSES):
            folder = root / split / str(label)
            folder.mkdir(parents=True)
            for number in range(PER_CLASS):
                pixels = random.integers(0, 100, (SIZE, SIZE, 3)) + 50 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return root


def start(output: Path, data: Path, launcher: Sequence[object], *flags: object) -> Path:
    """Runs `train` in processes of its own; the folder of the run."""
    given = [sys.executable, "-m", *launcher, "train", *FLAGS, *flags, "--data-dir", data, "--output", output]
    result = subprocess.run([*map(str, given)], capture_output=True, text=True, timeout=1800, check=False)  # noqa: S603
    assert result.returncode == 0, result.stderr
    return next(output.iterdir())


@pytest.mark.slow
def test_two_processes_are_as_one(tmp_path, data):
    images = CLASSES * PER_CLASS
    parallel = ("torch.distributed.run", "--standalone", "--nproc-per-node", 2, "-m", "selplug_timm")
    one = start(tmp_path / "one", data, ["selplug_timm"], "-b", images)
    two = start(tmp_path / "two", data, parallel, "-b", images // 2, "--selectivity-sync")
    for column in ("penalty", "selectivity"):
        first, second = ([float(row[column]) for row in rows(folder / "selectivity.csv")] for folder in (one, two))
        assert second[0] == pytest.approx(first[0], abs=1e-5)
        assert second == pytest.approx(first, abs=1e-4)  # rounding grows from step to step
    first, second = ([float(row["train_loss"]) for row in rows(folder / "summary.csv")] for folder in (one, two))
    assert second == pytest.approx(first, abs=1e-3)
    # A checkpoint of several processes is that of one.
    weights = [torch.load(folder / "checkpoint-0.pth.tar", weights_only=False)["state_dict"] for folder in (one, two)]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=1e-5, rtol=1e-4)
