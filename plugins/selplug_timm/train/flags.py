"""The flags of ``selplug train``: a selection from timm's train script, with the same names, meanings and defaults."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml
from timm.utils import ParseKwargs

from selplug.core.errors import InputError

from ..options import default_workers
from ..paths import listed, shown


def parse_arguments(arguments: Sequence[str] | None = None) -> tuple[argparse.Namespace, str]:
    """The flags of a run, and the text of its ``args.yaml``.

    Raises:
        InputError: a YAML file cannot be read or has an unknown flag, or a value is out of range.
        SystemExit: with code 2 for arguments that argparse cannot parse, 0 after ``--help``.
    """
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("-c", "--config", default="", metavar="FILE", help="YAML file with defaults for the flags below")
    given, rest = first.parse_known_args(arguments)
    parser = make_parser(first)
    if given.config:
        parser.set_defaults(**_read_config(given.config, parser))
    args = parser.parse_args(rest)
    _check(args)
    return args, yaml.safe_dump(vars(args), default_flow_style=False)


def make_parser(first: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser of the command; its help includes the flags of ``first``."""
    parser = argparse.ArgumentParser(
        prog="selplug train",
        description="Train an image classifier with timm. The flags are those of timm's train script.",
        parents=[first],
    )
    _data(parser.add_argument_group("data"))
    _model(parser.add_argument_group("model"))
    _optimizer(parser.add_argument_group("optimizer and schedule"))
    _augmentation(parser.add_argument_group("augmentation and regularization"))
    _run(parser.add_argument_group("run"))
    return parser


