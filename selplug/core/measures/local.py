from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor
from torchmetrics import Metric

M = TypeVar("M", bound=Metric)


def local(metric: M, device: torch.device | str) -> M:
    """A new metric on ``device`` for the samples of this process alone, in no more memory than its states take.

    In a group of processes torchmetrics gathers the states of all ranks in ``compute()``: where every rank sees all
    samples, they would count as often as there are ranks, and one rank alone would wait for the others. It also keeps a
    copy of every state, to reset it; that of a state with one value throughout shrinks to this value here.
    """
    fills = {name: value for name, value in metric._defaults.items() if isinstance(value, Tensor) and _is_even(value)}
    metric = metric.to(device)
    for name, value in fills.items():
        metric._defaults[name] = value.flatten()[:1].to(device, copy=True).expand(value.numel()).view(value.shape)
    for part in metric.modules():
        if isinstance(part, Metric):
            part.distributed_available_fn = _never
    return metric


def state_bytes(metric: Metric) -> int:
    """The memory that the states of a metric take, with those that it keeps to reset them."""
    states = [getattr(metric, name) for name in metric._defaults]
    tensors = [value for value in (*states, *metric._defaults.values()) if isinstance(value, Tensor)]
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


def _is_even(values: Tensor) -> bool:
    return values.numel() > 1 and bool((values == values.flatten()[0]).all())


def _never() -> bool:
    return False
