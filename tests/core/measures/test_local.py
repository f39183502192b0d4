"""Metrics of an audit: of this process alone, and without a second copy of their states."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor, nn
from torchmetrics import Metric

import selplug
from selplug.core.measures.local import local, state_bytes
from selplug.core.measures.metrics import ClassSelectivity, Dimensionality

MEASURES = ["selectivity", "dimensionality", "gradients", "cka", "procrustes"]


class Inner(Metric):
    """A state that does not begin at one value, and a metric inside a metric."""

    start: Tensor
    seen: list[Tensor]

    def __init__(self, inner: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("start", torch.tensor([1.0, 2.0]), dist_reduce_fx="sum")
        self.add_state("seen", [], dist_reduce_fx="cat")
        self.inner = Inner(False) if inner else None

    def update(self, responses: Tensor) -> None:
        self.start += responses.sum()
        self.seen.append(responses)

    def compute(self) -> Tensor:
        return self.start


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 8), nn.ReLU(), nn.Linear(8, 4))


def results() -> str:
    images = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    loader = [(part, torch.arange(12) % 4) for part in images.split(12)]
    report = selplug.audit(model(), loader, ["gaussian-noise:std=0.1"], MEASURES, progress=False)
    alike = selplug.similarity(model(), model(), loader, measures=["cka", "procrustes"], progress=False)
    data = report.to_dict()
    arrays = {name: array.tolist() for name, array in report.arrays().items()}
    return json.dumps([data["conditions"], data["layers"], data["between_layers"], arrays, alike.to_dict()["maps"]])


def join(rank: int, size: int, folder: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=size)


def test_in_a_group_of_one(tmp_path):
    expected = results()
    join(0, 1, tmp_path)
    try:
        assert results() == expected
    finally:
        torch.distributed.destroy_process_group()


def _rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    join(rank, 2, folder)
    (folder / f"{rank}.json").write_text(results())
    torch.distributed.barrier()
    if rank == 0:  # alone: it must not wait for the other
        (folder / "alone.json").write_text(results())
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_in_a_group_of_two(tmp_path):
    torch.multiprocessing.spawn(_rank, (tmp_path,), nprocs=2)
    expected = results()
    for name in ("0", "1", "alone"):
        assert (tmp_path / f"{name}.json").read_text() == expected


@pytest.mark.parametrize("make", [lambda: ClassSelectivity(3, 50), lambda: Dimensionality(50)])
def test_states_take_their_own_memory_alone(make):
    metric = local(make(), "cpu")
    held = sum(value.numel() * value.element_size() for value in metric.metric_state.values())
    assert held <= state_bytes(metric) < 1.02 * held + 100
    assert state_bytes(make()) == 2 * held


def test_a_reset_works_as_before():
    responses, targets = torch.rand(20, 50), torch.arange(20) % 3
    plain, metric = ClassSelectivity(3, 50), local(ClassSelectivity(3, 50), "cpu")
    for _ in range(2):
        for each in (plain, metric):
            each.update(responses, targets)
        for name, value in plain.compute().items():
            torch.testing.assert_close(metric.compute()[name], value, rtol=0, atol=0, equal_nan=True)
        plain.reset()
        metric.reset()
        assert all(torch.equal(value, plain.metric_state[name]) for name, value in metric.metric_state.items())


def test_states_of_every_kind_and_metrics_inside_metrics():
    metric = local(Inner(), "cpu")
    assert not metric.distributed_available_fn()
    assert not metric.inner.distributed_available_fn()
    metric.update(torch.ones(3))
    assert metric.compute().tolist() == [4, 5]
    metric.reset()
    assert metric.start.tolist() == [1, 2]
