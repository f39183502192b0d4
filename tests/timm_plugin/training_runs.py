"""Runs of the small train script, and what they left."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from selplug_timm.launch.run import run

SCRIPT = Path(__file__).with_name("mini_train.py")


@contextmanager
def own_logging() -> Iterator[None]:
    """timm's scripts set up the root logger."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def train(output: Path, *arguments: object) -> Path:
    """Runs the script in this process; its output folder."""
    with own_logging(), torch.random.fork_rng(devices=[]):
        run(SCRIPT, ["--output", str(output), "--model", "resnet20_cifar", *map(str, arguments)])
    return output


def losses(folder: Path) -> list[float]:
    """Of every batch, as the script saw them."""
    return [loss for epoch in json.loads((folder / "losses.json").read_text()).values() for loss in epoch]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
