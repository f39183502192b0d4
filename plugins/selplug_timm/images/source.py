"""The data as timm reads it, with the questions answered that an audit asks before it reads an image."""

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
        with _StrictDecoding():
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


def read_file(path: str, channels: int) -> Image.Image:
    """One image file, fully decoded: RGB for 3 channels, gray for 1.

    Raises:
        InputError: no such file, or it cannot be read as an image.
    """
    try:
        with _StrictDecoding(), Image.open(path) as image:
            return image.convert(_image_mode(channels))
    except FileNotFoundError as error:
        raise InputError(f"no image file {shown(path)}") from error
    except MemoryError:
        raise
    except Exception as error:  # decoders of a dozen formats fail in ways of their own on broken bytes
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
        InputError: no data there, a split that is not there, an unknown dataset, a missing package.
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
            f"{options.dataset} is read by the package {package}, which is not installed; pip install {package}"
        ) from error
    except Exception as error:  # seven kinds of reader, each with errors of its own
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


class _StrictDecoding:
    """Pillow pads truncated files with gray if anybody has set its global switch; not while we read.

    Several threads may read at once: the first turns the switch off, the last puts it back.
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
