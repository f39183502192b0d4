"""Images: equal to timm's own, in one order, none replaced, none lost without a word."""

from __future__ import annotations

import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageFile
from selplug_timm.images.loaders import ImageLoader
from selplug_timm.subject import load
from timm.data import create_dataset, create_loader
from torch import Tensor

from selplug.core.errors import InputError
from selplug.core.types import Subject

MakeFolder = Callable[..., Path]
OpenTiny = Callable[..., Subject]


def read(subject: Subject) -> tuple[Tensor, Tensor]:
    batches = list(subject.loader)
    return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])


def damage(path: Path) -> None:
    """Cuts a file in its middle, as a broken download does."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"crop_pct": 0.8, "interpolation": "bilinear"},
        {"crop_mode": "squash", "crop_pct": 0.95},
        {"crop_mode": "border", "mean": [0.1, 0.5, 0.9]},
        {"input_size": (3, 24, 40), "img_size": None},
    ],
)
@pytest.mark.parametrize("prefetcher", [True, False])
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # timm leaves its files to the garbage collector
def test_equal_to_timms_own_loader(
    options: dict[str, Any], prefetcher: bool, make_folder: MakeFolder, open_tiny: OpenTiny
) -> None:
    root = make_folder()
    subject = open_tiny(root, **options)
    info = subject.info
    theirs = create_loader(
        create_dataset("", root=str(root), split="validation"),
        tuple(info["input_size"]),
        batch_size=5,
        **{key: info[key] for key in ("mean", "std", "interpolation", "crop_pct", "crop_mode")},
        num_workers=0,
        persistent_workers=False,
        use_prefetcher=prefetcher,
        device=torch.device("cpu"),
    )
    images, labels = read(subject)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in subject.normalize or ())
    their_images, their_labels = (torch.cat(parts) for parts in zip(*theirs, strict=True))
    torch.testing.assert_close((images - mean) / std, their_images, rtol=0, atol=1e-6)
    assert torch.equal(labels, their_labels)


def test_what_the_loader_gives(make_folder: MakeFolder, open_tiny: OpenTiny) -> None:
    subject = open_tiny(make_folder({"ant": 3, "bee": 4, "cat": 5}))
    batches = list(subject.loader)
    assert [tuple(images.shape) for images, _ in batches] == [(5, 3, 20, 20), (5, 3, 20, 20), (2, 3, 20, 20)]
    assert len(subject.loader) == 3  # type: ignore[arg-type]
    images, labels = read(subject)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert images.min() >= 0
    assert images.max() <= 1
    assert labels.tolist() == [0] * 3 + [1] * 4 + [2] * 5
    assert torch.equal(subject.targets, labels)
    assert subject.class_names == ["ant", "bee", "cat"]
    data = subject.info["data"]
    assert (data["total"], data["samples"], data["samples_per_class"]) == (12, 12, [3, 4, 5])
    assert data["source"].count(os.sep) == 1, "no path of the machine"


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_samples_in_the_same_order_each_time(
    workers: int, make_folder: MakeFolder, open_tiny: OpenTiny
) -> None:
    root = make_folder(dict.fromkeys(("ant", "bee", "cat"), 8))
    reference, reference_labels = read(open_tiny(root, num_samples=10, seed=3, workers=0))
    subject = open_tiny(root, num_samples=10, seed=3, workers=workers)
    for _ in range(2):
        images, labels = read(subject)
        assert torch.equal(images, reference)
        assert torch.equal(labels, reference_labels)
    assert sorted(labels.bincount().tolist()) == [3, 3, 4]
    assert torch.equal(subject.targets, labels)
    assert subject.info["data"]["draw_seed"] == 3
    assert not torch.equal(read(open_tiny(root, num_samples=10, seed=4))[0], reference)


def test_samples_can_be_sent_to_processes_that_are_not_forked(make_folder: MakeFolder, open_tiny: OpenTiny) -> None:
    subject = open_tiny(make_folder())
    assert isinstance(subject.loader, ImageLoader)
    copy = pickle.loads(pickle.dumps(subject.loader.samples))  # noqa: S301
    assert torch.equal(copy[3][1], subject.loader.samples[3][1])


def test_reading_leaves_the_global_generator_alone(make_folder: MakeFolder, open_tiny: OpenTiny) -> None:
    subject = open_tiny(make_folder())
    before = torch.get_rng_state()
    read(subject)
    assert torch.equal(torch.get_rng_state(), before)


def test_gray_and_palette_images_become_rgb(make_folder: MakeFolder, open_tiny: OpenTiny) -> None:
    root = make_folder(mode="L")
    Image.new("P", (9, 9)).save(root / "validation" / "ant" / "palette.png")
    images, _ = read(open_tiny(root))
    assert images.shape == (13, 3, 20, 20)


def test_gray_models_read_gray(make_folder: MakeFolder) -> None:
    options = {"pretrained": False, "num_classes": 3, "in_chans": 1, "workers": 0, "data_dir": str(make_folder())}
    subject = load("resnet20_cifar", options)
    images, _ = read(subject)
    assert images.shape == (12, 1, 32, 32)
    assert len((subject.normalize or ((),))[0]) == 1
    assert subject.model(images).shape == (12, 3)


def test_channels_last(make_folder: MakeFolder, open_tiny: OpenTiny) -> None:
    subject = open_tiny(make_folder(), channels_last=True)
    assert subject.model.conv.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ["01.png", "02.jpg"])
def test_a_bad_image_is_an_error_that_names_it(
    workers: int, name: str, make_folder: MakeFolder, open_tiny: OpenTiny
) -> None:
    root = make_folder()
    damage(root / "validation" / "bee" / name)
    subject = open_tiny(root, workers=workers)
    number = 4 + int(name[:2])
    with pytest.raises(InputError, match=rf"sample {number} cannot be read: bee/{name}: .*--skip-bad") as caught:
        read(subject)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_images_are_left_out_once_and_named(workers: int, make_folder: MakeFolder, open_tiny: OpenTiny) -> None:
    root = make_folder()
    good, _ = read(open_tiny(root))
    damage(root / "validation" / "ant" / "02.jpg")
    (root / "validation" / "cat" / "03.png").write_text("no image")
    subject = open_tiny(root, workers=workers, skip_bad=True)
    assert subject.targets is None
    for _ in range(2):
        images, labels = read(subject)
        assert torch.equal(images, good[[0, 1, *range(3, 11)]])
        assert labels.tolist() == [0] * 3 + [1] * 4 + [2] * 3
    assert list(subject.skipped) == ["ant/02.jpg", "cat/03.png"]


def test_a_batch_of_bad_images_only(make_folder: MakeFolder, open_tiny: OpenTiny) -> None:
    root = make_folder()
    for path in (root / "validation" / "ant").iterdir():
        path.write_bytes(b"")
    subject = open_tiny(root, skip_bad=True, batch_size=2)
    assert [len(labels) for _, labels in subject.loader] == [2, 2, 2, 2]
    assert len(subject.skipped) == 4


def test_truncated_images_are_not_padded(
    make_folder: MakeFolder, open_tiny: OpenTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow has a global switch for that, which other packages set."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    root = make_folder()
    damage(root / "validation" / "ant" / "00.jpg")
    with pytest.raises(InputError, match=r"ant/00.jpg: .*truncated"):
        read(open_tiny(root))
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True, "left as it was found"


def test_not_an_image_says_so_without_an_address(make_folder: MakeFolder, open_tiny: OpenTiny) -> None:
    root = make_folder()
    (root / "validation" / "ant" / "00.jpg").write_text("no image")
    with pytest.raises(InputError, match=r"ant/00.jpg: not an image; repair"):
        read(open_tiny(root))


@pytest.mark.parametrize("workers", [0, 2])
def test_tar(workers: int, make_folder: MakeFolder, open_tiny: OpenTiny, tmp_path: Path) -> None:
    root = make_folder()
    with tarfile.open(tmp_path / "All.tar", "w") as archive:
        archive.add(root / "validation", ".")
    images, labels = read(open_tiny(root, num_samples=8))
    subject = open_tiny(tmp_path / "All.tar", num_samples=8, workers=workers)
    tar_images, tar_labels = read(subject)
    assert torch.equal(tar_images, images)
    assert torch.equal(tar_labels, labels)
    assert subject.class_names == ["ant", "bee", "cat"]
    assert subject.info["data"]["source"].endswith("All.tar")


def test_bad_image_in_a_tar(make_folder: MakeFolder, open_tiny: OpenTiny, tmp_path: Path) -> None:
    root = make_folder()
    damage(root / "validation" / "ant" / "00.jpg")
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        archive.add(root / "validation", ".")
    with pytest.raises(InputError, match=r"ant/00.jpg"):
        read(open_tiny(tmp_path / "all.tar"))
    subject = open_tiny(tmp_path / "all.tar", skip_bad=True)
    assert len(read(subject)[0]) == 11


def test_torchvision_data(tmp_path: Path) -> None:
    """MNIST as torchvision keeps it, on a model of one channel and on one of three."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 0), ("t10k", 30)):
        header = (2051).to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in (count, 28, 28))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + bytes(i % 251 for i in range(count * 784)))
        header = (2049).to_bytes(4, "big") + count.to_bytes(4, "big")
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(header + bytes(i % 10 for i in range(count)))
    options = {
        "data_dir": str(tmp_path),
        "dataset": "torch/mnist",
        "workers": 0,
        "pretrained": False,
        "num_samples": 20,
    }
    for channels in (1, 3):
        subject = load("resnet20_cifar", {**options, "in_chans": channels})
        images, labels = read(subject)
        assert images.shape == (20, channels, 32, 32)
        assert labels.bincount().tolist() == [2] * 10
        assert (subject.class_names or [""])[3] == "3 - three"


def test_class_map(make_folder: MakeFolder, open_tiny: OpenTiny, tmp_path: Path) -> None:
    root = make_folder({"ant": 2, "bee": 3})
    (tmp_path / "map.txt").write_text("bee\ncat\nant\n")
    subject = open_tiny(root, class_map=str(tmp_path / "map.txt"))
    assert read(subject)[1].tolist() == [2, 2, 0, 0, 0]
    assert subject.class_names == ["bee", "cat", "ant"]
    assert subject.info["data"]["samples_per_class"] == [3, 0, 2]
    (root / "map.txt").write_text("ant\nbee\n")
    assert open_tiny(root, class_map="map.txt").class_names == ["ant", "bee", "2"]