def _data(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("data", nargs="?", metavar="DIR", help="folder of the data (as --data-dir)")
    add("--data-dir", metavar="DIR", help="folder of the data, one folder per split and class")
    add("--dataset", default="", metavar="NAME", help="type and name, as in hfds/NAME (default: a folder or tar)")
    add("--train-split", default="train", metavar="NAME", help="(default: train)")
    add("--val-split", default="validation", metavar="NAME", help="(default: validation)")
    add("--dataset-download", action="store_true", help="allow torch/ and tfds/ to download")
    add("--class-map", default="", metavar="FILENAME", help="file that maps class names to indices")
    add("--input-key", default=None, help="data set key of the images")
    add("--target-key", default=None, help="data set key of the labels")


def _model(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--model", default="resnet50", metavar="MODEL", help="a timm name, hf-hub:OWNER/NAME, or FILE.py:factory")
    add("--pretrained", action="store_true", help="start from timm's weights")
    add("--initial-checkpoint", default="", metavar="PATH", help="start from these weights")
    add("--resume", default="", metavar="PATH", help="continue the run of this checkpoint")
    add("--no-resume-opt", action="store_true", help="continue without the state of the optimizer")
    add("--num-classes", type=int, default=None, metavar="N", help="(default: the model's own)")
    add("--gp", default=None, metavar="POOL", help="global pool type")
    add("--img-size", type=int, default=None, metavar="N", help="(default: the model's own)")
    add("--in-chans", type=int, default=None, metavar="N", help="input channels (default: 3)")
    add("--input-size", default=None, nargs=3, type=int, metavar="N", help="all input dimensions (d h w)")
    add("--crop-pct", default=None, type=float, metavar="N", help="centre crop for validation")
    add("--mean", type=float, nargs="+", default=None, metavar="MEAN", help="mean pixel value")
    add("--std", type=float, nargs="+", default=None, metavar="STD", help="standard deviation of pixels")
    add("--interpolation", default="", metavar="NAME", help="resize interpolation")
    add("--drop", type=float, default=0.0, metavar="PCT", help="dropout rate (default: 0)")
    add("--drop-path", type=float, default=None, metavar="PCT", help="drop path rate")
    add("--model-kwargs", nargs="*", default={}, action=ParseKwargs, metavar="KEY=VALUE")


def _optimizer(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--opt", default="sgd", metavar="OPTIMIZER", help="(default: sgd)")
    add("--momentum", type=float, default=0.9, metavar="M", help="(default: 0.9)")
    add("--weight-decay", type=float, default=2e-5, help="(default: 2e-5)")
    add("--layer-decay", type=float, default=None, help="layer-wise learning rate decay")
    add("--opt-kwargs", nargs="*", default={}, action=ParseKwargs, metavar="KEY=VALUE")
    add("--clip-grad", type=float, default=None, metavar="NORM", help="clip gradients (default: none)")
    add("--clip-mode", default="norm", choices=("norm", "value", "agc"), help="(default: norm)")
    add("--sched", default="cosine", metavar="SCHEDULER", help="(default: cosine)")
    add("--lr", type=float, default=None, metavar="LR", help="learning rate (default: from --lr-base)")
    add("--lr-base", type=float, default=0.1, metavar="LR", help="for --lr-base-size images per step (default: 0.1)")
    add("--lr-base-size", type=int, default=256, metavar="DIV", help="(default: 256)")
    add("--lr-base-scale", default="", metavar="SCALE", choices=("", "linear", "sqrt"), help="(default: by optimizer)")
    add("--warmup-lr", type=float, default=1e-5, metavar="LR", help="(default: 1e-5)")
    add("--warmup-epochs", type=int, default=5, metavar="N", help="(default: 5)")
    add("--min-lr", type=float, default=0.0, metavar="LR", help="(default: 0)")
    add("--epochs", type=int, default=300, metavar="N", help="(default: 300)")
    add("--start-epoch", type=int, default=None, metavar="N", help="(default: 0, or the next epoch of --resume)")
    add("--decay-milestones", type=int, nargs="+", default=[90, 180, 270], metavar="MILESTONES", help="of multistep")
    add("--decay-epochs", type=float, default=90, metavar="N", help="(default: 90)")
    add("--decay-rate", "--dr", type=float, default=0.1, metavar="RATE", help="(default: 0.1)")


def _augmentation(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--no-aug", action="store_true", help="no augmentation except mixup, cutmix and smoothing")
    add("--train-crop-mode", default=None, metavar="NAME", help="rrc, rkrc or rkrr (default: rrc)")
    add("--scale", type=float, nargs="+", default=[0.08, 1.0], metavar="PCT", help="(default: 0.08 1.0)")
    add("--ratio", type=float, nargs="+", default=[3 / 4, 4 / 3], metavar="RATIO", help="(default: 0.75 1.33)")
    add("--hflip", type=float, default=0.5, help="(default: 0.5)")
    add("--vflip", type=float, default=0.0, help="(default: 0)")
    add("--color-jitter", type=float, default=0.4, metavar="PCT", help="(default: 0.4)")
    add("--aa", default=None, metavar="NAME", help='auto-augment policy: "original", "rand-m9-mstd0.5", ...')
    add("--reprob", type=float, default=0.0, metavar="PCT", help="random erasing (default: 0)")
    add("--remode", default="pixel", help="(default: pixel)")
    add("--train-interpolation", default="random", help="random, bilinear or bicubic (default: random)")
    add("--mixup", type=float, default=0.0, help="alpha (default: 0)")
    add("--cutmix", type=float, default=0.0, help="alpha (default: 0)")
    add("--mixup-prob", type=float, default=1.0, help="(default: 1)")
    add("--mixup-switch-prob", type=float, default=0.5, help="(default: 0.5)")
    add("--smoothing", type=float, default=0.1, help="of labels (default: 0.1)")
    add("--model-ema", action="store_true", help="average the weights, and validate with the average")
    add("--model-ema-decay", type=float, default=0.9998, help="(default: 0.9998)")


def _run(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("-b", "--batch-size", type=int, default=128, metavar="N", help="per process (default: 128)")
    add("-vb", "--validation-batch-size", type=int, default=None, metavar="N", help="(default: as --batch-size)")
    add("--grad-accum-steps", type=int, default=1, metavar="N", help="batches per step (default: 1)")
    add("--grad-checkpointing", action="store_true", help="use less memory but more time")
    add("--channels-last", action="store_true", help="use the channels-last memory layout")
    add("--amp", action="store_true", help="mixed precision")
    add("--amp-dtype", default=None, choices=("float16", "bfloat16"), help="(default: float16 on CUDA, else bfloat16)")
    add("--torchcompile", nargs="?", default=None, const="inductor", metavar="BACKEND", help="compile the model")
    add("--device", default=None, help="cuda, cpu ... (default: CUDA if there is one)")
    add("--seed", type=int, default=42, metavar="S", help="(default: 42)")
    add("-j", "--workers", type=int, default=default_workers(), metavar="N", help="processes that read images")
    add("--log-interval", type=int, default=50, metavar="N", help="steps (default: 50)")
    add("--val-interval", type=int, default=1, metavar="N", help="epochs (default: 1)")
    add("--checkpoint-hist", type=int, default=10, metavar="N", help="checkpoints to keep (default: 10)")
    add("--eval-metric", default="top1", choices=("top1", "top5", "loss"), help="picks the best (default: top1)")
    add("--output", default="output/train", metavar="PATH", help="(default: output/train)")
    add("--experiment", default="", metavar="NAME", help="folder below it (default: time, model and size)")


def _read_config(path: str, parser: argparse.ArgumentParser) -> dict[str, object]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--config {shown(path)}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        first_line = str(error).partition("\n")[0]
        raise InputError(f"--config {shown(path)} cannot be read as YAML: {first_line}") from error
    if not isinstance(content, dict):
        raise InputError(f"--config {shown(path)}: expected flags and their values, got {type(content).__name__}")
    parser.set_defaults()  # hooks add their flags in this call, so that the file can set them
    known = {action.dest for action in parser._actions}
    unknown = [str(key) for key in content if key not in known]
    if unknown:
        raise InputError(f"--config {shown(path)}: no such flag: {listed(unknown)} (write underscores for dashes)")
    return content


def _check(args: argparse.Namespace) -> None:
    ranges: list[tuple[str, Callable[[float], bool], str]] = [
        *((name, lambda v: v >= 1, "at least 1") for name in (
            "epochs", "batch_size", "validation_batch_size", "grad_accum_steps", "log_interval", "val_interval",
            "checkpoint_hist", "num_classes", "img_size", "in_chans", "lr_base_size",
        )),
        *((name, lambda v: v >= 0, "at least 0") for name in (
            "workers", "warmup_epochs", "seed", "start_epoch", "weight_decay", "min_lr", "mixup", "cutmix",
        )),
        *((name, lambda v: v > 0, "above 0") for name in ("lr", "lr_base", "clip_grad")),
        *((name, lambda v: 0 <= v < 1, "in [0, 1)") for name in ("smoothing", "drop", "drop_path", "model_ema_decay")),
        *((name, lambda v: 0 <= v <= 1, "in [0, 1]") for name in (
            "hflip", "vflip", "reprob", "mixup_prob", "mixup_switch_prob",
        )),
    ]  # fmt: skip
    for name, fits, expected in ranges:
        value = getattr(args, name)
        if value is None:
            continue
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and fits(value)):
            raise InputError(f"--{name.replace('_', '-')}: expected a number {expected}, got {value!r}")
    if (args.mixup or args.cutmix) and args.batch_size % 2:
        raise InputError(f"--mixup and --cutmix need an even --batch-size, got {args.batch_size}")
