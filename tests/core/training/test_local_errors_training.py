"""Local errors in every way of training that they have to survive."""

from __future__ import annotations

import pytest
import torch
from local_errors_nets import (
    IMAGES,
    LABELS,
    STAGES,
    attach,
    by_hand,
    gradients,
    make,
    same,
    step,
)
from torch import multiprocessing, nn
from torch.nn import functional as F

from selplug.core.errors import CaptureError
from selplug.core.training.local_errors import LocalErrors


def test_channels_last():
    expected = by_hand(make())
    model = make().to(memory_format=torch.channels_last)
    images = IMAGES.to(memory_format=torch.channels_last)
    same(step(model, attach(model), lambda _: model(images)), expected)


def test_autocast_keeps_local_errors_in_single_precision():
    model = make()
    local = attach(model)
    seen = []
    local.criterion = lambda logits, targets: seen.append(logits.dtype) or F.cross_entropy(logits, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(IMAGES)
        loss = local(LABELS)
    assert logits.dtype == torch.bfloat16
    assert seen == [torch.float32] * 3
    loss.backward()
    torch.testing.assert_close(local.losses, by_hand(make())[0][1:], rtol=0.02, atol=0.02)


def test_double_precision():
    model = make().double()
    local = LocalErrors(model, STAGES, F.cross_entropy, IMAGES[:2].double())
    model(IMAGES.double())
    assert local(LABELS).dtype == torch.float64


def test_checkpointed_stages_are_read_once():
    expected = by_hand(make())
    model = make(reentrant=False)
    local = attach(model)
    task = F.cross_entropy(model(IMAGES), LABELS)
    loss = task + local(LABELS)
    with torch.no_grad():
        model(IMAGES)  # a look in between must not confuse the second run
    loss.backward()
    same((torch.cat([task.detach().unsqueeze(0), local.losses]), gradients(model)), expected)
    with pytest.raises(CaptureError, match="layers were not recorded"):
        local(LABELS)


@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
def test_compiled(backend):
    expected = by_hand(make())
    model = make()
    local = attach(model)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    same(step(model, local, compiled), expected)
    model.load_state_dict(make().state_dict())
    with torch.compiler.set_stance("fail_on_recompile"):
        same(step(model, local, compiled), expected)


def _rank(rank: int, results: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{results}/meet", rank=rank, world_size=2)
    model = make()
    model.one[0].eval()  # a batch norm that sees half of the batch
    local = attach(model)
    parallel = nn.parallel.DistributedDataParallel(model)
    half = slice(rank * 8, (rank + 1) * 8)
    for _ in range(2):  # DistributedDataParallel complains in the second pass of parameters without gradients
        model.zero_grad()
        task = F.cross_entropy(parallel(IMAGES[half]), LABELS[half])
        (task + local(LABELS[half])).backward()
    torch.save(gradients(model), f"{results}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_equal_one_process_on_the_whole_batch(tmp_path):
    model = make()
    model.one[0].eval()
    expected = step(model, attach(model))
    multiprocessing.spawn(_rank, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        same((expected[0], torch.load(tmp_path / f"{rank}.pt")), expected)


def test_a_model_that_was_compiled_and_run_is_an_error():
    model = make()
    compiled = torch.compile(model, backend="eager")
    compiled(IMAGES)
    local = attach(compiled)
    compiled(IMAGES)
    with pytest.raises(CaptureError, match=r"before torch\.compile"):
        local(LABELS)
