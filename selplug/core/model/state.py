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

from ..errors import InputError


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
    """The model on ``device`` (its own if None) inside; after it every tensor is what and where it was.

    That holds for gradients too, and where the move itself fails halfway, out of memory say.

    Raises:
        InputError: the device or a tensor of the model is "meta", where there are no values.
    """
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    homes = [tensor.device for tensor in tensors.values()]
    device = device or (homes[0] if homes else torch.device("cpu"))
    empty = next((name for name, tensor in tensors.items() if tensor.is_meta), None)
    if empty is not None:
        raise InputError(f"expected a model with weights, but {empty} is on the device 'meta', which holds none")
    if device.type == "meta":
        raise InputError("the device 'meta' holds no values, so nothing can be computed on it; give another, as 'cpu'")
    if all(home == device for home in homes):
        yield device
        return
    # The tensors as they are, not where they are: what is moved back from a device that failed may be lost. By module
    # and name, since Module.to may put others in their place, as it does with all buffers.
    modules = [(module, dict(module._parameters), dict(module._buffers)) for module in model.modules()]
    held = [(tensor, tensor.data) for tensor in tensors.values()]
    held += [(grad, grad.data) for parameter in model.parameters() if (grad := parameter.grad) is not None]
    try:
        model.to(device)
        yield device
    finally:
        for module, parameters, buffers in modules:
            module._parameters.update(parameters)
            module._buffers.update(buffers)
        for tensor, data in held:
            if tensor.device != data.device:
                tensor.data = data


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
