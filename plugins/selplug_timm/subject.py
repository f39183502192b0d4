"""The subject "timm": model and data from a model spec and the options of timm's validate.py."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import timm
import torch
from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset
from torchvision.transforms.functional import pil_to_tensor

from selplug.core.draw import balanced_draw
from selplug.core.errors import InputError
from selplug.core.types import Subject
from selplug.core.words import plural

from .images.dataset_kinds import read_class_map
from .images.loaders import ImageLoader, Samples, StreamLoader, bad_label, eval_transform, to_unit_range
from .images.source import Source, open_source, read_file
from .models.checkpoint import load_checkpoint
from .models.model import build_model, count_classes, data_config, wants_probe, weights_source
from .models.run_folder import with_run
from .options import Options, parse_options
from .paths import listed, shown, shown_after


def load(model: str, options: Mapping[str, Any]) -> Subject:
    """Loads a model with its weights, and the images for its audit.

    Args:
        model: a timm name (``resnet18``, ``resnet18.a1_in1k``, our ``resnet20_cifar`` and larger ones),
            ``hf-hub:OWNER/NAME``, ``local-dir:FOLDER``, ``FILE.py:factory`` for a callable that returns an nn.Module,
            or the folder of a timm training run.
        options: see :class:`selplug_timm.options.Options`. None stands for the value of the training run that wrote the
            checkpoint (:mod:`selplug_timm.models.run_folder`), or for the default if there is no run.

    Returns:
        The model on the CPU in eval mode; a loader of float32 images in [0, 1] in a fixed order; mean and std as
        ``normalize``; ``targets`` if labels are known without reading the images and no sample can be left out;
        ``read_image``, which reads an image file with the loader's preprocessing, and ``read_pixels``, which reads it
        without. With ``optional_data`` and no data the loader is empty.

    Raises:
        InputError: the model, the weights, the data or the options are wrong or do not match.
    """
    model, options, run = with_run(model, options)
    parsed = parse_options(options)
    network = build_model(model, parsed)
    checkpoint = load_checkpoint(network, parsed.checkpoint, parsed.use_ema) if parsed.checkpoint else None
    config = data_config(network, parsed)
    num_classes = count_classes(network, config["input_size"], probe=wants_probe(model, parsed))
    source = open_source(parsed, config["input_size"][0]) if _wants_data(parsed, run) else None
    if source is not None:
        check_classes(source, num_classes, parsed)
    transform = eval_transform(config)
    images = _images(source, transform, num_classes, parsed) if source is not None else _Images((), None, None, [])
    if parsed.channels_last:
        network = network.to(memory_format=torch.channels_last)
    name = shown_after(":", model) if model.startswith("local-dir:") else shown(model)
    class_names = _class_names(read_class_map(parsed) if source is None else source.class_to_idx, num_classes)
    if source is None and class_names is None and weights_source(model, parsed) == "pretrained":
        class_names = imagenet_names(num_classes)
    info = {
        "model": name,
        "parameters": sum(p.numel() for p in network.parameters()),
        "num_classes": num_classes,
        "class_names": class_names,
        **{key: list(value) if isinstance(value, tuple) else value for key, value in config.items()},
        "weights": weights_source(model, parsed),
        "checkpoint": checkpoint,
        "training_run": run,
        "data": _data_info(source, images, num_classes, parsed) if source is not None else {},
        "timm": timm.__version__,
    }
    return Subject(
        model=network,
        loader=images.loader,
        num_classes=num_classes,
        normalize=(config["mean"], config["std"]),
        name=name,
        class_names=class_names,
        targets=None if images.labels is None or parsed.skip_bad else torch.from_numpy(images.labels),
        indices=None if images.indices is None or parsed.skip_bad else images.indices.tolist(),
        names=_names(source, images, parsed),
        draw=None if parsed.num_samples is None else (parsed.num_samples, parsed.seed),
        info=info,
        skipped=images.skipped,
        read_image=lambda path: to_unit_range(transform(read_file(path, config["input_size"][0]))),
        read_pixels=lambda path: to_unit_range(pil_to_tensor(read_file(path, config["input_size"][0]))),
    )


def _wants_data(options: Options, run: Mapping[str, Any] | None) -> bool:
    """Whether to open the data. Optional data named only by the training run may be missing."""
    if not options.optional_data:
        return True
    gone = run is not None and "data_dir" in run["options"] and not os.path.exists(options.data_dir or "")
    return bool(options.data_dir or options.dataset) and not gone


def _names(source: Source | None, images: _Images, options: Options) -> list[str] | None:
    if source is None or images.indices is None or options.skip_bad:
        return None
    return [source.name(index) for index in images.indices.tolist()]


@dataclass(frozen=True)
class _Images:
    """``loader``, and the ``labels`` and data ``indices`` (N,) of the samples that it yields; None if still unknown."""

    loader: ImageLoader | StreamLoader | tuple[()]
    labels: np.ndarray | None
    indices: np.ndarray | None
    skipped: list[str]


def _images(source: Source, transform: Any, num_classes: int, options: Options) -> _Images:
    skipped: list[str] = []
    if source.stream:
        stream = StreamLoader(
            source,
            transform,
            batch_size=options.batch_size,
            workers=options.workers,
            num_classes=num_classes,
            num_samples=options.num_samples,
            seed=options.seed,
            skip_bad=options.skip_bad,
            skipped=skipped,
        )
        return _Images(stream, None, None, skipped)
    indices = np.arange(len(source))
    if options.num_samples is not None:
        if source.labels is None:
            raise InputError(
                f"the labels of {options.dataset} are known only after reading the images, so a balanced draw is not "
                "possible; omit --num-samples"
            )
        indices = balanced_draw(source.labels, options.num_samples, options.seed)
    loader = ImageLoader(
        Samples(source, indices, transform),
        batch_size=options.batch_size,
        workers=options.workers,
        num_classes=num_classes,
        skip_bad=options.skip_bad,
        skipped=skipped,
    )
    return _Images(loader, None if source.labels is None else source.labels[indices], indices, skipped)


def check_classes(source: Source, num_classes: int, options: Options) -> None:
    """Raises InputError if the known classes of the data and of the model differ."""
    names = list(source.class_to_idx)
    # A class map may contain fewer classes than the model has, or several names for one class.
    if names and not options.class_map and len(names) != num_classes:
        raise InputError(
            f"the data has {plural(len(names), 'class', 'classes')} ({listed(names)}), the model {num_classes}; give "
            "another model, or --num-classes with a checkpoint for it, or map the data's classes to the model's with "
            "--class-map FILE"
        )
    if source.labels is not None:
        beyond = np.flatnonzero((source.labels < 0) | (source.labels >= num_classes))
        if len(beyond):
            first = int(beyond[0])
            raise bad_label(int(source.labels[first]), num_classes, source.name(first))


def _class_names(class_to_idx: Mapping[str, int], num_classes: int) -> list[str] | None:
    """Names by label; None if the data has no names, or several for one class. Unnamed classes get their number."""
    by_label = {label: name for name, label in class_to_idx.items() if 0 <= label < num_classes}
    if not by_label or len(by_label) != len(class_to_idx):
        return None
    return [by_label.get(label, str(label)) for label in range(num_classes)]


def imagenet_names(num_classes: int) -> list[str] | None:
    """The class names of the ImageNet version with this number of classes, None if there is none."""
    subset = infer_imagenet_subset({"num_classes": num_classes})
    if subset is None:
        return None
    info = ImageNetInfo(subset)
    return [info.index_to_description(index) for index in range(num_classes)]


def _data_info(source: Source, images: _Images, num_classes: int, options: Options) -> dict[str, Any]:
    labels = images.labels
    samples = len(images.loader.samples) if isinstance(images.loader, ImageLoader) else options.num_samples
    return {
        "source": shown(options.data_dir) if options.data_dir else None,
        "dataset": shown_after("/", options.dataset) or "folder",
        "split": options.split,
        "total": len(source) or None,
        "samples": samples,
        "samples_per_class": None if labels is None else np.bincount(labels, minlength=num_classes).tolist(),
        "class_map": shown(options.class_map) if options.class_map else None,
        "draw_seed": None if options.num_samples is None else options.seed,
    }
