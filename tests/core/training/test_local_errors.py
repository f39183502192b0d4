"""Local errors: values, gradients that stay within a stage, and stages that cannot be trained apart."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from local_errors_nets import (
    CLASSES,
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
from torch import Tensor, nn
from torch.nn import functional as F

from selplug.core.errors import CaptureError, InputError
from selplug.core.training.local_errors import LocalErrors, random_classifier
from selplug.core.training.regularizer import SelectivityRegularizer

SOFT = torch.rand(16, CLASSES, generator=torch.Generator().manual_seed(2)).softmax(1)


@pytest.mark.parametrize(
    ("targets", "criterion"),
    [
        (LABELS, F.cross_entropy), (LABELS, nn.CrossEntropyLoss(label_smoothing=0.1)), (SOFT, F.cross_entropy),
        (F.one_hot(LABELS).float(), F.binary_cross_entropy_with_logits),
    ],
)  # fmt: skip
def test_losses_and_gradients_are_those_of_parts_trained_one_by_one(targets, criterion):
    expected = by_hand(make(), targets, criterion, seed=3)
    model = make()
    local = LocalErrors(model, STAGES, criterion, IMAGES[:2], seed=3)
    assert local.stages == STAGES
    assert local.losses.isnan().all()
    found = step(model, local, targets=targets)
    same(found, expected)
    assert not local.losses.requires_grad


def test_accuracies_are_those_of_the_local_classifiers():
    model = make()
    local = attach(model)
    model(IMAGES)
    local(LABELS)
    hard = local.accuracies
    with torch.no_grad():
        logits = make().train().part_one(IMAGES).mean((2, 3)) @ random_classifier(6, CLASSES, 0, 0)
    assert hard[0].item() == pytest.approx((logits.argmax(1) == LABELS).float().mean().item())
    model = make()
    local = attach(model)
    model(IMAGES)
    local(F.one_hot(LABELS).float())
    assert torch.equal(local.accuracies, hard)


def test_each_error_reaches_the_parameters_of_its_stage_alone():
    model = make()
    local = attach(model)
    owners = {"stem": "one", "one": "one", "two": "two", "embed": "three", "three": "three", "norm": "", "head": ""}
    for number, stage in enumerate(("", *STAGES)):
        output = model(IMAGES)
        if stage:
            local(LABELS)  # forgets
            output = model(IMAGES)
            features = local._cuts.take()
            layers = [layer for name, parts in local._layers.items() for layer in parts if name == stage]
            output = torch.cat([features[local._cuts.layers.index(layer)] for layer in layers], 1)
        output.sum().backward()
        reached = {name.partition(".")[0] for name, grad in gradients(model).items() if grad is not None}
        assert reached == {module for module, owner in owners.items() if owner == stage}, number


@pytest.mark.parametrize("penalty_first", [False, True])
def test_the_gradient_of_another_term_stays_within_its_stage_too(penalty_first):
    """The stage ``act`` is a layer of the penalty as well: both hooks are on the same module, in either order."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.conv2, self.act2 = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU()
            self.fc = nn.Linear(6, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.act2(self.conv2(self.act(self.conv(x)))).mean((2, 3)))

    def penalty_gradients(layers: list[str], cut: bool) -> dict[str, Tensor | None]:
        torch.manual_seed(0)
        model = Small()
        local = attach(model, ("act",)) if cut and not penalty_first else None
        regularizer = SelectivityRegularizer(model, -1.0, IMAGES[:2], layers=layers)
        local = attach(model, ("act",)) if cut and penalty_first else local
        model(IMAGES)
        regularizer(LABELS).backward()
        return gradients(model)

    both = penalty_gradients(["act", "act2"], cut=True)
    first, second = penalty_gradients(["act"], cut=False), penalty_gradients(["act2"], cut=False)
    torch.testing.assert_close(both["conv.weight"], first["conv.weight"] / 2)
    torch.testing.assert_close(both["conv2.weight"], second["conv2.weight"] / 2)
    assert second["conv.weight"].abs().max() > 1e-6  # what the cut keeps away


