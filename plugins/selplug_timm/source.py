"""The data as timm reads it, with the questions answered that an audit asks before it reads an image."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import timm
from PIL import Image, ImageFile
from timm.data.dataset_factory import create_dataset
from torch.utils.data import IterableDataset

from selplug.core.errors import InputError

from .options import DEFAULT_SPLIT, Options
from .paths import listed, shown

FOLDER_NAMES = ("", "folder", "image_folder", "imagefolder", "tar")
REMOTE_PREFIXES = {"hfds": "datasets", "hfids": "datasets", "tfds": "tensorflow-datasets", "wds": "webdataset"}
TRAIN_SPLITS = ("train", "training")
EVAL_SPLITS = ("val", "valid", "validation", "eval", "evaluation")
SPLITS = (*TRAIN_SPLITS, *EVAL_SPLITS, "test", "testing", "dev", "holdout")
#: torchvision's small sets have a training and a test part only.
TORCH_TWO_PARTS = ("cifar10", "cifar100", "mnist", "kmnist", "fashion_mnist", "qmnist")
#: The first timm that leaves the case of dataset names alone.
KEEPS_CASE = (1, 0, 31)


class Source:
    """A timm dataset: its labels, class names and sample names without reading images, and one image at a time.

    Attributes:
        dataset: what timm made.
        stream: whether samples come in the dataset's own order only (``wds/``, ``tfds/``, ``hfids/``).
        class_to_idx: class name -> label; empty if the data does not name its classes.
        labels: (N,), int64, or None if they are not known without reading the images.
    """

    def __init__(self, dataset: Any, image_mode: str) -> None:
        self.dataset = dataset
        self.image_mode = image_mode
        self.reader = getattr(dataset, "reader", None)
        self.stream = isinstance(dataset, IterableDataset)
        self.class_to_idx = _class_to_idx(dataset)
        self.labels = None if self.stream else _labels(dataset)

    def __len__(self) -> int:
        """The number of samples, 0 if a stream does not say it."""
        return len(self.dataset)

    def name(self, index: int) -> str:
        """What to call a sample: its file name below the data folder, or its number."""
        name: Any = None
        if self.reader is not None:
            try:
                name = self.reader.filename(index)
            except Exception:  # a name is a courtesy; a sample so broken that it has none is called by its number
                name = None
        elif isinstance(getattr(self.dataset, "samples", None), list):
            name = os.path.relpath(self.dataset.samples[index][0], self.dataset.root)
        return shown(str(name)) if name else f"sample {index}"

    def read(self, index: int) -> tuple[Image.Image, Any]:
        """One image as PIL image of ``image_mode``, fully decoded, and its label.

        timm's own dataset puts the next sample in the place of one that it cannot read, so its reader is asked
        directly. Raises whatever the reader or the decoder raises.
        """
        with _strict_decoding():
            if self.reader is None:
                image, label = self.dataset[index]
                return image.convert(self.image_mode), label
            handle, label, *_ = self.reader[index]
            with closing(handle), Image.open(handle) as image:
                return image.convert(self.image_mode), label

    def release(self) -> None:
        """Closes the tar files that timm's reader keeps open in this process after it has read from them.

        Left open, they would be shared, position and all, by the processes that a later pass starts.
        """
        states = getattr(self.reader, "tar_state", None) or {}
        for state in states.values() if isinstance(states, dict) else [states]:
            for holder in (*state.children.values(), state):
                if holder.tf is not None:
                    holder.tf.close()
                    holder.tf = None


def open_source(options: Options, channels: int) -> Source:
    """Opens the data.

    Args:
        options: ``data_dir``, ``dataset``, ``split``, ``class_map``, ``dataset_download``, ``input_key``,
            ``target_key``, ``seed``, ``batch_size``.
        channels: 3 reads RGB, 1 gray.

    Raises:
        InputError: no data there, a split that is not there, an unknown dataset, a missing package.
    """
    prefix = _check_name(options)
    if prefix == "":
        _check_root(options)
    class_map = _class_map(options)
    image_mode = "RGB" if channels == 3 else "L"
    try:
        dataset = create_dataset(
            name=options.dataset if prefix else "",
            root=options.data_dir,
            split=options.split,
            class_map=class_map,
            download=options.dataset_download,
            batch_size=options.batch_size,
            seed=options.seed,
            input_img_mode=image_mode,
            input_key=options.input_key,
            target_key=options.target_key,
        )
    except ImportError as error:
        package = REMOTE_PREFIXES.get(prefix, error.name)
        raise InputError(
            f"{options.dataset} is read by the package {package}, which is not installed; pip install {package}"
        ) from error
    except Exception as error:  # seven kinds of reader, each with errors of its own
        raise InputError(_cannot_read(options, prefix, error)) from error
    source = Source(dataset, image_mode)
    if not source.stream and len(source) == 0:
        raise InputError(f"no images in {_where(options)}")
    if hasattr(source.reader, "tar_state"):
        _check_tar(source, options)
    return source


def _check_name(options: Options) -> str:
    """The kind of dataset by its prefix, "" for folders and tar files."""
    prefix, slash, name = options.dataset.partition("/")
    prefix = prefix.lower()
    if not slash:
        # timm reads a folder whatever such a name says
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
            f"timm {timm.__version__} reads {name!r} as {name.lower()!r}; rename it or take timm "
            f"{'.'.join(map(str, KEEPS_CASE))} or later"
        )
    return prefix


def _check_root(options: Options) -> None:
    """A folder or .tar file is where it is said to be, and the split is in it.

    timm silently takes the whole root where it finds no folder of the split: the splits would become the classes.
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
    # a class may be called "train": it then has other classes beside it and no folders below
    looks_split = splits and (
        len(splits) == len(folders) or any(entry.is_dir() for name in splits for entry in (root / name).iterdir())
    )
    if looks_split or options.split != DEFAULT_SPLIT:
        hint = f"; give --split {splits[0]}" if looks_split else "; leave --split out to take the whole folder"
        there = listed(folders) or "no folder"
        raise InputError(f"no split {options.split!r} in {shown(root)}: there is {there}{hint}")


