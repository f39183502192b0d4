"""The training hook ``local-errors``: each stage learns by its own error, in timm's train script."""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from selplug.core.errors import CaptureError, InputError
from selplug.core.training import TrainingContext, TrainingHook
from selplug.core.training.local_errors import LocalErrors

#: The name under which timm's train script logs.
_logger = logging.getLogger("train")


class LocalErrorsHook(TrainingHook):
    """loss = loss of the network's own classifier + local errors, by :mod:`selplug.core.training.local_errors`."""

    def __init__(self) -> None:
        self._local_errors: LocalErrors | None = None
        self._sums: Tensor | None = None  # (2, K) local errors and accuracies, over the batches of the epoch
        self._batches = 0

    def add_arguments(self, group: argparse._ArgumentGroup) -> None:
        group.add_argument(
            "--local-errors",
            action="store_true",
            default=False,
            help="train each stage of the network by its own error through a fixed random classifier (drawn with "
            "--seed), without gradients between stages",
        )
        group.add_argument(
            "--local-errors-stages",
            action="append",
            default=None,
            metavar="GLOB",
            help="pattern for the names of the modules that end a stage, repeatable (default: the stages that timm "
            "lists for the model)",
        )

    def active(self, args: argparse.Namespace) -> bool:
        on = args.local_errors
        if not isinstance(on, bool):
            raise InputError(f"--local-errors: expected true or false, got {on!r}")
        if args.local_errors_stages and not on:
            raise InputError("--local-errors-stages needs --local-errors")
        return on

    def attach(self, model: nn.Module, args: argparse.Namespace, context: TrainingContext) -> None:
        stages = args.local_errors_stages
        try:
            listed = {} if stages else stages_of(model)
            self._local_errors = LocalErrors(
                model,
                [stages] if isinstance(stages, str) else stages or list(listed),
                context.criterion,
                context.images,
                num_classes=context.num_classes,
                channels=listed,
                seed=getattr(args, "seed", 0),  # the same on all ranks
            )
        except CaptureError as error:
            raise CaptureError(f"{getattr(args, 'model', type(model).__name__)}: {error}") from error
        if context.rank == 0:
            _logger.info("Local errors of the stages %s", ", ".join(self._local_errors.stages))

    def on_epoch(self, epoch: int) -> None:
        self._sums, self._batches = None, 0

    def extra_loss(self, output: Tensor, target: Tensor) -> Tensor | None:
        if self._local_errors is None:
            return None
        loss = self._local_errors(target)
        # Summed on the device: reading each value would wait for the GPU.
        values = torch.stack([self._local_errors.losses, self._local_errors.accuracies])
        self._sums = values if self._sums is None else self._sums + values
        self._batches += 1
        return loss

    def scalars(self) -> Mapping[str, float]:
        if self._local_errors is None:
            return {}
        stages = self._local_errors.stages
        none = [math.nan] * len(stages)
        losses, accuracies = (none, none) if self._sums is None else (self._sums / self._batches).tolist()
        return {
            "local_error": math.fsum(losses),
            **{f"error/{stage}": value for stage, value in zip(stages, losses, strict=True)},
            **{f"accuracy/{stage}": value for stage, value in zip(stages, accuracies, strict=True)},
        }

    def close(self) -> None:
        if self._local_errors is not None:
            self._local_errors.close()


def stages_of(model: nn.Module) -> dict[str, int]:
    """The last module of each stage and its channels, as timm lists them in ``feature_info``: name -> channels.

    Some listed names are not modules. Such a name stands for the only module whose name ends with it. If no listed name
    is a module, the members of ``stages`` or ``blocks`` are used, provided their number is the same. Other names are
    left out.

    Raises:
        CaptureError: no stage is found.
    """
    info = getattr(model, "feature_info", None) or []
    listed = {str(entry["module"]): int(entry["num_chs"]) for entry in info}
    named = dict(model.named_modules())
    found = {names[0]: listed[name] for name in listed if len(names := _meant(name, named)) == 1}
    for container in ("stages", "blocks"):
        members = [f"{container}.{name}" for name, _ in named[container].named_children()] if container in named else []
        if not found and len(members) == len(listed):
            found = dict(zip(members, listed.values(), strict=True))
    if not found:
        raise CaptureError(
            f"timm lists no stages for this model (feature_info: {', '.join(listed) or 'nothing'}); give the modules "
            "that end a stage with --local-errors-stages"
        )
    return found


def _meant(name: str, named: Mapping[str, nn.Module]) -> list[str]:
    return [name] if name and name in named else [other for other in named if name and other.endswith("." + name)]