def test_eval_mode_copies_and_closed_models_are_plain():
    expected = make()(IMAGES)
    F.cross_entropy(expected, LABELS).backward()
    plain = make()
    F.cross_entropy(plain(IMAGES), LABELS).backward()
    plain_gradients = gradients(plain)

    model = make()
    local = attach(model)
    assert model.state_dict().keys() == plain.state_dict().keys()
    pickled = io.BytesIO()
    torch.save(model, pickled)
    pickled.seek(0)
    for other in (copy.deepcopy(model), torch.load(pickled, weights_only=False)):
        other.load_state_dict(make().state_dict())
        F.cross_entropy(other(IMAGES), LABELS).backward()
        same((expected, gradients(other)), (expected, plain_gradients), 0)
    with pytest.raises(CaptureError, match="layers were not recorded"):
        local(LABELS)

    evaluated = make().eval()(IMAGES)
    leaf = IMAGES.clone().requires_grad_()
    logits = model.eval()(leaf)
    assert torch.equal(logits, evaluated)
    logits.sum().backward()
    assert leaf.grad.abs().max() > 0
    model.train().zero_grad()

    local.close()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    F.cross_entropy(model(IMAGES), LABELS).backward()
    same((expected, gradients(model)), (expected, plain_gradients), 0)


def test_attaching_leaves_no_trace():
    model = make()
    model.one[0].eval()
    model.stem.weight.requires_grad_(False)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    state = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    attach(model).close()
    with pytest.raises(CaptureError):
        attach(model, ("one", "one.2", "nothing"))
    assert torch.equal(torch.get_rng_state(), random)
    assert (model.training, model.one[0].training, model.one[1].training) == (True, False, True)
    assert not model.stem.weight.requires_grad
    assert torch.equal(model.head.weight.grad, torch.ones_like(model.head.weight))
    assert model.head.bias.grad is None
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_classifiers_come_from_the_seed_and_have_the_stated_scale():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = random_classifier(2000, 10, 5, 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, random_classifier(2000, 10, 5, 0))
    assert first.var().item() * 2000 == pytest.approx(1, abs=0.05)
    others = [random_classifier(2000, 10, 5, 1), random_classifier(2000, 10, 6, 0), torch.randn(2000, 10)]
    for other in others:  # the last: what a network initialized from the same seed draws
        correlation = torch.corrcoef(torch.stack([first.flatten(), other.flatten()]))[0, 1]
        assert abs(correlation.item()) < 0.03


class Skip(nn.Module):
    """A connection past the end of stage ``one``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1)
        self.fc = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.fc(self.two(self.one(x) + x).mean((2, 3)))


class Again(Skip):
    """Stage ``one`` runs twice."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.two(self.one(self.one(self.stem(x)))).mean((2, 3)))


class Share(Skip):
    """Weights of stage ``one`` are used in stage ``two`` again."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.two(self.one(self.stem(x)))
        return self.fc(F.conv2d(x, self.one.weight).mean((2, 3)))


@pytest.mark.parametrize(
    ("model", "stages", "message"),
    [
        (
            Skip,
            ("one", "two"),
            r"the stages one, two cannot be separated: the parameter stem\..* learns from the error of one and from ",
        ),
        (
            Share,
            ("one",),
            r"the parameter one\.weight learns from the error of one and from that of the network's output",
        ),
        (Again, ("one", "two"), "the stage one runs 2 times in a forward pass"),
        (Skip, ("tow",), r"--local-errors-stages 'tow' \(stages=\) matches no module; there are stem, one, two, fc"),
        (Skip, ("fc",), "the stage fc returns no features"),
        (Skip, (), "none of the stages"),
    ],
)
def test_stages_that_cannot_be_trained_apart(model, stages, message):
    network = model()
    with pytest.raises(CaptureError, match=message):
        attach(network, stages)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_stages_without_parameters_of_their_own_are_left_out():
    """The activation, a second name for the same end, and a frozen stage."""
    model = make()
    model.two.requires_grad_(False)
    assert attach(model, ("on*", "two", "three")).stages == ("one.0", "one.2", "three")


class Permuted(nn.Module):
    """A map with channels last, of 6 x 6 positions, that the next module takes with its channels first."""

    def __init__(self, copy: bool) -> None:
        super().__init__()
        self.conv, self.linear, self.one = nn.Conv2d(3, 6, 3), nn.Linear(6, 5), nn.Identity()
        self.conv2, self.fc, self.copy = nn.Conv2d(5, 6, 1), nn.Linear(6, CLASSES), copy

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(self.linear(self.conv(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return self.fc(self.conv2(x.repeat(1, 1, 2, 2) if self.copy else x).mean((2, 3)))


@pytest.mark.parametrize(("copy", "channels"), [(False, None), (True, {"one": 5})])
def test_the_axis_of_an_output_that_is_permuted_before_it_is_used(copy, channels):
    local = attach(Permuted(copy), ("one",), channels=channels)
    assert [(layer.axes, layer.units) for layer in local._layers["one"]] == [((3,), 5)]


@pytest.mark.parametrize("seed", [-1, 1.5, True, None])
def test_a_seed_that_is_none(seed):
    with pytest.raises(InputError, match="whole number >= 0 as seed"):
        attach(make(), seed=seed)
