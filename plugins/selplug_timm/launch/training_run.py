"""One run of a train script with its hooks: which are active, the present epoch, what is logged and saved."""

from __future__ import annotations

import argparse
import csv
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakSet

import timm.data
import torch
from torch import Tensor, nn

from selplug.core.errors import InputError, PluginError
from selplug.core.training import TrainingContext, TrainingHook

from ..hooks.load import add_flags

#: The name under which timm's train script logs.
_logger = logging.getLogger("train")


class TrainingRun:
    """Receives the script's events from the patches and passes them to the hooks.

    Args:
        hooks: all installed hooks, by name.

    Attributes:
        active: the hooks that the arguments switch on; empty until these are parsed.
        args: the parsed arguments, None until then.
    """

    def __init__(self, hooks: Mapping[str, TrainingHook]) -> None:
        self.hooks = dict(hooks)
        self.active: dict[str, TrainingHook] = {}
        self.args: argparse.Namespace | None = None
        self._parsers: WeakSet[argparse.ArgumentParser] = WeakSet()
        self._attached = False
        self._rank = 0
        self._epoch = 0
        self._announced: int | None = None  # the last epoch that was passed to the hooks
        self._batches = 0
        self._task_loss: Tensor | None = None  # summed over the batches of the epoch
        self._rows: list[tuple[int, float, dict[str, dict[str, float]]]] = []

    def extend(self, parser: argparse.ArgumentParser) -> None:
        """Adds the flags of all hooks to the script's parser, once."""
        if parser not in self._parsers:
            self._parsers.add(parser)
            add_flags(self.hooks, parser)

    def parsed(self, args: argparse.Namespace) -> None:
        """Called when the script has parsed its arguments.

        Raises:
            InputError: the arguments of a hook are wrong.
        """
        self.args = args
        self.active = {name: hook for name, hook in self.hooks.items() if hook.active(args)}
        self._rank = getattr(args, "rank", 0)
        self.resumed(0)

    def attach(self, model: nn.Module, criterion: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Called when the script has built its task with this model and this loss.

        Raises:
            SelplugError: a hook cannot work with it.
        """
        if self._attached:
            raise InputError("the script built a second ClassificationTask, but training hooks work with one per run")
        context = _context(model, criterion, self._arguments())
        self._rank = context.rank
        cuda = [context.device] if context.device.type == "cuda" else []
        # The run must draw the same random numbers as without hooks.
        with torch.random.fork_rng(devices=cuda):
            for hook in self.active.values():
                hook.attach(model, self._arguments(), context)
        self._attached = True

    def check_attached(self) -> None:
        """Raises InputError if there are active hooks and the script has not built the task that they attach to."""
        if self.active and not self._attached:
            raise InputError(
                f"{' and '.join(self.active)} could not take part: the script built no timm.task.ClassificationTask; "
                "use timm's train.py of timm 1.0.27 or later, or a script that trains with this task"
            )

    def resumed(self, epoch: int | None) -> None:
        """Sets the first epoch from a checkpoint; ``--start-epoch`` overrides it."""
        start = getattr(self._arguments(), "start_epoch", None)
        self._epoch = start if start is not None else epoch or 0

    def begins(self, epoch: int) -> None:
        """Called before the first batch of this epoch."""
        if self._batches:
            self._finish()
        self._epoch = epoch

    def ended(self, epoch: int) -> None:
        """Called when the script summarizes this epoch.

        Raises:
            InputError: no batch went through the task, or the hooks were in another epoch.
        """
        if not self.active:
            return
        self.check_attached()
        if self._batches:
            self._finish()
        last = self._rows[-1][0] if self._rows else None
        if self._rank == 0 and last != epoch:
            raise InputError(
                f"the script reports epoch {epoch}, but {'no batch' if last is None else f'epoch {last}'} went through "
                "its ClassificationTask: training hooks cannot work with this script"
            )
        self._epoch = epoch + 1

    def on_batch(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The batch after all hooks have changed it."""
        if not isinstance(images, Tensor):
            raise InputError(
                f"training hooks need batches of image tensors, got {type(images).__name__} (NaFlex loader?)"
            )
        if self._announced != self._epoch:
            self._announced = self._epoch
            for hook in self.active.values():
                hook.on_epoch(self._epoch)
        for hook in self.active.values():
            images, target = hook.on_batch(images, target)
        return images, target

    def on_loss(self, loss: Tensor, output: Tensor, target: Tensor) -> Tensor:
        """The loss of the task and of all hooks together."""
        task_loss = loss.detach().double() if loss.device.type != "mps" else loss.detach().float()
        self._task_loss = task_loss if self._task_loss is None else self._task_loss + task_loss
        for name, hook in self.active.items():
            extra = hook.extra_loss(output, target)
            if extra is not None:
                if extra.ndim:
                    raise PluginError(
                        f"expected a scalar loss from the training hook {name}, got shape {tuple(extra.shape)}"
                    )
                loss = loss + extra
        self._batches += 1
        self._log()
        return loss

    def write(self, folder: Path) -> None:
        """Appends the epochs finished since the last call to one file per hook."""
        for name in self.active:
            for epoch, task_loss, values in self._rows:
                row = {"epoch": epoch, "task_loss": task_loss, **values[name]}
                _append(folder / f"{name}.csv", row)
        self._rows.clear()

    def close(self) -> None:
        """Detaches all hooks from the model."""
        for hook in self.active.values():
            hook.close()

    def _arguments(self) -> argparse.Namespace:
        if self.args is None:
            raise InputError("the script builds its task before it parses its arguments: is it timm's train script?")
        return self.args

    def _mean_task_loss(self) -> float:
        return math.nan if self._task_loss is None else float(self._task_loss) / self._batches

    def _log(self) -> None:
        """Logs once per log interval. Like the script, it counts updates, not the batches accumulated in them."""
        steps = max(1, getattr(self.args, "grad_accum_steps", 1) or 1)
        update, more = divmod(self._batches - 1, steps)
        interval = max(1, getattr(self.args, "log_interval", 50) or 50)
        if self._rank == 0 and more == 0 and update % interval == 0:
            self._log_line(f"[{update:>4d}]", {name: dict(hook.scalars()) for name, hook in self.active.items()})

    def _finish(self) -> None:
        if self._rank == 0:
            values = {name: dict(hook.scalars()) for name, hook in self.active.items()}
            self._log_line("mean  ", values)
            self._rows.append((self._epoch, self._mean_task_loss(), values))
        self._batches, self._task_loss = 0, None

    def _log_line(self, where: str, values: Mapping[str, Mapping[str, float]]) -> None:
        parts = [f"Hooks: {self._epoch} {where}  task loss: {self._mean_task_loss():#.4g}"]
        for name, scalars in values.items():
            shown = [f"{key} {value:.4g}" for key, value in scalars.items() if "/" not in key]
            parts.append(f"{name}: {', '.join(shown)}" if shown else name)
        _logger.info("%s", "  ".join(parts))


def _context(
    model: nn.Module, criterion: Callable[[Tensor, Tensor], Tensor], args: argparse.Namespace
) -> TrainingContext:
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError("training hooks cannot attach to a model made by torch.jit: leave out --torchscript")
    parameter = next(model.parameters())
    data: Any = timm.data
    config = data.resolve_data_config(vars(args), model=model, verbose=False)
    adapt, channels = data.loader.adapt_to_chs, config["input_size"][0]
    noise = torch.randn(2, *config["input_size"], generator=torch.Generator().manual_seed(0))
    return TrainingContext(
        device=parameter.device,
        dtype=parameter.dtype,
        input_size=tuple(config["input_size"]),
        images=noise.to(parameter.device, parameter.dtype),
        # as in timm's loader: its configurations have three values for gray images too
        normalize=(adapt(config["mean"], channels), adapt(config["std"], channels)),
        criterion=criterion,
        num_classes=getattr(args, "num_classes", None),
        rank=getattr(args, "rank", 0),
        world_size=getattr(args, "world_size", 1),
    )


def _append(path: Path, row: Mapping[str, float]) -> None:
    """Appends one row, with a header first if the file is new or has other columns.

    A hook's NaN means "no value" and is left empty; a loss of NaN is written.
    """
    header = list(row)
    begun = path.is_file() and path.stat().st_size > 0
    if begun:
        with path.open(newline="", encoding="utf-8") as file:
            begun = next(csv.reader(file), None) == header
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if not begun:
            writer.writerow(header)
        writer.writerow("" if math.isnan(value) and key != "task_loss" else value for key, value in row.items())
