"""Checks the place of the data before timm reads it, since timm silently falls back to other places."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import timm

from selplug.core.errors import InputError

from ..options import DEFAULT_SPLIT, Options
from ..paths import listed, shown

FOLDER_NAMES = ("", "folder", "image_folder", "imagefolder", "tar")
REMOTE_PREFIXES = {"hfds": "datasets", "hfids": "datasets", "tfds": "tensorflow-datasets", "wds": "webdataset"}
TRAIN_SPLITS = ("train", "training")
EVAL_SPLITS = ("val", "valid", "validation", "eval", "evaluation")
SPLITS = (*TRAIN_SPLITS, *EVAL_SPLITS, "test", "testing", "dev", "holdout")
#: torchvision's small sets that have only a training and a test part.
TORCH_TWO_PARTS = ("cifar10", "cifar100", "mnist", "kmnist", "fashion_mnist", "qmnist")
#: The first version of timm that keeps the case of dataset names.
KEEPS_CASE = (1, 0, 31)


def dataset_kind(options: Options) -> str:
    """The prefix that gives the kind of dataset, "" for folders and tar files."""
    prefix, slash, name = options.dataset.partition("/")
    prefix = prefix.lower()
    if not slash:
        # timm would ignore such a name and read a folder
        if prefix not in FOLDER_NAMES:
            raise InputError(
                f"unknown dataset {options.dataset!r}; expected torch/NAME (as torch/cifar10), hfds/NAME, hfids/NAME, "
                "tfds/NAME, wds/NAME, or none for a folder or .tar file at --data-dir"
            )
        return ""
    if prefix == "torch":
        if name.lower() in TORCH_TWO_PARTS and options.split not in SPLITS:
            raise InputError(f"{options.dataset} has no split {options.split!r}; expected train or test")
    elif prefix not in REMOTE_PREFIXES:
        raise InputError(f"unknown dataset {options.dataset!r}; expected one of torch/, {'/, '.join(REMOTE_PREFIXES)}/")
    elif name != name.lower() and _timm_version() < KEEPS_CASE:
        raise InputError(
            f"timm {timm.__version__} reads {name!r} as {name.lower()!r}; rename it or use timm "
            f"{'.'.join(map(str, KEEPS_CASE))} or later"
        )
    return prefix


def check_root(options: Options) -> None:
    """Raises InputError unless the folder or .tar file exists and contains the split.

    If timm finds no folder for the split, it silently reads the whole root, and the splits become the classes.
    """
    if not options.data_dir:
        raise InputError("no data; give --data-dir FOLDER (with one folder per class), or --dataset")
    root = Path(options.data_dir)
    if root.is_file():
        if root.suffix != ".tar":
            raise InputError(
                f"{shown(root)}: expected a folder or an uncompressed .tar file; unpack it, or pack it again without "
                "compression"
            )
        return
    if not root.is_dir():
        raise InputError(f"no folder {shown(root)}; give --data-dir a folder with one folder per class, or a .tar file")
    folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    wanted = options.split.partition("[")[0]
    if (root / wanted).exists() or any((root / name).is_dir() for name in _synonyms(wanted)):
        return
    splits = [name for name in folders if name.lower() in SPLITS]
    # A class may be called "train": then there are other classes next to it and no folders in it.
    looks_split = splits and (
        len(splits) == len(folders) or any(entry.is_dir() for name in splits for entry in (root / name).iterdir())
    )
    if looks_split or options.split != DEFAULT_SPLIT:
        hint = f"; give --split {splits[0]}" if looks_split else "; omit --split to use the whole folder"
        there = listed(folders) or "no folder"
        raise InputError(f"no split {options.split!r} in {shown(root)}, which has {there}{hint}")


def check_tar(reader: Any, options: Options) -> None:
    """Raises InputError if a tar file contains several splits, since timm reads all of it."""
    folders = {part for info, *_ in reader.samples for part in Path(info.path).parts[:-2]}
    splits = sorted(folder for folder in folders if folder.lower() in SPLITS)
    if len(splits) > 1:
        where = shown(options.data_dir or "")
        raise InputError(
            f"{where} contains {listed(splits)}, but a .tar file is read as a whole; pack a single split, or "
            "unpack it and give --split"
        )


def _synonyms(split: str) -> tuple[str, ...]:
    return next((group for group in (TRAIN_SPLITS, EVAL_SPLITS) if split in group), ())


def read_class_map(options: Options) -> dict[str, int]:
    """Class name -> label, the number of its line; {} without a class map.

    timm's other format, a pickle, is refused: older versions of timm would run code from it.
    """
    if not options.class_map:
        return {}
    places = [Path(options.class_map), Path(options.data_dir or "", options.class_map)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InputError(f"no class map {shown(options.class_map)}; expected a .txt file with one class name a line")
    try:
        if found.suffix.lower() != ".txt":
            raise ValueError("its name does not end in .txt")
        lines = found.read_text(encoding="utf-8").splitlines()
    except ValueError as error:
        raise InputError(f"class map {shown(found)}: expected a .txt file, one class name a line: {error}") from error
    names = {line.strip(): label for label, line in enumerate(lines) if line.strip()}
    if not names:
        raise InputError(f"class map {shown(found)} is empty; expected one class name a line")
    return names


def _timm_version() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", timm.__version__)[:3])
