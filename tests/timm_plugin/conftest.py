"""Small image folders made on the spot, a tiny model in a file, and the shared CIFAR-10 images where they are."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("timm")

from selplug_timm.subject import load

from selplug.core.types import Subject

CLASSES = ("ant", "bee", "cat")
SHARED = Path(os.environ.get("SELPLUG_DATA") or Path(__file__).parents[3] / "shared" / "data")
ARCHIVE = "cifar10-jpeg.tar.xz"
PER_CLASS = 100

TINY_MODEL = """
from torch import nn

class Tiny(nn.Module):
    def __init__(self, num_classes=3, width=4):
        super().__init__()
        self.num_classes = num_classes
        self.conv = nn.Conv2d(3, width, 3, 2)
        self.act = nn.ReLU()
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.fc(self.act(self.conv(x)).mean((2, 3)))

def tiny(**kwargs):
    return Tiny(**kwargs)
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_image(path: Path, seed: int, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """``make_folder(counts, split)`` -> a root with ``split/<class>/NN.jpg`` (and .png), ``counts`` per class."""

    def make(
        counts: dict[str, int] | None = None, split: str = "validation", root: Path = tmp_path / "data", **image: Any
    ) -> Path:
        for number, (name, count) in enumerate((counts or dict.fromkeys(CLASSES, 4)).items()):
            for i in range(count):
                ending = "png" if i % 2 else "jpg"
                write_image(root / split / name / f"{i:02}.{ending}", 1000 * number + i, **image)
        return root

    return make


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    """A model spec: FILE.py:factory, three classes."""
    path = tmp_path / "mine.py"
    path.write_text(TINY_MODEL)
    return f"{path}:tiny"


@pytest.fixture
def open_tiny(tiny: str) -> Callable[..., Subject]:
    """``open_tiny(root, **options)``: the tiny model on a folder, read in this process, 20 x 20 pixels."""

    def make(root: Path, **options: Any) -> Subject:
        return load(tiny, {"data_dir": str(root), "img_size": 20, "workers": 0, "batch_size": 5, **options})

    return make


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of the shared data."""
    if not (SHARED / ARCHIVE).is_file():
        pytest.skip("the shared data set is not there (set SELPLUG_DATA)")
    return SHARED


@pytest.fixture(scope="session")
def cifar(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with ``test/<class>/NNNN.jpg``, the first 100 images of each class of CIFAR-10's test set."""
    root = tmp_path_factory.mktemp("cifar")
    wanted = 10 * PER_CLASS
    with tarfile.open(shared / ARCHIVE, "r|xz") as archive:
        for member in archive:
            parts = Path(member.name).parts
            if member.isfile() and parts[-3:-2] == ("test",) and int(Path(parts[-1]).stem) < PER_CLASS:
                content = archive.extractfile(member)
                if content is None:
                    continue
                path = root.joinpath(*parts[-3:])
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())
                wanted -= 1
                if not wanted:
                    break
    return root
