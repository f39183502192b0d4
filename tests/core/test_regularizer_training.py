"""The selectivity penalty in every way of training that it has to survive."""

from __future__ import annotations

import pytest
import torch
from regularizer_nets import CLASSES, IMAGES, LABELS, attach, gradients, make, plain, same, step
from torch import multiprocessing, nn
from torch.nn import functional as F

from selplug.core.errors import CaptureError, InputError
from selplug.core.measures.functional import class_selectivity, class_sums
from selplug.core.model.capture import Capture
from selplug.core.training.regularizer import SelectivityRegularizer


def test_bfloat16_autocast_sums_in_float32():
    model = make(norm=False)
    exact, _ = step(model, attach(model))
    model = make(norm=False)
    regularizer = attach(model)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(IMAGES)
        penalty = regularizer(LABELS)
    assert logits.dtype == torch.bfloat16
    assert penalty.dtype == torch.float32
    torch.testing.assert_close(penalty, exact, rtol=0.02, atol=1e-3)
    penalty.backward()
    assert all(g.isfinite().all() for g in gradients(model.conv))


def test_the_loss_can_be_scaled_for_float16():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, CLASSES))
    regularizer = attach(model)
    found = []
    for scale in (1.0, 2.0**10):
        with torch.autocast("cpu", torch.float16):
            loss = F.cross_entropy(model(IMAGES), LABELS) + regularizer(LABELS)
        (loss * scale).backward()
        found.append([g / scale for g in gradients(model)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0.05, atol=1e-3)


def test_gradients_accumulate_over_batches():
    model = make(norm=False)
    regularizer = attach(model)
    halves = []
    for part in (slice(0, 12), slice(12, 24)):
        model(IMAGES[part])
        regularizer(LABELS[part]).backward()
        halves.append([p.grad.clone() for p in model.conv.parameters()])
    model.zero_grad()
    for part in (slice(0, 12), slice(12, 24)):
        model(IMAGES[part])
        regularizer(LABELS[part]).backward()
    for total, both in zip([p.grad for p in model.conv.parameters()], halves[1], strict=True):
        torch.testing.assert_close(total, both)
    assert not torch.equal(halves[0][0], halves[1][0])


def test_channels_last():
    model = make()
    expected = plain(model)
    model = make().to(memory_format=torch.channels_last)
    images = IMAGES.to(memory_format=torch.channels_last)
    same(step(model, attach(model), lambda _: model(images)), expected)


@pytest.mark.parametrize("layers", [None, ["block.3"]])
def test_checkpointed_blocks_are_counted_once(layers):
    """Their second run, in the backward pass, saves what the first one saved, or torch refuses it."""
    model = make()
    expected = step(model, attach(model, layers=layers))
    model = make(reentrant=False)
    regularizer = attach(model, layers=layers)
    logits = model(IMAGES)
    penalty = regularizer(LABELS)
    with torch.no_grad():
        model(IMAGES)  # a look in between must not confuse the second run
    (F.cross_entropy(logits, LABELS) + penalty).backward()
    assert not regularizer._recorder._responses
    same((penalty.detach(), gradients(model)), expected)


def test_reentrant_checkpointing_is_refused_where_it_would_lose_the_gradient():
    model = make(reentrant=True)
    regularizer = attach(model)
    logits = model(IMAGES)
    with pytest.raises(CaptureError, match=r"block\.1.*use_reentrant=False"):
        regularizer(LABELS)
    logits.sum().backward()
    model.zero_grad()
    regularizer.close()
    model = make()
    expected = step(model, attach(model, layers=["relu"]))
    model = make(reentrant=True)
    same(step(model, attach(model, layers=["relu"])), expected)


def test_timm_checkpointing():
    timm = pytest.importorskip("timm")
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = timm.create_model("test_efficientnet", num_classes=CLASSES)
        model.set_grad_checkpointing(checkpointing)
        regularizer = SelectivityRegularizer(model, 1.0, torch.rand(2, 3, 32, 32))
        torch.manual_seed(1)
        model(torch.rand(8, 3, 32, 32)).sum()
        penalty = regularizer(LABELS[:8])
        penalty.backward()
        found.append((penalty.detach(), [p.grad for p in model.parameters() if p.grad is not None]))
    same(*found)


@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
def test_compiled(backend):
    model = make()
    expected = plain(model)
    model = make()
    regularizer = attach(model)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    same(step(model, regularizer, compiled), expected)
    model.load_state_dict(make().state_dict())
    regularizer.alpha = 1.4  # a schedule must not compile anew
    with torch.compiler.set_stance("fail_on_recompile"):
        penalty, _ = step(model, regularizer, compiled)
    torch.testing.assert_close(penalty, 2 * expected[0])


def test_a_model_that_was_compiled_and_run_is_an_error():
    model = make()
    compiled = torch.compile(model, backend="eager")
    compiled(IMAGES)
    regularizer = attach(compiled)
    compiled(IMAGES)
    with pytest.raises(CaptureError, match=r"before torch\.compile"):
        regularizer(LABELS)


def test_running_sums():
    model = make(norm=False)
    batches = [(IMAGES[:10], LABELS[:10]), (IMAGES[10:], LABELS[10:])]
    decay = 0.75
    regularizer = attach(model, ema=decay)
    responses = []
    for images, labels in batches:
        with Capture(model, regularizer.layers) as capture:
            model(images)
        penalty = regularizer(labels)
        responses.append(torch.cat(list(capture.responses.values()), 1))
    old, new = (class_sums(r, F.one_hot(y, CLASSES)) for r, (_, y) in zip(responses, batches, strict=True))
    bias = (1 - decay) * decay + (1 - decay)
    sums, weights = (
        (decay * (1 - decay) * o.detach() + (1 - decay) * n.detach()) / bias for o, n in zip(old, new, strict=True)
    )
    index = class_selectivity(sums / weights.unsqueeze(1), weights)
    torch.testing.assert_close(regularizer.selectivity, (index * regularizer._shares).sum())
    # The gradient is that of the current sums, unscaled, at the running ones.
    leaf = sums.requires_grad_()
    index = class_selectivity(leaf / weights.unsqueeze(1), weights)
    (expected,) = torch.autograd.grad((index * regularizer._shares).sum(), leaf)
    (expected,) = torch.autograd.grad((-0.7 * expected * new[0]).sum(), model.conv.weight, retain_graph=True)
    (found,) = torch.autograd.grad(penalty, model.conv.weight)
    torch.testing.assert_close(found, expected)


def test_running_sums_are_saved_and_survive_an_overflow():
    model = make(norm=False)
    regularizer = attach(model, ema=0.9)
    assert regularizer.state_dict() == {}
    model(IMAGES)
    first = regularizer(LABELS)
    state = regularizer.state_dict()
    model(IMAGES * float("inf"))
    assert not regularizer(LABELS).isfinite()
    assert torch.equal(regularizer.state_dict()["sums"], state["sums"])
    other = attach(make(norm=False), ema=0.9)
    other.load_state_dict(state)
    torch.testing.assert_close(other.state_dict(), state)
    with pytest.raises(InputError, match="class sums of shape"):
        attach(model, layers=["relu"]).load_state_dict(state)
    model(IMAGES)
    torch.testing.assert_close(regularizer(LABELS), first)
    regularizer.alpha = 0
    assert regularizer.state_dict() == {}


def _rank(rank: int, results: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{results}/meet", rank=rank, world_size=2)
    model = make(norm=False)
    regularizer = attach(model, sync=True)
    parallel = nn.parallel.DistributedDataParallel(model)
    # Labels are sorted, so that no rank alone has all classes.
    order = LABELS.argsort()[rank * 12 : (rank + 1) * 12]
    logits = parallel(IMAGES[order])
    penalty = regularizer(LABELS[order])
    (F.cross_entropy(logits, LABELS[order]) + penalty).backward()
    torch.save((penalty.detach(), gradients(model)), f"{results}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_equal_one_process_on_the_whole_batch(tmp_path):
    model = make(norm=False)
    expected = step(model, attach(model, sync=True))  # no process group: as without
    multiprocessing.spawn(_rank, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        same(torch.load(tmp_path / f"{rank}.pt"), expected)
