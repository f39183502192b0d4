"""Replaces parts of timm and argparse while an unmodified train script runs, so that the hooks take part."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm.scheduler
import timm.task
import timm.utils
from timm.task.task import TrainingTask
from torch import Tensor

from selplug.core.errors import InputError

if TYPE_CHECKING:
    from .training_run import TrainingRun


@contextmanager
def patched(run: TrainingRun) -> Iterator[None]:
    """Connects parser, task, scheduler and summary of a train script to ``run`` inside the block."""
    with ExitStack() as stack:
        _patch_parser(stack, run)
        _patch_tasks(stack, run)
        _patch_epochs(stack, run)
        yield


def _patch_parser(stack: ExitStack, run: TrainingRun) -> None:
    """Adds our flags to the parser that has ``--model``.

    Replaces methods, not the class: argparse looks up its class by name to find inherited methods.
    """
    parser_class = argparse.ArgumentParser
    set_defaults, parse_known_args = parser_class.set_defaults, parser_class.parse_known_args

    def is_main(parser: argparse.ArgumentParser) -> bool:
        return any("--model" in action.option_strings for action in parser._actions)

    # A YAML file is read by set_defaults. It checks nothing, but existing flags take its values.
    @wraps(set_defaults)
    def with_defaults(self: argparse.ArgumentParser, **kwargs: Any) -> None:
        if is_main(self):
            run.extend(self)
        set_defaults(self, **kwargs)

    @wraps(parse_known_args)
    def with_flags(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> Any:
        if not is_main(self):
            return parse_known_args(self, *args, **kwargs)
        run.extend(self)
        namespace, rest = parse_known_args(self, *args, **kwargs)
        run.parsed(namespace)
        return namespace, rest

    _replace(stack, parser_class, "set_defaults", with_defaults)
    _replace(stack, parser_class, "parse_known_args", with_flags)


def _patch_tasks(stack: ExitStack, run: TrainingRun) -> None:
    plain: type = timm.task.ClassificationTask

    class HookedClassificationTask(plain):  # type: ignore[misc]
        """timm's task with the hooks. It relies only on the names ``input``, ``target``, ``loss`` and ``output``."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            if run.active:
                run.attach(self.trainable_module, self.criterion)

        def prepare_distributed(self, device_ids: Any = None, **kwargs: Any) -> Any:
            # timm's script passes a list of devices on a CPU too, where torch accepts none.
            on_cpu = next(self.trainable_module.parameters()).device.type == "cpu"
            return super().prepare_distributed(device_ids=None if on_cpu else device_ids, **kwargs)

        def forward(self, input: Tensor, target: Tensor) -> dict[str, Tensor]:  # noqa: A002 - timm's name for it
            if not (run.active and self.trainable_module.training):
                return super().forward(input, target)
            images, target = run.on_batch(input, target)
            result = dict(super().forward(images, target))
            result["loss"] = run.on_loss(result["loss"], result["output"], target)
            return result

    begin = TrainingTask.__init__

    # Other tasks (distillation, multi-label, the user's own) would train without the hooks.
    @wraps(begin)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        if run.active and not isinstance(self, HookedClassificationTask):
            raise InputError(
                f"{' and '.join(run.active)} cannot take part in {type(self).__name__}: training hooks work with "
                "timm's ClassificationTask only; leave out the flags of the hooks, or the flags that choose this task"
            )
        begin(self, *args, **kwargs)

    _replace(stack, TrainingTask, "__init__", checked)
    _replace(stack, timm.task, "ClassificationTask", HookedClassificationTask)
    _replace(stack, timm.task.classification, "ClassificationTask", HookedClassificationTask)


def _patch_epochs(stack: ExitStack, run: TrainingRun) -> None:
    """Passes epochs to ``run``: the scheduler knows when one begins, the summary when one ends, the task neither."""
    schedulers: Any = timm.scheduler
    utils: Any = timm.utils
    create, summarize = schedulers.create_scheduler_v2, utils.update_summary
    resume = timm.task.resume_task_checkpoint
    watched: set[type] = set()

    @wraps(create)
    def create_watched(*args: Any, **kwargs: Any) -> Any:
        run.check_attached()
        scheduler, epochs = create(*args, **kwargs)
        kind = type(scheduler)
        if scheduler is not None and kind not in watched:
            watched.add(kind)
            _replace(stack, kind, "step", _announcing(kind.step, run))
        return scheduler, epochs

    @wraps(summarize)
    def summarize_both(*args: Any, **kwargs: Any) -> None:
        given = inspect.signature(summarize).bind(*args, **kwargs).arguments
        run.ended(given["epoch"])
        summarize(*args, **kwargs)
        run.write(Path(given["filename"]).parent)

    @wraps(resume)
    def resume_watched(*args: Any, **kwargs: Any) -> Any:
        epoch = resume(*args, **kwargs)
        run.resumed(epoch)
        return epoch

    _replace(stack, schedulers, "create_scheduler_v2", create_watched)
    _replace(stack, utils, "update_summary", summarize_both)
    _replace(stack, timm.task, "resume_task_checkpoint", resume_watched)


def _announcing(step: Callable[..., Any], run: TrainingRun) -> Callable[..., Any]:
    @wraps(step)
    def announced(self: Any, epoch: int, *args: Any, **kwargs: Any) -> Any:
        run.begins(epoch)
        return step(self, epoch, *args, **kwargs)

    return announced


def _replace(stack: ExitStack, holder: Any, name: str, value: Any) -> None:
    """Replaces an attribute until the stack closes; an inherited attribute is inherited again afterwards."""
    own = vars(holder).get(name)
    if name in vars(holder):
        stack.callback(setattr, holder, name, own)
    else:
        stack.callback(delattr, holder, name)
    setattr(holder, name, value)
