"""Data that is not there or not what it has to be: each case has a message that says what to do."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm

from selplug.core.errors import InputError
from selplug.core.types import Subject

MakeFolder = Callable[..., Path]
OpenTiny = Callable[..., Subject]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data_dir": None}, "no data; give --data-dir FOLDER"),
        ({"data_dir": "nowhere/at/all"}, "no folder nowhere/at/all; give --data-dir"),
        ({"split": "tset"}, r"no split 'tset' in .*, which has validation; give --split validation"),
        ({"dataset": "cifar10"}, r"unknown dataset 'cifar10'; expected torch/NAME \(as torch/cifar10\)"),
        ({"dataset": "hdfs/cifar10"}, "unknown dataset 'hdfs/cifar10'; expected one of torch/, hfds/"),
        ({"dataset": "torch/nope"}, "torch/nope in .* cannot be read: Unknown torchvision dataset nope"),
        ({"dataset": "torch/cifar10"}, "torch/cifar10 in .*cannot be read: .*--dataset-download downloads it"),
        ({"dataset": "torch/cifar10", "split": "tset"}, "torch/cifar10 has no split 'tset'; expected train or test"),
        ({"num_samples": 13}, "expected at least 13 samples in the data, got 12; lower --num-samples"),
        ({"class_map": "nowhere.txt"}, "no class map nowhere.txt; expected a .txt file"),
        (
            {"num_classes": 4},
            r"the data has 3 classes \(ant, bee, cat\), the model 4; .*--num-classes.*--class-map FILE",
        ),
        ({"input_size": [1, 20, 20], "mean": [0.5]}, r"the model fails on an image of 1 x 20 x 20: RuntimeError"),
    ],
)
def test_bad_data(options: dict[str, Any], message: str, make_folder: MakeFolder, open_tiny: OpenTiny) -> None:
    root = make_folder()
    with pytest.raises(InputError, match=message):
        open_tiny(root, **options)


def test_splits_never_become_classes(make_folder: MakeFolder, open_tiny: OpenTiny) -> None:
    """timm reads the whole root where it finds no folder of the split: the classes would be ``test`` and ``train``."""
    root = make_folder({"ant": 2, "bee": 2, "cat": 2}, split="test")
    make_folder({"ant": 2, "bee": 2, "cat": 2}, split="Train")
    with pytest.raises(InputError, match=r"no split 'validation' in .*, which has Train, test; give --split Train"):
        open_tiny(root)
    assert open_tiny(root, split="test").info["data"]["total"] == 6


def test_splits_without_classes(make_folder: MakeFolder, open_tiny: OpenTiny) -> None:
    root = make_folder({"test": 2, "train": 2}, split=".")
    with pytest.raises(InputError, match=r"no split 'validation' in .*, which has test, train; give --split test"):
        open_tiny(root)


def test_a_tar_of_several_splits(make_folder: MakeFolder, open_tiny: OpenTiny, tmp_path: Path) -> None:
    """timm would read all of them as one."""
    make_folder(split="train")
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        archive.add(make_folder(split="test"), ".")
    with pytest.raises(
        InputError, match=r"all.tar contains test, train, but a .tar file is read as a whole; pack a single split"
    ):
        open_tiny(tmp_path / "all.tar", split="test")
    with tarfile.open(tmp_path / "one.tar", "w") as archive:
        archive.add(tmp_path / "data" / "test", "test")
    assert open_tiny(tmp_path / "one.tar", split="test").info["data"]["total"] == 12


@pytest.mark.parametrize("split", ["val", "validation", "valid", "eval", "evaluation"])
def test_other_words_for_validation(split: str, make_folder: MakeFolder, open_tiny: OpenTiny) -> None:
    make_folder(split="train")
    assert open_tiny(make_folder({"ant": 2, "bee": 2, "cat": 2}, split=split)).info["data"]["total"] == 6


def test_a_folder_without_splits(make_folder: MakeFolder, open_tiny: OpenTiny) -> None:
    root = make_folder(split=".")
    assert open_tiny(root).class_names == ["ant", "bee", "cat"]
    with pytest.raises(InputError, match=r"no split 'test' in .*, which has ant, bee, cat; omit --split"):
        open_tiny(root, split="test")


def test_a_class_may_be_called_train(make_folder: MakeFolder, open_tiny: OpenTiny) -> None:
    root = make_folder({"bus": 2, "plane": 2, "train": 2}, split=".")
    assert open_tiny(root).class_names == ["bus", "plane", "train"]


def test_no_images(open_tiny: OpenTiny, tmp_path: Path, make_folder: MakeFolder) -> None:
    (tmp_path / "none" / "ant").mkdir(parents=True)
    with pytest.raises(InputError, match=r"no images in the data in .*none .*one folder per class"):
        open_tiny(tmp_path / "none")
    (tmp_path / "map.txt").write_text("dog\nelk\n")
    with pytest.raises(InputError, match="and folders that are in the class map"):
        open_tiny(make_folder(), class_map=str(tmp_path / "map.txt"))


@pytest.mark.parametrize("name", ["all.tar.gz", "all.tgz", "all.zip"])
def test_compressed_archives(name: str, open_tiny: OpenTiny, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=f"{name}: expected a folder or an uncompressed .tar file; unpack it"):
        open_tiny(tmp_path / name)


def test_bad_tars(open_tiny: OpenTiny, tmp_path: Path, make_folder: MakeFolder) -> None:
    with tarfile.open(tmp_path / "zipped.tar", "w:gz") as archive:
        archive.add(make_folder() / "validation", ".")
    (tmp_path / "text.tar").write_text("no archive")
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    for name in ("zipped.tar", "text.tar", "empty.tar"):
        with pytest.raises(InputError, match=f"{name} .*cannot be read: "):
            open_tiny(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("map.pkl", b"x", "expected a .txt file"),
        ("map.txt", b"\xff\xfe\xff", "expected a .txt file, one class name a line: .*codec"),
        ("map.txt", b"\n\n", "is empty; expected one class name a line"),
        ("map.txt", b"a\nb\nc\nant\nbee\ncat\n", r"00.jpg has the label 3; expected a class number from 0 to 2"),
    ],
)
def test_bad_class_maps(
    name: str, content: bytes, message: str, make_folder: MakeFolder, open_tiny: OpenTiny, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_tiny(make_folder(), class_map=str(tmp_path / name))


def test_images_without_class_folders(open_tiny: OpenTiny, make_folder: MakeFolder) -> None:
    with pytest.raises(InputError, match="the data has 1 class "):
        open_tiny(make_folder({".": 4}))


def test_missing_packages(open_tiny: OpenTiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def create_dataset(**_: Any) -> None:
        raise ImportError("No module named 'datasets'", name="datasets")

    monkeypatch.setattr("selplug_timm.images.source.create_dataset", create_dataset)
    with pytest.raises(InputError, match=r"hfds/beans needs the package datasets.*pip install datasets"):
        open_tiny(tmp_path, dataset="hfds/beans")


def test_capitals_that_older_timm_loses(open_tiny: OpenTiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(timm, "__version__", "1.0.30")
    with pytest.raises(InputError, match=r"timm 1.0.30 reads 'My/Set' as 'my/set'; rename it or use timm 1.0.31"):
        open_tiny(tmp_path, dataset="hfds/My/Set")
