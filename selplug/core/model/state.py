"""Leaving no trace: what a run touches on a model and on the random generators is put back, whatever is raised."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Restores every module's ``training`` flag and every parameter's ``requires_grad`` and ``grad`` on exit.

    Per module, since a blanket ``model.train()`` would wake a deliberately frozen batch norm. Inside, no parameter has
    a gradient: a backward pass would add to the one there is in place.
    """
    training = [(module, module.training) for module in model.modules()]
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    try:
        for parameter in model.parameters():
            parameter.grad = None
        yield
    finally:
        for module, flag in training:
            module.training = flag
        for parameter, requires_grad, grad in parameters:
            parameter.requires_grad_(requires_grad)
            parameter.grad = grad


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Eval mode and no parameter gradients inside; everything as before after it."""
    with untouched(model):
        model.eval()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        yield


def on_this_thread(hook: Callable[..., None]) -> Callable[..., None]:
    """The hook, deaf to what other threads run: hooks for all modules would hear them too."""
    owner = threading.get_ident()

    def guarded(*arguments: Any) -> None:
        if threading.get_ident() == owner:
            hook(*arguments)

    return guarded


@contextmanager
def placed(model: nn.Module, device: torch.device | None) -> Iterator[torch.device]:
    """The model on ``device`` (its own if None) inside; every tensor back where it was after it."""
    tensors = [*model.parameters(), *model.buffers()]
    homes = [tensor.device for tensor in tensors]
    device = device or (homes[0] if homes else torch.device("cpu"))
    try:
        if any(home != device for home in homes):
            model.to(device)
        yield device
    finally:
        # Identity of parameters survives Module.to, that of buffers does not.
        for tensor, home in zip([*model.parameters(), *model.buffers()], homes, strict=True):
            if tensor.device != home:
                tensor.data = tensor.data.to(home)


@contextmanager
def uncompiled_calls(model: nn.Module) -> Iterator[None]:
    """Modules that were compiled in place (``Module.compile``) run uncompiled inside: there hooks fire."""
    compiled = [(module, module._compiled_call_impl) for module in model.modules()]
    try:
        for module, _ in compiled:
            module._compiled_call_impl = None
        yield
    finally:
        for module, call in compiled:
            module._compiled_call_impl = call


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """All random generators (torch on the CPU and ``device``, numpy, random) seeded inside, as before after it."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


@contextmanager
def deterministic() -> Iterator[None]:
    """cuDNN picks the same algorithm each time, and float32 products are float32 products."""
    with torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False
    ):
        yield
