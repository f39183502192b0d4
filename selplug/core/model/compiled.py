"""Compiles the attacked model with ``torch.compile`` and leaves the model and the process unchanged."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..errors import InputError
from .state import frozen, seeded
from .unit_range import UnitRangeModel

logger = logging.getLogger("selplug")

DEFAULT_BACKEND = "inductor"
_numbers = itertools.count()


def resolve_backend(torchcompile: bool | str | None) -> str | None:
    """The name of the backend of ``torch.compile``: "inductor" for True, None for False and None.

    Raises:
        InputError: there is no such backend.
    """
    if torchcompile is None or torchcompile is False:
        return None
    backend = DEFAULT_BACKEND if torchcompile is True else torchcompile
    if backend not in torch.compiler.list_backends(()):  # includes backends for debugging
        known = ", ".join(torch.compiler.list_backends())
        raise InputError(
            f"--torchcompile (torchcompile=): expected a backend of torch.compile ({known}), got {backend}"
        )
    return backend


class CompiledModel(nn.Module):
    """A :class:`UnitRangeModel` for attacks, compiled with its input gradient as one graph for batches of any size.

    It shares all modules and parameters with the model inside, which stays uncompiled: hooks set later work there, but
    not here. Batches of one image run uncompiled, since compilers make separate code for this size. If a later batch
    cannot be compiled, it and all batches after it run uncompiled, with one warning.

    Args:
        inside: the model.
        backend: from :func:`resolve_backend`.
        images: (N, C, H, W) in [0, 1], the batch for the first compilation.

    Raises:
        InputError: the model cannot be compiled, or the compiler cannot run here.
    """

    def __init__(self, inside: UnitRangeModel, backend: str, images: Tensor) -> None:
        super().__init__()
        self.inside = inside
        self.num_classes = inside.num_classes
        self.training = inside.training
        self._usable = True
        images = images if len(images) > 1 else torch.cat([images, images])
        began = time.perf_counter()
        try:
            self._compiled = _compiled(inside, backend)
            with frozen(inside), seeded(0, images.device), torch.enable_grad():
                inputs = images.detach().clone().requires_grad_()
                logits = self._call(inputs)
                if logits.requires_grad:
                    torch.autograd.grad(logits.sum(), inputs, allow_unused=True)
                self._call(images)
        except RuntimeError as error:  # the base class of torch.compile's own errors
            raise InputError(
                f"--torchcompile (torchcompile=): the model cannot be compiled by {backend} here: {_reason(error)}; "
                "install what is missing, try the backend aot_eager, which needs no compiler, or omit --torchcompile"
            ) from error
        logger.info("the attacked model compiled by %s in %.1f s", backend, time.perf_counter() - began)

    def forward(self, images: Tensor) -> Tensor:
        if self._usable and len(images) > 1:
            try:
                return self._call(images)
            except torch._dynamo.exc.TorchDynamoException as error:
                logger.warning("the attacked model runs uncompiled from here: %s", _reason(error))
                self._usable = False
        logits: Tensor = self.inside(images)
        return logits

    def _call(self, images: Tensor) -> Tensor:
        if torch.is_grad_enabled() and images.requires_grad:
            logits: Tensor = _Differentiable.apply(self._run, images)
            return logits
        with torch.no_grad():
            return self._run(images.detach())

    def _run(self, images: Tensor) -> Tensor:
        images = images.contiguous()  # each memory layout would be compiled separately
        torch._dynamo.maybe_mark_dynamic(images, 0)
        with _lasting():
            return self._compiled(images)


class _Differentiable(torch.autograd.Function):
    """Allows several backward passes through a compiled graph: attacks that take one gradient per class need them.

    torch.compile frees a graph after one backward pass, unless a switch is set both when the graph is made and in the
    backward pass. On CUDA the backward pass runs on another thread, which does not see the switch of this thread.
    """

    @staticmethod
    def forward(ctx: Any, compiled: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        with torch.enable_grad():
            ctx.images = images.detach().requires_grad_()
            ctx.logits = compiled(ctx.images)
        logits: Tensor = ctx.logits.detach()
        if not ctx.logits.requires_grad:
            ctx.mark_non_differentiable(logits)
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor | None]:
        with _lasting():
            found = torch.autograd.grad(ctx.logits, ctx.images, gradient, retain_graph=True, allow_unused=True)[0]
        return None, found


def _lasting() -> AbstractContextManager[None]:
    patch: AbstractContextManager[None] = torch._functorch.config.patch(donated_buffer=False)
    return patch


def _compiled(model: nn.Module, backend: str) -> Callable[[Tensor], Tensor]:
    """The model as a compiled function that shares no compiled code with other models.

    torch stores compiled code by code object and does not check hooks: a second network of the same class could run
    with the hooks of the first. torch also stores what it knows about sizes by the name of the code.
    """

    def attacked(images: Tensor) -> Tensor:
        return model(images)

    attacked.__code__ = attacked.__code__.replace(co_name=f"attacked_{next(_numbers)}")
    # The model must draw the same random numbers as without a compiler.
    options: dict[str, Any] | None = {"fallback_random": True} if backend == "inductor" else None
    # As one graph: torch stores the parts of a broken graph with the classes of the modules.
    return torch.compile(attacked, backend=backend, fullgraph=True, options=options)


def _reason(error: BaseException) -> str:
    """The first line that is not empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
