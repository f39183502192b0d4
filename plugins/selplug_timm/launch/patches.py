"""What an unmodified train script meets in place of timm's and argparse's own parts while it runs."""

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
    """Leads parser, task, scheduler and summary of a train script past ``run``; all as before after the block."""
    with ExitStack() as stack:
        _patch_parser(stack, run)
        _patch_tasks(stack, run)
        _patch_epochs(stack, run)
        yield


def _patch_parser(stack: ExitStack, run: TrainingRun) -> None:
    """The parser that knows ``--model`` gets our flags.

    Methods are replaced, not the class: argparse's own code looks its class up by name to find its parents' methods.
    """
    parser_class = argparse.ArgumentParser
    set_defaults, parse_known_args = parser_class.set_defaults, parser_class.parse_known_args

    def is_main(parser: argparse.ArgumentParser) -> bool:
        return any("--model" in action.option_strings for action in parser._actions)

    # A YAML file comes in by set_defaults; it checks nothing, but flags that are there by then take its values.
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
        """timm's task; only the names ``input``, ``target``, ``loss`` and ``output`` are taken from it."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            if run.active:
                run.attach(self.trainable_module, self.criterion)

        def prepare_distributed(self, device_ids: Any = None, **kwargs: Any) -> Any:
            # timm's script gives the list of devices on a CPU, too, where torch takes none.
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

    # Whatever else trains (distillation, multi-label, a task of the user's own) would do so without the hooks.
    @wraps(begin)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        if run.active and not isinstance(self, HookedClassificationTask):
            raise InputError(
                f"{' and '.join(run.active)} cannot take part in {type(self).__name__}: training hooks work with "
                "timm's ClassificationTask alone; leave out the flags of the hooks, or those that ask for this task"
            )
        begin(self, *args, **kwargs)

    _replace(stack, TrainingTask, "__init__", checked)
    _replace(stack, timm.task, "ClassificationTask", HookedClassificationTask)
    _replace(stack, timm.task.classification, "ClassificationTask", HookedClassificationTask)


def _patch_epochs(stack: ExitStack, run: TrainingRun) -> None:
    """The task is not told the epoch. The scheduler is told each that begins, the summary each that ended."""
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
    """Until the stack closes; an attribute that the holder only inherits is its parents' again after that."""
    own = vars(holder).get(name)
    if name in vars(holder):
        stack.callback(setattr, holder, name, own)
    else:
        stack.callback(delattr, holder, name)
    setattr(holder, name, value)
