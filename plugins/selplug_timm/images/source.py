"""The data as timm reads it, with labels and names that an audit needs before it reads images."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError
from timm.data.dataset_factory import create_dataset
from torch.utils.data import IterableDataset

from selplug.core.errors import InputError

from ..options import Options
from ..paths import shown
from .dataset_kinds import REMOTE_PREFIXES, check_root, check_tar, dataset_kind, read_class_map


class Source:
    """A timm dataset: its labels, class names and sample names without reading images, and one image at a time.

    Attributes:
        dataset: timm's dataset.
        stream: whether samples come in the dataset's own order only (``wds/``, ``tfds/``, ``hfids/``).
        class_to_idx: class name -> label; empty if the data does not name its classes.
        labels: (N,), int64, or None if they are unknown until the images are read.
    """

    def __init__(self, dataset: Any, image_mode: str) -> None:
        self.dataset = dataset
        self.image_mode = image_mode
        self.reader = getattr(dataset, "reader", None)
        self.stream = isinstance(dataset, IterableDataset)
        self.class_to_idx = _class_to_idx(dataset)
        self.labels = None if self.stream else _labels(dataset)

    def __len__(self) -> int:
        """The number of samples, 0 if a stream does not declare it."""
        return len(self.dataset)

    def name(self, index: int) -> str:
        """The name of a sample: its file name relative to the data folder, or its number."""
        name: Any = None
        if self.reader is not None:
            try:
                name = self.reader.filename(index)
            except Exception:  # a sample may be too broken to have a name; its number is used then
                name = None
        elif isinstance(getattr(self.dataset, "samples", None), list):
            name = os.path.relpath(self.dataset.samples[index][0], self.dataset.root)
        return shown(str(name)) if name else f"sample {index}"

    def read(self, index: int) -> tuple[Image.Image, Any]:
        """One image as a decoded PIL image of ``image_mode``, and its label.

        Uses timm's reader directly, since timm's dataset replaces a sample that it cannot read by the next one. Errors
        of the reader and the decoder pass through.
        """
        with _StrictDecoding():
            if self.reader is None:
                image, label = self.dataset[index]
                return image.convert(self.image_mode), label
            handle, label, *_ = self.reader[index]
            with closing(handle), Image.open(handle) as image:
                return image.convert(self.image_mode), label

    def release(self) -> None:
        """Closes the tar files that timm's reader keeps open in this process.

        Otherwise the processes of a later pass would share them, including their read position.
        """
        states = getattr(self.reader, "tar_state", None) or {}
        for state in states.values() if isinstance(states, dict) else [states]:
            for holder in (*state.children.values(), state):
                if holder.tf is not None:
                    holder.tf.close()
                    holder.tf = None


def read_file(path: str, channels: int) -> Image.Image:
    """Decodes one image file: RGB for 3 channels, gray for 1.

    Raises:
        InputError: there is no such file, or it is not a readable image.
    """
    try:
        with _StrictDecoding(), Image.open(path) as image:
            return image.convert(_image_mode(channels))
    except FileNotFoundError as error:
        raise InputError(f"no image file {shown(path)}") from error
    except MemoryError:
        raise
    except Exception as error:  # each decoder raises its own errors on broken files
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
        raise InputError(f"the image {shown(path)} cannot be read: {reason}") from error


def open_source(options: Options, channels: int, *, is_training: bool = False) -> Source:
    """Opens the data.

    Args:
        options: ``data_dir``, ``dataset``, ``split``, ``class_map``, ``dataset_download``, ``input_key``,
            ``target_key``, ``seed``, ``batch_size``.
        channels: 3 reads RGB, 1 gray.
        is_training: streams are shuffled and repeat.

    Raises:
        InputError: there is no data or no such split, the dataset is unknown, or a package is missing.
    """
    prefix = dataset_kind(options)
    if prefix == "":
        check_root(options)
    class_map = read_class_map(options)
    image_mode = _image_mode(channels)
    try:
        dataset = create_dataset(
            name=options.dataset if prefix else "",
            root=options.data_dir,
            split=options.split,
            class_map=class_map,
            is_training=is_training,
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
            f"{options.dataset} needs the package {package}, which is not installed; pip install {package}"
        ) from error
    except Exception as error:  # each of the seven kinds of reader raises its own errors
        raise InputError(_cannot_read(options, prefix, error)) from error
    source = Source(dataset, image_mode)
    if not source.stream and len(source) == 0:
        raise InputError(f"no images in {_where(options)}")
    if hasattr(source.reader, "tar_state"):
        check_tar(source.reader, options)
    return source


def _image_mode(channels: int) -> str:
    return "RGB" if channels == 3 else "L"


def _cannot_read(options: Options, prefix: str, error: Exception) -> str:
    reason = str(error).partition("\n")[0] or type(error).__name__
    if prefix == "" and "Found 0 images" in reason:
        mapped = ", and folders that are in the class map" if options.class_map else ""
        return f"no images in {_where(options)}; expected one folder per class with .jpg, .jpeg or .png files{mapped}"
    fetch = prefix == "torch" and "not found" in reason and not options.dataset_download
    hint = "; --dataset-download downloads it" if fetch else ""
    return f"{_where(options)} cannot be read: {reason}{hint}"


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
    """The name of a class as one text: torchvision's ImageNet gives several names per class."""
    return ", ".join(map(str, name)) if isinstance(name, tuple) else str(name)


def _labels(dataset: Any) -> np.ndarray | None:
    """Labels (N,) that a reader keeps in memory or in a column; None if it does not."""
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
            "give the column of the class with --target-key"
        )
    return labels.astype(np.int64)


class _StrictDecoding:
    """Makes Pillow refuse truncated files while we read, even if its global switch is set to fill them with gray.

    Several threads may read at once: the first turns the switch off, the last restores it.
    """

    lock = threading.Lock()
    readers = 0
    before = False

    def __enter__(self) -> None:
        kind = type(self)
        with kind.lock:
            if not kind.readers:
                kind.before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
            kind.readers += 1

    def __exit__(self, *error: object) -> None:
        kind = type(self)
        with kind.lock:
            kind.readers -= 1
            if not kind.readers:
                ImageFile.LOAD_TRUNCATED_IMAGES = kind.before
