"""The selectivity penalty: its value, its gradient, and every way of training that it has to survive."""

from __future__ import annotations

import copy
import io
import logging
import socket

import numpy as np
import pytest
import reference
import torch
from torch import Tensor, multiprocessing, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from selplug.core.errors import CaptureError, InputError
from selplug.core.measures.functional import class_means, class_selectivity, class_sums, selectivity_without_sync
from selplug.core.model.capture import Capture, find_layers
from selplug.core.training.regularizer import SelectivityRegularizer

CLASSES = 4
IMAGES = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(24) % CLASSES


class Net(nn.Module):
    """A module called twice, in-place and rectified activations, a batch norm, blocks that can be checkpointed."""

    def __init__(self, norm: bool = True, reentrant: bool | None = None) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8) if norm else nn.Identity()
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(8, 8, 3)
        self.block = nn.Sequential(nn.Conv2d(8, 6, 1), nn.SiLU(inplace=True), nn.Conv2d(6, 6, 1), nn.GELU())
        self.head = nn.Linear(6, CLASSES)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv2(self.relu(self.bn(self.conv(x)))))
        if self.training and self.reentrant is not None:
            x = checkpoint(self.block, x, use_reentrant=self.reentrant)
        else:
            x = self.block(x)
        return self.head(x.mean((2, 3)))


def make(**options: object) -> Net:
    torch.manual_seed(0)
    return Net(**options)


def attach(model: nn.Module, alpha: float = 0.7, **options: object) -> SelectivityRegularizer:
    return SelectivityRegularizer(model, alpha, IMAGES[:2].to(next(model.parameters()).dtype), **options)


def gradients(model: nn.Module) -> list[Tensor]:
    found = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    return found


def step(model: nn.Module, regularizer: SelectivityRegularizer, call: object = None) -> tuple[Tensor, list[Tensor]]:
    """Penalty, and the gradients of the whole loss."""
    logits = (model if call is None else call)(IMAGES)
    penalty = regularizer(LABELS)
    (F.cross_entropy(logits, LABELS) + penalty).backward()
    return penalty.detach(), gradients(model)


def plain(model: nn.Module, alpha: float = 0.7) -> tuple[Tensor, list[Tensor]]:
    """The same by way of Capture and the measures' own formulas."""
    with Capture(model, find_layers(model, IMAGES[:2])) as capture:
        logits = model(IMAGES)
    layers = [class_selectivity(*class_means(r, LABELS, CLASSES)).mean() for r in capture.responses.values()]
    penalty = -alpha * torch.stack(layers).mean()
    (F.cross_entropy(logits, LABELS) + penalty).backward()
    return penalty.detach(), gradients(model)


