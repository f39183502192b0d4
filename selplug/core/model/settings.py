"""Settings of torch that hold for the whole process: while a run lasts they are torch's own, after it the caller's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

#: What of torch >= 2.9 has a precision of its own, with what the others inherit from first.
_ALL = (("generic", "all"), ("cuda", "all"), ("mkldnn", "all"))
_PRECISIONS = (*_ALL, *((backend, op) for backend in ("cuda", "mkldnn") for op in ("matmul", "conv", "rnn")))


@contextmanager
def deterministic() -> Iterator[None]:
    """Numbers that do not depend on what the caller has set in torch; all of it is as before after the block.

    cuDNN picks the same algorithm each time, float32 products are float32 products (no TF32, no bfloat16 instead), the
    default dtype is float32 and the default device the CPU, and no autocast is in force. Operations that have no
    deterministic algorithm do not raise.
    """
    with ExitStack() as stack:
        stack.enter_context(_full_precision())
        stack.enter_context(_default_dtype())
        stack.enter_context(_any_algorithm())
        if torch.get_default_device() != torch.device("cpu"):
            stack.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def _default_dtype() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _any_algorithm() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


@contextmanager
def _full_precision() -> Iterator[None]:
    """What torch asks to be set in two ways, of which the older one fails where the newer one was used."""
    with _own_precisions():
        matmul = torch.get_float32_matmul_precision()
        try:
            torch.set_float32_matmul_precision("highest")
            with torch.backends.cudnn.flags(
                enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False
            ):
                yield
        finally:
            torch.set_float32_matmul_precision(matmul)


@contextmanager
def _own_precisions() -> Iterator[None]:
    """Inside, none of the newer settings is in force but those that follow from the older ones."""
    # Not the public attributes: that of mkldnn sets those of all backends (torch 2.15).
    get = getattr(torch._C, "_get_fp32_precision_getter", None)
    put = getattr(torch._C, "_set_fp32_precision_setter", None)
    if get is None or put is None:
        yield
        return
    in_force = {key: get(*key) for key in _PRECISIONS}
    before = {}
    for key in _ALL:  # as long as one is set, those that inherit from it cannot be told from those set to the same
        before[key] = get(*key)
        put(*key, "none")
    before |= {key: get(*key) for key in _PRECISIONS if key not in _ALL}
    try:
        # The older settings cannot be read where they say something else than the newer ones.
        for key in before.keys() - set(_ALL):
            put(*key, "none")
        torch.backends.cudnn.allow_tf32 = _cudnn_allows_tf32()
        yield
    finally:
        for key in _PRECISIONS:
            put(*key, before[key])
            if get(*key) != in_force[key]:  # torch's own TF32 of convolutions gives way to what is set for all
                put(*key, "none")


def _cudnn_allows_tf32() -> bool:
    """What ``torch.backends.cudnn.allow_tf32`` was set to, where no newer setting is in force."""
    try:
        return bool(torch.backends.cudnn.allow_tf32)
    except RuntimeError:  # it says that it contradicts the newer settings, which allow none
        return True
