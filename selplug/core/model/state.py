"""Context managers that change a model or the random generators and restore them, even after an exception."""

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

    Flags are restored per module: ``model.train()`` would also switch a frozen batch norm to train mode. Inside, no
    parameter has a gradient, since a backward pass would add to an existing one in place.
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
    """Eval mode and no parameter gradients inside; everything is restored afterwards."""
    with untouched(model):
        model.eval()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        yield


def on_this_thread(hook: Callable[..., None]) -> Callable[..., None]:
    """The hook, limited to this thread: hooks for all modules are also called by other threads."""
    owner = threading.get_ident()

    def guarded(*arguments: Any) -> None:
        if threading.get_ident() == owner:
            hook(*arguments)

    return guarded


@contextmanager
def placed(model: nn.Module, device: torch.device | None) -> Iterator[torch.device]:
    """Moves the model to ``device`` (its own if None) inside; afterwards every tensor is back on its old device."""
    tensors = [*model.parameters(), *model.buffers()]
    homes = [tensor.device for tensor in tensors]
    device = device or (homes[0] if homes else torch.device("cpu"))
    try:
        if any(home != device for home in homes):
            model.to(device)
        yield device
    finally:
        # Module.to keeps the parameter objects, but replaces the buffers.
        for tensor, home in zip([*model.parameters(), *model.buffers()], homes, strict=True):
            if tensor.device != home:
                tensor.data = tensor.data.to(home)


@contextmanager
def uncompiled_calls(model: nn.Module) -> Iterator[None]:
    """Inside, modules compiled in place (``Module.compile``) run uncompiled, so that hooks work."""
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
    """Seeds all random generators (torch on the CPU and ``device``, numpy, random) inside and restores them."""
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
    """cuDNN always uses the same algorithm, and float32 products have full precision (no TF32)."""
    with torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False
    ):
        yield