def same(ours: tuple[Tensor, list[Tensor]], theirs: tuple[Tensor, list[Tensor]], tolerance: float = 1e-5) -> None:
    for a, b in zip([ours[0], *ours[1]], [theirs[0], *theirs[1]], strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_value_and_gradient_are_those_of_the_formulas():
    model = make()
    expected = plain(model)
    regularizer = attach(model)
    assert [layer.name for layer in regularizer.layers] == ["relu#1", "relu#2", "block.1", "block.3"]
    same(step(model, regularizer), expected)
    torch.testing.assert_close(-0.7 * regularizer.selectivity, expected[0])
    assert not regularizer.selectivity.requires_grad
    mean = torch.stack(list(regularizer.per_layer.values())).mean()
    torch.testing.assert_close(mean, regularizer.selectivity)


@pytest.mark.parametrize("soft", [False, True])
def test_value_is_that_of_the_slow_reference(soft):
    model = make()
    regularizer = attach(model)
    targets = torch.rand(24, CLASSES).softmax(1) if soft else LABELS
    with Capture(model, regularizer.layers) as capture:
        model(IMAGES)
    penalty = regularizer(targets)
    for name, responses in capture.responses.items():
        means = reference.class_means(responses.detach().numpy(), targets.numpy(), CLASSES)
        expected = reference.class_selectivity(*means).mean()
        np.testing.assert_allclose(regularizer.per_layer[name], expected, rtol=1e-4)
    np.testing.assert_allclose(penalty.item(), -0.7 * np.mean([v.item() for v in regularizer.per_layer.values()]), 1e-5)


def test_alpha_above_zero_promotes_and_below_reduces():
    for alpha in (1.0, -1.0):
        model = make()
        regularizer = attach(model, alpha)
        optimizer = torch.optim.SGD(model.parameters(), 0.5)
        course = []
        for _ in range(8):
            model(IMAGES)
            optimizer.zero_grad()
            regularizer(LABELS).backward()
            optimizer.step()
            course.append(regularizer.selectivity)
        assert (course[-1] - course[0]) * alpha > 0


@pytest.mark.parametrize("soft", [False, True])
def test_gradcheck_in_float64(soft):
    torch.manual_seed(0)
    act = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.GELU(), nn.Flatten(), nn.Linear(12, 4))
    model = act.double()
    images = torch.rand(6, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    regularizer = SelectivityRegularizer(model, -1.3, images.detach())
    targets = torch.rand(6, 4, dtype=torch.float64).softmax(1) if soft else torch.tensor([0, 1, 1, 3, 0, 3])

    def penalty(weight: Tensor, images: Tensor) -> Tensor:
        torch.func.functional_call(model, {"0.weight": weight}, images)
        return regularizer(targets)

    assert torch.autograd.gradcheck(penalty, (model[0].weight.detach().clone().requires_grad_(), images))


@pytest.mark.parametrize("present", [2, 3, 7])
def test_without_sync_equals_the_measure(present):
    generator = torch.Generator().manual_seed(present)
    responses = torch.rand(40, 30, generator=generator).clamp_min(0.5) - 0.5
    responses[:, :3] = 0  # dead
    responses[:, 3] = 1  # ties
    responses[:, 4] *= 1e-6  # nearly dead
    targets = torch.randint(0, present, (40,), generator=generator) + 1
    ours, theirs = responses.clone().requires_grad_(), responses.clone().requires_grad_()
    matrix = F.one_hot(targets, 9)
    index = selectivity_without_sync(*class_sums(ours, matrix))
    expected = class_selectivity(*class_means(theirs, targets, 9))
    torch.testing.assert_close(index, expected)
    weight = torch.rand(30, generator=generator)
    (index * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert ours.grad.isfinite().all()


def test_only_training_with_gradients_is_recorded():
    model = make()
    regularizer = attach(model)
    model(IMAGES)
    kept = dict(regularizer._recorder._responses)
    with torch.no_grad():
        model(IMAGES)
    model.eval()(IMAGES)
    assert regularizer._recorder._responses == kept  # the last *training* pass
    expected = regularizer(LABELS)
    assert not regularizer._recorder._responses
    model.train()
    for switch in ({"enabled": False}, {"alpha": 0}):
        for name, value in switch.items():
            setattr(regularizer, name, value)
        model(IMAGES)
        assert not regularizer._recorder._responses
        assert regularizer(LABELS).item() == 0
        regularizer.enabled, regularizer.alpha = True, 0.7
    model(IMAGES * 0)
    model(IMAGES)
    torch.testing.assert_close(regularizer(LABELS), expected)


def test_only_pooled_responses_are_kept():
    model = make()
    regularizer = attach(model)
    model(IMAGES)
    assert [tuple(r.shape) for r in regularizer._recorder._responses.values()] == [(24, 8), (24, 8), (24, 6), (24, 6)]


def test_copies_and_pickles_of_the_model_record_nothing():
    model = make()
    keys = set(model.state_dict())
    regularizer = attach(model, ema=0.9)
    model(IMAGES)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    kept = dict(regularizer._recorder._responses)
    for other in (copy.deepcopy(model), torch.load(buffer, weights_only=False)):
        other.train()(IMAGES * 2).sum().backward()
        assert all(regularizer._recorder._responses[name] is kept[name] for name in kept)
    regularizer(LABELS)
    assert set(model.state_dict()) == keys


def test_close_and_with_take_the_hooks_off():
    model = make()

    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())

    with attach(model) as regularizer:
        assert hooks() == 5
        model(IMAGES)
    assert hooks() == 0
    model(IMAGES)
    with pytest.raises(CaptureError, match="4 of 4 layers were not recorded"):
        regularizer(LABELS)


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


def test_gradients_near_dead_units_are_finite():
    model = make(norm=False).bfloat16()
    nn.init.constant_(model.conv2.bias, -1e4)  # all dead
    model.conv2.bias.data[0] = 0
    with torch.no_grad():
        model.conv2.weight[0] *= 1e-5
    regularizer = attach(model)
    model(IMAGES.bfloat16())
    penalty = regularizer(LABELS)
    assert penalty.dtype == torch.float32
    penalty.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_one_class_costs_nothing_and_warns_once(caplog):
    model = make()
    regularizer = attach(model)
    with caplog.at_level(logging.WARNING, "selplug"):
        for _ in range(3):
            logits = model(IMAGES)
            penalty = regularizer(LABELS * 0)
            assert penalty.item() == 0
            (logits.sum() + penalty).backward()
            assert all(g.isfinite().all() for g in gradients(model))
    assert [record.name for record in caplog.records] == ["selplug"]
    assert "fewer than two classes" in caplog.text


def test_label_smoothing_and_mixup_weight_the_class_means():
    model = make()
    regularizer = attach(model)
    one_hot = F.one_hot(LABELS, CLASSES)
    for targets in (one_hot, one_hot.float(), one_hot.bfloat16()):
        model(IMAGES)
        hard = regularizer(LABELS)
        model(IMAGES)
        torch.testing.assert_close(regularizer(targets), hard)
    mixed = 0.7 * one_hot + 0.3 * one_hot.flip(0)
    model(IMAGES)
    assert regularizer(mixed.bfloat16()) > hard  # less selective, and alpha is positive


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (F.one_hot(LABELS, CLASSES) + F.one_hot(LABELS.flip(0), CLASSES), "rows that sum to 1.*multi-label"),
        (torch.zeros(24, CLASSES), "multi-label"),
        (torch.full((24, CLASSES), -0.25), "soft targets >= 0"),
        (LABELS[:5], r"expected targets \(N,\)=\(24,\)"),
        (LABELS + 1, r"labels in \[0, 4\), got values from 1 to 4"),
        (torch.rand(24, 7), r"\(N, C\)=\(24, 4\)"),
    ],
)
def test_targets_that_do_not_fit_are_refused(targets, message):
    model = make()
    regularizer = attach(model)
    model(IMAGES)
    with pytest.raises(InputError, match=message):
        regularizer(targets)


