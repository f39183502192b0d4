"""A model is what and where it was after a run on another device, also one that failed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import selplug
from selplug.core.errors import InputError
from selplug.core.model.state import placed

ELSEWHERE = torch.device("cuda", 0)


class Breaks(nn.Sequential):
    """Its first part arrives (on "meta": the values are lost there), the rest does not."""

    def to(self, *args: Any, **kwargs: Any) -> Any:
        self[0].to("meta")
        raise torch.OutOfMemoryError("out of memory")


def held(model: nn.Module) -> dict[str, tuple[Any, ...]]:
    """Every tensor of a model: which object it is, where, and what is in it."""
    tensors: dict[str, Tensor] = dict([*model.named_parameters(), *model.named_buffers()])
    tensors |= {f"{name}.grad": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: (id(t), t.data_ptr(), t.device, t.tolist(), t.requires_grad) for name, t in tensors.items()}


def network(kind: type[nn.Sequential] = nn.Sequential) -> nn.Sequential:
    model = kind(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    model[0].weight.grad = torch.ones(3, 4)
    model[2].weight = nn.Parameter(model[0].weight[:, :3].detach(), requires_grad=False)
    return model


def test_a_move_that_fails_halfway_leaves_the_model_whole():
    model = network(Breaks)
    before = held(model)
    with pytest.raises(torch.OutOfMemoryError), placed(model, ELSEWHERE):
        pass
    assert held(model) == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("fails", [False, True])
def test_all_is_back_after_a_run(fails):
    model = network()
    before = held(model)
    try:
        with placed(model, ELSEWHERE):
            assert {tensor.device for tensor in [*model.parameters(), *model.buffers()]} == {ELSEWHERE}
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert held(model) == before


@pytest.mark.parametrize("device", ["meta", torch.device("meta")])
def test_a_device_without_values_is_refused_before_anything_is_touched(device):
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.ReLU(), nn.Linear(3, 2))
    before = held(model)
    images, labels = torch.rand(4, 3, 2, 2), torch.tensor([0, 1, 0, 1])
    with pytest.raises(InputError, match="'meta' holds no values"):
        selplug.audit(model, [(images, labels)], device=device, progress=False)
    with pytest.raises(InputError, match="'meta' holds no values"), placed(model, torch.device("meta")):
        pass
    assert held(model) == before


def test_a_model_without_values_is_refused():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta"))
    for device in (None, torch.device("cpu")):
        with pytest.raises(InputError, match=r"1\.weight is on the device 'meta'"), placed(model, device):
            pass
