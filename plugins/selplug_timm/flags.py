from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from selplug.specs import parse_value

from .options import CROP_MODES, INTERPOLATIONS

if TYPE_CHECKING:
    from selplug.core.types import Subject


class TimmSubject:
    """Models by their timm names, timm's training runs and data sets, with the flags of timm's validation script."""

    #: Options that do not change any result.
    aside = ("workers", "dataset_download")

    def add_arguments(self, group: argparse._ArgumentGroup) -> None:
        """The flags of model and data. Defaults come from the training run, the model or the data."""
        add = group.add_argument
        add("--data-dir", metavar="DIR", help="Path to the data set (root dir).")
        add("--dataset", metavar="NAME", help="Type and name, as in hfds/NAME; a folder or tar if empty.")
        add("--split", metavar="NAME", help="Data set split; validation if empty.")
        add("--class-map", metavar="FILE", help="File that maps class names to indices.")
        add("--dataset-download", action="store_true", help="Allow torch/ and tfds/ to download.")
        add("--input-key", metavar="KEY", help="Data set key of the images.")
        add("--target-key", metavar="KEY", help="Data set key of the labels.")
        add("--checkpoint", metavar="FILE", help="Weights: .pth, .pt, .th, .tar or .safetensors.")
        add(
            "--pretrained",
            action=argparse.BooleanOptionalAction,
            help="timm's own weights; the default without --checkpoint.",
        )
        add("--use-ema", action="store_true", help="Use the EMA weights of the checkpoint.")
        add("--num-classes", type=int, metavar="K", help="Number of classes of the model.")
        add("--in-chans", type=int, metavar="C", help="Number of input channels.")
        add("--gp", metavar="POOL", help="Global pool type.")
        add("--img-size", type=int, metavar="S", help="Input image size; the model's own if empty.")
        add("--input-size", type=int, nargs=3, metavar=("C", "H", "W"), help="All input dimensions.")
        add("--mean", type=float, nargs="+", action="extend", metavar="M", help="Mean pixel value, one or per channel.")
        add("--std", type=float, nargs="+", action="extend", metavar="S", help="Std deviation, one or per channel.")
        add("--crop-pct", type=float, metavar="SHARE", help="Centre crop, as a share of the image.")
        add("--crop-mode", metavar="MODE", help=f"{', '.join(CROP_MODES)}.")
        add("--interpolation", metavar="NAME", help=f"Resize interpolation: {', '.join(INTERPOLATIONS)}.")
        add("--num-samples", type=int, metavar="N", help="Use this many images: a seeded, class-balanced draw.")
        add("-j", "--workers", type=int, metavar="N", help="Processes that read images; up to 4 by default.")
        add(
            "--model-kwargs",
            type=_key_value,
            nargs="+",
            action="extend",
            metavar="KEY=VALUE",
            help="Arguments of the model.",
        )
        add("--skip-bad", action="store_true", help="Leave out images that cannot be read.")

    def __call__(self, model: str, options: Mapping[str, Any]) -> Subject:
        """See :func:`selplug_timm.subject.load`."""
        from .subject import load

        return load(model, options)


def _key_value(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not (equals and key.isidentifier()):
        raise argparse.ArgumentTypeError(f"expected key=value, got {text!r}")
    return key, parse_value(value)


timm = TimmSubject()
