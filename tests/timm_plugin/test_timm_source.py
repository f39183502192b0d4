"""What is known of a dataset before an image is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selplug_timm.images.source import Source
from timm.data import ImageDataset
from torch.utils.data import Dataset

from selplug.core.errors import InputError
from selplug.core.types import Subject


class Columns:
    """As timm's reader of Hugging Face datasets: labels in a column, names by index."""

    def __init__(self, labels: list[Any], new: bool) -> None:
        self.class_to_idx = {"ant": 0, "bee": 1, "cat": 2}
        self.label_key = "label"
        self.dataset = {"label": labels}
        if new:
            self.iter_targets = lambda: iter(labels)

    def __len__(self) -> int:
        return len(self.dataset["label"])

    def filename(self, index: int) -> str | None:
        return None if index else "/cache/of/somebody/a.png"


@pytest.mark.parametrize("new", [True, False], ids=["timm 1.0.31", "before"])
def test_labels_in_a_column(new: bool) -> None:
    source = Source(ImageDataset("", reader=Columns([2, 0, 1], new)), "RGB")
    assert source.labels is not None
    assert source.labels.tolist() == [2, 0, 1]
    assert source.class_to_idx == {"ant": 0, "bee": 1, "cat": 2}
    assert [source.name(0), source.name(1)] == ["somebody/a.png", "sample 1"]


@pytest.mark.parametrize("labels", [[[0, 1], [1, 1]], [0.5, 1.0], ["ant", "bee"]])
def test_labels_that_are_no_class(labels: list[Any]) -> None:
    with pytest.raises(InputError, match=r"expected one class number per sample, got labels of .*--target-key"):
        Source(ImageDataset("", reader=Columns(labels, new=True)), "RGB")


class Silent(Dataset[Any]):
    """As the datasets of torchvision that keep no list of labels."""

    def __init__(self, labels: list[Any]) -> None:
        self.given = labels

    def __len__(self) -> int:
        return len(self.given)

    def __getitem__(self, index: int) -> tuple[Image.Image, Any]:
        return Image.fromarray(np.full((30, 30, 3), index, dtype=np.uint8)), self.given[index]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))


@pytest.fixture
def silent(
    open_tiny: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Subject]:
    def make(labels: list[Any], **options: Any) -> Subject:
        monkeypatch.setattr("selplug_timm.images.source.create_dataset", lambda **_: Silent(labels))
        return open_tiny(tmp_path, dataset="torch/inaturalist", **options)

    return make


def test_labels_that_come_with_the_images(silent: Callable[..., Subject]) -> None:
    subject = silent([0, 2, 1])
    assert subject.targets is None
    assert subject.class_names is None
    assert [labels.tolist() for _, labels in subject.loader] == [[0, 2, 1]]
    with pytest.raises(
        InputError, match=r"the labels of torch/inaturalist are known only after reading the images.*omit --num-samples"
    ):
        silent([0, 2, 1], num_samples=2)


@pytest.mark.parametrize("label", [3, -1, None])
def test_a_label_outside_names_its_sample(label: Any, silent: Callable[..., Subject]) -> None:
    with pytest.raises(InputError, match=r"sample 1 has the label .*expected a class number from 0 to 2"):
        list(silent([0, label, 1]).loader)


def test_no_samples(silent: Callable[..., Subject]) -> None:
    with pytest.raises(InputError, match="no images in torch/inaturalist"):
        silent([])