@pytest.mark.parametrize("alpha", [float("nan"), float("inf"), "1"])
def test_alpha_is_a_finite_number(alpha):
    model = make()
    with pytest.raises(InputError, match="finite number as alpha"):
        attach(model, alpha)
    regularizer = attach(model)
    with pytest.raises(InputError, match="finite number as alpha"):
        regularizer.alpha = alpha
    assert regularizer.alpha == 0.7


def test_what_cannot_be_built_leaves_no_hooks():
    model = make()
    with pytest.raises(CaptureError, match=r"'nope' matches no module"):
        attach(model, layers=["nope"])
    with pytest.raises(InputError, match="ema in"):
        attach(model, ema=1.0)
    with pytest.raises(InputError, match="num_classes=1"):
        attach(model, num_classes=1)
    with pytest.raises(InputError, match="give num_classes"):
        attach(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1)))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert [layer.name for layer in attach(model, layers=["relu#2"]).layers] == ["relu#2"]


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


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
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


def _rank(rank: int, port: int, results: str) -> None:
    torch.set_num_threads(1)
    store = torch.distributed.TCPStore("127.0.0.1", port, 2, rank == 0)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
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


def test_two_ranks_equal_one_process_on_the_whole_batch(tmp_path):
    model = make(norm=False)
    expected = step(model, attach(model, sync=True))  # no process group: as without
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(_rank, (port, str(tmp_path)), nprocs=2)
    for rank in range(2):
        same(torch.load(tmp_path / f"{rank}.pt"), expected)
