"""The selectivity penalty: its value, its gradient, what it records, and what it refuses."""

from __future__ import annotations

import copy
import io
import logging

import numpy as np
import pytest
import reference
import torch
from regularizer_nets import CLASSES, IMAGES, LABELS, attach, gradients, make, plain, same, step
from torch import Tensor, nn
from torch.nn import functional as F

from selplug.core.errors import CaptureError, InputError
from selplug.core.measures.functional import class_means, class_selectivity, class_sums, selectivity_without_sync
from selplug.core.model.capture import Capture
from selplug.core.training.regularizer import SelectivityRegularizer


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
