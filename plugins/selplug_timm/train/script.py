"""``selplug train``: a short train script made of timm's parts, with the same flag names and the same output.

It trains classification only; timm's own script has more tasks. Both use the same hooks: the parts that hooks replace
must therefore be looked up in timm's modules when they are called.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import timm.data
import timm.loss
import timm.models
import timm.optim
import timm.scheduler
import timm.task
import timm.utils
import torch
from torch import distributed, nn

from selplug.core.errors import InputError, SelplugError
from selplug.core.words import plural

from ..images.source import Source, open_source
from ..models.checkpoint import load_checkpoint, read_checkpoint
from ..models.model import build_model, count_classes, data_config
from ..options import Options, parse_options
from ..paths import listed
from ..subject import check_classes
from .flags import parse_arguments
from .loop import Loop, mixed_precision

#: The name under which timm's train script logs.
_logger = logging.getLogger("train")


def main() -> None:
    """Trains with the flags of the command line; writes the same files as timm's script, to the same places.

    Raises:
        SelplugError: flags, model or data do not match, or the loss remains infinite or NaN.
    """
    timm.utils.setup_default_logging()
    args, saved = parse_arguments()
    device = _device(args)
    try:
        _train(args, saved, device)
    finally:
        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()


def _train(args: argparse.Namespace, saved: str, device: torch.device) -> None:
    timm.utils.random_seed(args.seed, args.rank)
    options = _options(args)
    model = _model(args, options, device)
    config = data_config(model, options, use_test_size=False)
    args.input_size = list(config["input_size"])
    args.num_classes = count_classes(model, config["input_size"], probe=False)
    train, validation = _loaders(args, options, config, device)
    tasks: Any = timm.task
    task = tasks.ClassificationTask(model=model, criterion=_criterion(args).to(device), device=device, verbose=False)
    with _naming_flag(f"--opt {args.opt}"):
        optimizer = timm.optim.create_optimizer_v2(
            task.get_trainable_module(), opt=args.opt, lr=_learning_rate(args), weight_decay=args.weight_decay,
            momentum=args.momentum, layer_decay=args.layer_decay, **args.opt_kwargs,
        )  # fmt: skip
    cast, scaler = mixed_precision(args, device)
    start = _resume(args, task, optimizer, scaler)
    if args.torchcompile:
        with _naming_flag(f"--torchcompile {args.torchcompile}"):
            task.compile(backend=args.torchcompile)
    if args.distributed:
        task.prepare_distributed(device_ids=None if device.type == "cpu" else [device])
    updates = -(-len(train) // args.grad_accum_steps)
    with _naming_flag(f"--sched {args.sched}"):
        scheduler, epochs = timm.scheduler.create_scheduler_v2(
            optimizer, sched=args.sched, num_epochs=args.epochs, warmup_epochs=args.warmup_epochs,
            warmup_lr=args.warmup_lr, min_lr=args.min_lr, decay_milestones=args.decay_milestones,
            decay_epochs=args.decay_epochs, decay_rate=args.decay_rate, updates_per_epoch=updates,
        )  # fmt: skip
    if scheduler is None and args.sched != "none":  # timm before 1.0.28 does not raise
        raise InputError(f"--sched {args.sched}: no such scheduler")
    if scheduler is not None and start:
        scheduler.step(start)
    folder = saver = None
    if args.rank == 0:
        folder = _folder(args, saved)
        saver = timm.utils.CheckpointSaver(
            model=task.get_trainable_module(), optimizer=optimizer, args=args, amp_scaler=scaler, task=task,
            checkpoint_dir=str(folder), recovery_dir=str(folder), decreasing=args.eval_metric == "loss",
            max_history=args.checkpoint_hist,
        )  # fmt: skip
        if (
            args.resume
            and folder.samefile(Path(args.resume).parent)
            and hasattr(saver, "load_state_dict_from_checkpoint")
        ):
            saver.load_state_dict_from_checkpoint(args.resume)  # knows the best epoch so far
        _logger.info("Training %s on %s, %d epochs of %d updates, into %s", args.model, device, epochs, updates, folder)
    loop = Loop(args, task, optimizer, scheduler, cast, scaler, device)
    best = None
    for epoch in range(start, epochs):
        if hasattr(train.sampler, "set_epoch"):  # with several processes
            train.sampler.set_epoch(epoch)
        metrics = loop.train(epoch, train)
        due = (epoch + 1) % args.val_interval == 0 or epoch + 1 == epochs
        found = loop.validate(validation) if due else None
        if due and folder is not None and saver is not None and found is not None:
            utils: Any = timm.utils
            rate = sum(group["lr"] for group in optimizer.param_groups) / len(optimizer.param_groups)
            summary = folder / "summary.csv"
            utils.update_summary(epoch, metrics, found, summary, lr=rate, write_header=not summary.is_file())
            best = saver.save_checkpoint(epoch, metric=found[args.eval_metric])
        if scheduler is not None:
            scheduler.step(epoch + 1, found and found[args.eval_metric])
    if best is not None:
        _logger.info("*** Best %s: %.4f (epoch %d); selplug audit %s", args.eval_metric, *best, folder)


@contextmanager
def _naming_flag(flag: str) -> Iterator[None]:
    """Turns errors of timm and torch about the value of a flag into a message."""
    try:
        yield
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, SelplugError):
            raise
        raise InputError(f"{flag}: {str(error).partition(chr(10))[0] or type(error).__name__}") from error


def _device(args: argparse.Namespace) -> torch.device:
    args.device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"--device {args.device}: there is no CUDA device; leave it out to train on the CPU")
    with _naming_flag(f"--device {args.device}"):
        return timm.utils.init_distributed_device(args)


def _options(args: argparse.Namespace) -> Options:
    """The flags as options of an audit, which our checks and readers take."""
    same = (
        "dataset", "class_map", "dataset_download", "input_key", "target_key", "num_classes", "in_chans", "gp",
        "img_size", "input_size", "mean", "std", "crop_pct", "interpolation", "batch_size", "workers", "seed",
        "pretrained",
    )  # fmt: skip
    rates = {"drop_rate": args.drop, "drop_path_rate": args.drop_path}
    given = {name: getattr(args, name) for name in same}
    given |= {"data_dir": args.data_dir or args.data, "split": args.val_split}
    kwargs = {name: rate for name, rate in rates.items() if rate}
    return parse_options({**given, "model_kwargs": {**kwargs, **args.model_kwargs}})


def _model(args: argparse.Namespace, options: Options, device: torch.device) -> nn.Module:
    model = build_model(args.model, options, new_classifier=True)
    if args.initial_checkpoint:
        load_checkpoint(model, args.initial_checkpoint)
    if args.grad_checkpointing:
        switch: Any = getattr(model, "set_grad_checkpointing", None)
        if switch is None:
            raise InputError(f"{args.model} has no gradient checkpointing: leave out --grad-checkpointing")
        switch(enable=True)
    model.to(device)
    return model.to(memory_format=torch.channels_last) if args.channels_last else model


def _loaders(args: argparse.Namespace, options: Options, config: dict[str, Any], device: torch.device) -> Any:
    channels = config["input_size"][0]
    training, held_out = (
        _source(options, channels, getattr(args, f"{flag}_split"), f"--{flag}-split", args.num_classes)
        for flag in ("train", "val")
    )
    _check_same_classes(training, held_out, args)
    common = {
        "input_size": config["input_size"], "mean": config["mean"], "std": config["std"], "num_workers": args.workers,
        "distributed": args.distributed, "device": device, "persistent_workers": args.workers > 0,
    }  # fmt: skip
    mixup = timm.data.FastCollateMixup(
        mixup_alpha=args.mixup, cutmix_alpha=args.cutmix, prob=args.mixup_prob, switch_prob=args.mixup_switch_prob,
        label_smoothing=args.smoothing, num_classes=args.num_classes,
    ) if args.mixup or args.cutmix else None  # fmt: skip
    train = timm.data.create_loader(
        training.dataset, is_training=True, batch_size=args.batch_size, no_aug=args.no_aug, re_prob=args.reprob,
        re_mode=args.remode, train_crop_mode=args.train_crop_mode, scale=args.scale, ratio=args.ratio,
        hflip=args.hflip, vflip=args.vflip, color_jitter=args.color_jitter, auto_augment=args.aa, collate_fn=mixup,
        interpolation=config["interpolation"] if args.no_aug else args.train_interpolation, **common,
    )  # fmt: skip
    if not len(train):
        raise InputError(
            f"the training data has {plural(len(training), 'image')}, less than one batch of {args.batch_size} for "
            f"{plural(args.world_size, 'process', 'processes')}: give a smaller --batch-size"
        )
    validation = timm.data.create_loader(
        held_out.dataset, is_training=False, batch_size=args.validation_batch_size or args.batch_size,
        interpolation=config["interpolation"], crop_pct=config["crop_pct"], **common,
    )  # fmt: skip
    return train, validation


def _source(options: Options, channels: int, split: str, flag: str, num_classes: int) -> Source:
    try:
        source = open_source(replace(options, split=split), channels, is_training=flag == "--train-split")
    except InputError as error:  # its message names the flag of an audit
        raise InputError(str(error).replace("--split", flag)) from error
    check_classes(source, num_classes, options)
    return source


def _check_same_classes(train: Source, validation: Source, args: argparse.Namespace) -> None:
    """Raises InputError if the splits number classes differently: a missing class shifts the numbers after it."""
    first, second = train.class_to_idx, validation.class_to_idx
    differing = sorted({name for name in {*first, *second} if first.get(name) != second.get(name)})
    if differing:
        raise InputError(
            f"the splits {args.train_split!r} and {args.val_split!r} number their classes differently, for instance "
            f"{listed(differing, 3)}; give both the same folders, or --class-map FILE"
        )


def _criterion(args: argparse.Namespace) -> nn.Module:
    if args.mixup or args.cutmix:
        return timm.loss.SoftTargetCrossEntropy()  # mixing also smooths the targets
    return timm.loss.LabelSmoothingCrossEntropy(args.smoothing) if args.smoothing else nn.CrossEntropyLoss()


def _learning_rate(args: argparse.Namespace) -> float:
    """``--lr``, or ``--lr-base`` scaled by the number of images per update."""
    if not args.lr:
        images = args.batch_size * args.world_size * args.grad_accum_steps
        adaptive = any(part in args.opt.lower() for part in ("ada", "lamb"))
        root = (args.lr_base_scale or ("sqrt" if adaptive else "linear")) == "sqrt"
        args.lr = args.lr_base * (images / args.lr_base_size) ** (0.5 if root else 1)
        _logger.info("Learning rate %g for %d images per update", args.lr, images)
    return args.lr


def _resume(args: argparse.Namespace, task: Any, optimizer: torch.optim.Optimizer, scaler: Any) -> int:
    """Restores the state of a run and sets up the average of the weights; returns the first epoch."""
    epoch = None
    tasks: Any = timm.task
    if args.resume:
        read_checkpoint(args.resume)  # refuses files that would run code
        state = {} if args.no_resume_opt else {"optimizer": optimizer, "loss_scaler": scaler}
        with _naming_flag(f"--resume {args.resume} does not fit this run"):
            epoch = tasks.resume_task_checkpoint(task, args.resume, log_info=args.rank == 0, **state)
    if args.model_ema:
        task.setup_ema(decay=args.model_ema_decay)
        if args.resume:
            tasks.load_task_ema_checkpoint(task, args.resume)
    return args.start_epoch if args.start_epoch is not None else epoch or 0


def _folder(args: argparse.Namespace, saved: str) -> Path:
    """A new folder, or the existing folder of a run that is resumed in it."""
    size = args.input_size[-1]
    name = args.experiment or f"{datetime.now():%Y%m%d-%H%M%S}-{timm.models.safe_model_name(args.model)}-{size}"
    folder = Path(timm.utils.get_outdir(args.output, name, inc=not args.resume))
    (folder / "args.yaml").write_text(saved, encoding="utf-8")
    return folder
