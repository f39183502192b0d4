"""The training hook ``selectivity``: class selectivity as a term of the loss of timm's train script."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from selplug.core.errors import CaptureError, InputError
from selplug.core.training import TrainingContext, TrainingHook
from selplug.core.training.regularizer import SelectivityRegularizer


class SelectivityHook(TrainingHook):
    """loss = task_loss - alpha * mean class selectivity, by :mod:`selplug.core.training.regularizer`."""

    def __init__(self) -> None:
        self._schedule: dict[int, float] = {0: 0.0}
        self._regularizer: SelectivityRegularizer | None = None
        self._names: list[str] = []
        self._layers: Tensor | None = None  # (L,) sums over the batches of the epoch
        self._penalty: Tensor | None = None
        self._batches = 0

    def add_arguments(self, group: argparse._ArgumentGroup) -> None:
        group.add_argument(
            "--selectivity-alpha",
            type=float,
            default=0.0,
            metavar="FLOAT",
            help="loss = task_loss - alpha * mean class selectivity: alpha > 0 promotes selectivity, alpha < 0 reduces "
            "it, 0 is off (default: 0)",
        )
        group.add_argument(
            "--selectivity-schedule",
            default=None,
            metavar="EPOCH:ALPHA,...",
            help="alpha from each of these epochs on, counted from 0, as in 0:0,10:-1; before the first of them, "
            "--selectivity-alpha applies (default: none)",
        )
        group.add_argument(
            "--selectivity-layers",
            action="append",
            default=None,
            metavar="GLOB",
            help="pattern for module names, repeatable (default: every activation)",
        )
        group.add_argument(
            "--selectivity-ema",
            type=float,
            default=None,
            metavar="DECAY",
            help="compute class sums as a running average over steps with this decay in [0, 1), for many classes and "
            "small batches (default: the present batch only)",
        )
        group.add_argument(
            "--selectivity-sync",
            action="store_true",
            default=False,
            help="sum classes over all processes",
        )

    def active(self, args: argparse.Namespace) -> bool:
        alpha = _finite(args.selectivity_alpha, "--selectivity-alpha")
        self._schedule = {0: alpha, **parse_schedule(args.selectivity_schedule)}
        ema = args.selectivity_ema
        if ema is not None and not 0 <= _finite(ema, "--selectivity-ema") < 1:
            raise InputError(f"--selectivity-ema: expected a decay in [0, 1), got {ema}")
        return any(self._schedule.values())

    def attach(self, model: nn.Module, args: argparse.Namespace, context: TrainingContext) -> None:
        layers = args.selectivity_layers
        try:
            self._regularizer = SelectivityRegularizer(
                model,
                self.alpha_at(0),
                context.images,
                num_classes=context.num_classes,
                layers=[layers] if isinstance(layers, str) else layers,
                ema=args.selectivity_ema,
                sync=args.selectivity_sync,
            )
        except CaptureError as error:  # the message of the core names the flag of an audit
            raise CaptureError(str(error).replace("--layers", "--selectivity-layers")) from error
        self._names = list(self._regularizer.per_layer)

    def alpha_at(self, epoch: int) -> float:
        """The alpha of an epoch."""
        return self._schedule[max(start for start in self._schedule if start <= epoch)]

    def on_epoch(self, epoch: int) -> None:
        if self._regularizer is not None:
            self._regularizer.alpha = self.alpha_at(epoch)
        self._layers = self._penalty = None
        self._batches = 0

    def extra_loss(self, output: Tensor, target: Tensor) -> Tensor | None:
        regularizer = self._regularizer
        if regularizer is None or not regularizer.alpha:
            return None
        penalty = regularizer(target)
        layers = torch.stack(list(regularizer.per_layer.values()))
        # Summed on the device: reading each value would wait for the GPU.
        self._layers = layers if self._layers is None else self._layers + layers
        self._penalty = penalty.detach().clone() if self._penalty is None else self._penalty + penalty.detach()
        self._batches += 1
        return penalty

    def scalars(self) -> Mapping[str, float]:
        if self._regularizer is None:
            return {}
        if self._layers is None or self._penalty is None:
            penalty, means = 0.0, [math.nan] * len(self._names)
        else:
            penalty, means = float(self._penalty) / self._batches, (self._layers / self._batches).tolist()
        return {
            "alpha": self._regularizer.alpha,
            "penalty": penalty,
            "selectivity": math.fsum(means) / len(means) if not any(map(math.isnan, means)) else math.nan,
            **{f"selectivity/{name}": mean for name, mean in zip(self._names, means, strict=True)},
        }

    def close(self) -> None:
        if self._regularizer is not None:
            self._regularizer.close()


def parse_schedule(text: Any) -> dict[int, float]:
    """``"0:0,10:-1"`` -> ``{0: 0.0, 10: -1.0}``; None and the empty text -> ``{}``.

    Raises:
        InputError: wrong syntax, epochs that do not rise, or an alpha that is not finite.
    """
    if text is None or text == "":
        return {}
    expected = "--selectivity-schedule: expected EPOCH:ALPHA,EPOCH:ALPHA,... with epochs rising, as in 0:0,10:-1"
    if not isinstance(text, str):
        # YAML reads 5:10 as a number in base 60.
        raise InputError(f"{expected}; got {text!r}; in a YAML file put it in quotation marks")
    schedule: dict[int, float] = {}
    for item in text.split(","):
        epoch, _, alpha = (part.strip() for part in item.partition(":"))
        if not re.fullmatch(r"[0-9]+", epoch):
            raise InputError(f"{expected}; got {item!r} in {text!r}")
        if schedule and int(epoch) <= max(schedule):
            raise InputError(f"{expected}; epoch {int(epoch)} is not after {max(schedule)} in {text!r}")
        try:
            schedule[int(epoch)] = float(alpha)
        except ValueError:
            raise InputError(f"{expected}; got {item!r} in {text!r}") from None
        _finite(schedule[int(epoch)], f"--selectivity-schedule {text!r}")
    return schedule


def _finite(value: Any, flag: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"{flag}: expected a finite number, got {value!r}")
    return float(value)