def _check_tar(source: Source, options: Options) -> None:
    """timm takes all of a tar, whatever the split: it must not hold several."""
    folders = {part for info, *_ in source.reader.samples for part in Path(info.path).parts[:-2]}
    splits = sorted(folder for folder in folders if folder.lower() in SPLITS)
    if len(splits) > 1:
        raise InputError(
            f"{shown(options.data_dir or '')} holds {listed(splits)}, and a tar is read whole; pack one split alone, or "
            "unpack it and give --split"
        )


def _synonyms(split: str) -> tuple[str, ...]:
    return next((group for group in (TRAIN_SPLITS, EVAL_SPLITS) if split in group), ())


def _class_map(options: Options) -> dict[str, int]:
    """Name -> label, by the line that a name stands in; {} without a class map.

    timm's other format is a pickle, which is not read: older versions of timm would run what is in it.
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


def _cannot_read(options: Options, prefix: str, error: Exception) -> str:
    said = str(error).partition("\n")[0] or type(error).__name__
    if prefix == "" and "Found 0 images" in said:
        mapped = ", with a folder that the class map names" if options.class_map else ""
        return f"no images in {_where(options)}; expected one folder per class with .jpg, .jpeg or .png files{mapped}"
    fetch = prefix == "torch" and "not found" in said and not options.dataset_download
    hint = "; --dataset-download fetches it" if fetch else ""
    return f"{_where(options)} cannot be read: {said}{hint}"


def _where(options: Options) -> str:
    place = f" in {shown(options.data_dir)}" if options.data_dir else ""
    return f"{options.dataset or 'the data'}{place} (split {options.split!r})"


def _class_to_idx(dataset: Any) -> dict[str, int]:
    for holder in (getattr(dataset, "reader", None), dataset):
        for name in ("class_to_idx", "class_name_to_idx"):
            mapping = getattr(holder, name, None)
            if isinstance(mapping, dict) and mapping:
                return {str(key): int(value) for key, value in mapping.items()}
    names = getattr(dataset, "classes", None) or ()
    return {_joined(name): index for index, name in enumerate(names)}


def _joined(name: Any) -> str:
    """torchvision's ImageNet gives several words for a class."""
    return ", ".join(map(str, name)) if isinstance(name, tuple) else str(name)


def _labels(dataset: Any) -> np.ndarray | None:
    """(N,) from what a reader keeps in memory or in a column; None if no such thing is known of it."""
    reader: Any = getattr(dataset, "reader", None)
    values: Any = None
    if hasattr(reader, "iter_targets"):  # Hugging Face datasets
        values = list(reader.iter_targets())
    elif hasattr(reader, "label_key") and not getattr(reader, "remap_class", False):  # the same before timm 1.0.31
        values = list(reader.dataset[reader.label_key])
    elif reader is not None and hasattr(reader, "targets"):  # tar
        values = reader.targets
    elif isinstance(getattr(reader, "samples", None), Sequence):  # folder
        values = [label for _, label in reader.samples]
    elif reader is None and hasattr(dataset, "targets"):  # torchvision
        values = dataset.targets
    if values is None:
        return None
    labels = np.asarray(values)
    if labels.shape != (len(dataset),) or labels.dtype.kind not in "iu":
        raise InputError(
            f"expected one class number per sample, got labels of shape {labels.shape} and type {labels.dtype}; "
            "give --target-key the column of the class"
        )
    return labels.astype(np.int64)


@contextmanager
def _strict_decoding() -> Iterator[None]:
    """Pillow pads truncated files with gray if anybody has set its global switch; not while we read."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _timm_version() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", timm.__version__)[:3])
