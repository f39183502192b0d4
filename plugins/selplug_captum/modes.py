"""Sets or checks the mode of modules when they run, since a forward function may call any modules."""

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
    """Eval mode for every module that runs inside; afterwards each module has its old mode again."""
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
    """Refuses modules that normalize over the batch, since samples then depend on each other.

    Raises:
        InputError: a batch norm uses the statistics of its batch.
    """

    def start(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        # The replicas of DataParallel run in threads of their own.
        for part in module.modules() if isinstance(module, nn.DataParallel) else (module,):
            if isinstance(part, _BatchNorm) and (part.training or part.running_mean is None):
                raise InputError(
                    f"a {type(part).__name__} normalizes over the batch, so that a unit's response to one sample "
                    "depends on all other samples: call model.eval() first"
                    + ("" if part.training else " and give it running statistics (track_running_stats=True)")
                )

    handle = register_module_forward_pre_hook(on_this_thread(start))
    try:
        yield
    finally:
        handle.remove()
