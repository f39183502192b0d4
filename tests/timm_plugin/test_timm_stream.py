"""Data that comes in an order of its own: streamed, balanced as it comes, and its failures in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import IterableImageDataset

from selplug.core.errors import InputError
from selplug.core.types import Subject


class Reader:
    """As timm's stream readers: yields (PIL image, label)."""

    def __init__(self, labels: list[Any], fails_at: int = -1, declares: int = 0) -> None:
        self.labels = labels
        self.declares = declares
        self.fails_at = fails_at

    def __iter__(self) -> Iterator[tuple[Image.Image, Any]]:
        worker = torch.utils.data.get_worker_info()
        for i, label in enumerate(self.labels):
            if i == self.fails_at:
                raise OSError("shard 3 is broken")
            if worker is None or i % worker.num_workers == worker.id:
                pixels = np.random.default_rng(i).integers(0, 256, (30, 40, 3), dtype=np.uint8)
                yield Image.fromarray(pixels), label

    def __len__(self) -> int:
        return self.declares or len(self.labels)


@pytest.fixture
def stream(
    open_tiny: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Subject]:
    def make(reader: Reader, **options: Any) -> Subject:
        dataset = IterableImageDataset(None, reader=reader)
        monkeypatch.setattr("selplug_timm.images.source.create_dataset", lambda **_: dataset)
        return open_tiny(tmp_path, dataset="wds/some", **options)

    return make


def labels_of(subject: Subject) -> list[int]:
    return [label for _, labels in subject.loader for label in labels.tolist()]


@pytest.mark.parametrize("workers", [0, 2])
def test_all_samples(workers: int, stream: Callable[..., Subject]) -> None:
    subject = stream(Reader([0, 1, 2] * 4), workers=workers)
    assert subject.targets is None
    first = list(subject.loader)
    assert [tuple(images.shape) for images, _ in first] == [(5, 3, 20, 20), (5, 3, 20, 20), (2, 3, 20, 20)]
    assert first[0][0].dtype == torch.float32
    assert first[0][0].max() <= 1
    second = list(subject.loader)
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(first, second, strict=True))
    assert sorted(labels_of(subject)) == [0] * 4 + [1] * 4 + [2] * 4


def test_balanced_as_they_come(stream: Callable[..., Subject]) -> None:
    labels = labels_of(stream(Reader([0] * 10 + [1] * 10 + [2] * 10), num_samples=7))
    assert sorted(np.bincount(labels).tolist()) == [2, 2, 3]


def test_too_few_of_a_class(stream: Callable[..., Subject]) -> None:
    with pytest.raises(
        InputError, match=r"too few samples for a balanced draw: missing 1 of class 2; lower --num-samp"
    ):
        labels_of(stream(Reader([0] * 9 + [1] * 9 + [2] * 2), num_samples=9))


@pytest.mark.parametrize("label", [3, -1, [1, 2], None, "ant"])
def test_labels_outside(label: Any, stream: Callable[..., Subject]) -> None:
    with pytest.raises(InputError, match=r"a sample of the stream has the label .*expected a class number from 0 to 2"):
        labels_of(stream(Reader([0, label])))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_failing_reader_is_one_line(workers: int, stream: Callable[..., Subject]) -> None:
    with pytest.raises(InputError, match=r"the data cannot be read: .*shard 3 is broken") as caught:
        labels_of(stream(Reader([0, 1, 2], fails_at=1), workers=workers))
    assert "\n" not in str(caught.value)


def test_samples_that_the_reader_loses(stream: Callable[..., Subject]) -> None:
    """timm's readers of streams drop what they cannot read with a line in the log."""
    with pytest.raises(InputError, match=r"gave 3 of the 5 samples that it declares.*--skip-bad"):
        labels_of(stream(Reader([0, 1, 2], declares=5)))
    subject = stream(Reader([0, 1, 2], declares=5), skip_bad=True)
    assert labels_of(subject) == labels_of(subject) == [0, 1, 2]
    assert len(subject.skipped) == 2
