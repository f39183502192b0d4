"""Modes of modules that nobody handed over: a forward function may be any callable, so they are met as they run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import register_module_forward_pre_hook

from selplug.core.errors import InputError
from selplug.core.model.state import on_this_thread


@contextmanager
def evaluating() -> Iterator[None]:
    """Eval mode for every module that runs inside; each as before after it, a frozen batch norm too."""
    training: dict[nn.Module, bool] = {}

    def start(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if module not in training:
            for part in module.modules():
                training.setdefault(part, part.training)
                part.training = False

    handle = register_module_forward_pre_hook(on_this_thread(start))
    try:
        yield
    finally:
        handle.remove()
        for module, flag in training.items():
            module.training = flag


@contextmanager
def samples_apart() -> Iterator[None]:
    """Refuses modules that normalize over the batch, where no sample has a gradient of its own.

    Raises:
        InputError: a batch norm runs on the statistics of its batch.
    """

    def start(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        # The replicas of DataParallel run in threads of their own.
        for part in module.modules() if isinstance(module, nn.DataParallel) else (module,):
            if isinstance(part, _BatchNorm) and (part.training or part.running_mean is None):
                raise InputError(
                    f"a {type(part).__name__} normalizes over the batch, so that a unit's response to one sample "
                    "depends on all others and has no gradient of its own: call model.eval() first"
                    + ("" if part.training else " and give it running statistics (track_running_stats=True)")
                )

    handle = register_module_forward_pre_hook(on_this_thread(start))
    try:
        yield
    finally:
        handle.remove()
