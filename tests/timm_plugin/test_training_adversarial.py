"""Robust training inside a train script: its batches and losses by hand, and the ways of training it has to survive."""

from __future__ import annotations

import argparse
import logging
import re

import pytest
import timm
import torch
from selplug_timm.hooks.adversarial import AdversarialHook
from timm.utils import random_seed
from torch import Tensor, nn
from torch.nn import functional as F
from training_runs import losses, rows, train

from selplug import registry, specs
from selplug.core.errors import PluginError, SelplugError
from selplug.core.model.state import seeded
from selplug.core.perturb import batch_seed
from selplug.core.training import TrainingContext

torchattacks = pytest.importorskip("torchattacks")

MEAN = torch.tensor(timm.data.IMAGENET_DEFAULT_MEAN).view(-1, 1, 1)
STD = torch.tensor(timm.data.IMAGENET_DEFAULT_STD).view(-1, 1, 1)
EPS = 8 / 255
PGD = ("--in-range", "--adversarial", "pgd:eps=8/255,steps=2")
TRADES = ("--in-range", "--adversarial", "trades:eps=8/255,steps=2")
TINY = ("--batches", 1, "--epochs", 1)
NOTHING = ("--in-range", "--adversarial", "gaussian-noise:std=0")


class Inside(nn.Module):
    """The normalization inside the model, once more."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model((pixels - MEAN) / STD)


def first_step(attack: type, **options: object) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """Model, images, perturbed images (both normalized) and labels of the first step, with torchattacks by hand."""
    random_seed(0, 0)
    model = timm.create_model("resnet20_cifar")
    labels = torch.arange(16) % 10
    images = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + labels.view(-1, 1, 1, 1) / 2
    images = images.clamp(-1, 1)
    with seeded(batch_seed(42, 0, 0, 0), torch.device("cpu")):
        moved = attack(Inside(model.eval()), **options)(images * STD + MEAN, labels)
    assert moved.min() >= 0
    assert moved.max() <= 1
    return model.train(), images, (moved - MEAN) / STD, labels


@pytest.fixture(autouse=True)
def own_generator():
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.mark.parametrize(
    ("spec", "name", "options"),
    [
        ("pgd:eps=8/255,steps=2", "PGD", {"eps": EPS, "steps": 2}),
        ("fgsm:eps=8/255", "FGSM", {"eps": EPS}),
        ("pgdl2:eps=0.5,steps=2", "PGDL2", {"eps": 0.5, "steps": 2}),
    ],
)
def test_the_batch_is_that_of_torchattacks_by_hand(tmp_path, spec, name, options):
    folder = train(tmp_path / "run", "--in-range", "--adversarial", spec, *TINY)
    model, images, moved, labels = first_step(getattr(torchattacks, name), **options)
    with torch.no_grad():
        output = model(moved)
    assert losses(folder) == pytest.approx([F.cross_entropy(output, labels).item()], abs=1e-5)
    assert losses(train(tmp_path / "plain", "--in-range", *TINY))[0] < losses(folder)[0] - 1e-3
    (row,) = rows(folder / "adversarial.csv")
    change = ((moved - images) * STD).flatten(1)
    assert list(row) == ["epoch", "task_loss", "adversarial_accuracy", "linf", "l2"]
    assert float(row["task_loss"]) == pytest.approx(losses(folder)[0], abs=1e-5)
    assert float(row["adversarial_accuracy"]) == pytest.approx((output.argmax(1) == labels).float().mean().item())
    assert float(row["linf"]) == pytest.approx(change.abs().amax(1).mean().item(), rel=1e-4)
    assert float(row["l2"]) == pytest.approx(change.norm(dim=1).mean().item(), rel=1e-4)


@pytest.mark.parametrize("beta", [None, 0.0, 2])
def test_trades_is_the_task_loss_and_beta_times_the_divergence(tmp_path, beta):
    flags = () if beta is None else ("--trades-beta", beta)
    folder = train(tmp_path / "run", *TRADES, *flags, *TINY)
    model, images, moved, labels = first_step(torchattacks.TPGD, eps=EPS, steps=2)
    with torch.no_grad():
        clean, other = model(images), model(moved)
    p, q = clean.softmax(1).double(), other.softmax(1).double()
    divergence = (p * (p / q).log()).sum(1).mean().item()
    task = F.cross_entropy(clean, labels).item()
    assert divergence > 1e-4
    assert losses(folder) == pytest.approx([task + (6 if beta is None else beta) * divergence], abs=1e-5)
    (row,) = rows(folder / "adversarial.csv")
    assert float(row["task_loss"]) == pytest.approx(task, abs=1e-5)
    assert float(row["kl"]) == pytest.approx(divergence, rel=1e-3)
    assert float(row["clean_accuracy"]) == pytest.approx((clean.argmax(1) == labels).float().mean().item())
    assert float(row["adversarial_accuracy"]) == pytest.approx((other.argmax(1) == labels).float().mean().item())


def test_the_attack_of_trades_is_that_of_its_authors():
    """A start 0.001 away, then steps up the sign of the gradient of KL(f(x) || f(x')), back into ball and range."""
    random_seed(0, 0)
    model = Inside(timm.create_model("resnet20_cifar").eval())
    x = torch.rand(4, 3, 8, 8)
    attack = specs.perturbation("tpgd:eps=0.02,alpha=0.005,steps=3")
    with seeded(1, x.device):
        ours = attack.factory(model, **attack.options)(x, torch.zeros(4, dtype=torch.long))
    with seeded(1, x.device):
        moved = x + 0.001 * torch.randn_like(x)
    clean = model(x).detach().log_softmax(1)
    for _ in range(3):
        moved = moved.detach().clamp(0, 1).requires_grad_()
        divergence = (clean.exp() * (clean - model(moved).log_softmax(1))).sum()
        (gradient,) = torch.autograd.grad(divergence, moved)
        moved = (moved + 0.005 * gradient.sign()).minimum(x + 0.02).maximum(x - 0.02)
    # where a gradient is 0 up to rounding, its sign may differ
    assert (ours - moved.detach().clamp(0, 1)).abs().gt(1e-6).float().mean() < 0.01


@pytest.mark.parametrize("arguments", [("--drop", 0.5), ("--amp",), ("--mixup", 0.5)])
def test_a_perturbation_that_does_nothing_gives_the_plain_run(tmp_path, arguments):
    """To the last bit, dropout and mixup included: neither batches nor random numbers changed."""
    plain = train(tmp_path / "plain", "--in-range", *arguments)
    for spec in ("gaussian-noise:std=0", "apgd:eps=0,steps=2"):
        folder = train(tmp_path / spec[:4], "--in-range", "--adversarial", spec, *arguments)
        assert losses(folder) == losses(plain)
        assert rows(folder / "summary.csv")[-1]["eval_loss"] == rows(plain / "summary.csv")[-1]["eval_loss"]


def test_trades_with_beta_0_draws_the_random_numbers_of_the_plain_run(tmp_path):
    plain = train(tmp_path / "plain", "--in-range", "--drop", 0.5)
    assert losses(train(tmp_path / "run", *TRADES, "--trades-beta", 0, "--drop", 0.5)) == losses(plain)


@pytest.mark.parametrize("kind", [PGD, TRADES])
def test_a_resumed_run_sees_the_same_attacks(tmp_path, kind):
    common = (*kind, "--batches", 2, "--sched", "none")
    whole = train(tmp_path / "whole", *common, "--epochs", 2)
    first = train(tmp_path / "first", *common, "--epochs", 1)
    rest = train(tmp_path / "rest", *common, "--epochs", 2, "--resume", first / "last.pth.tar")
    assert losses(rest) == losses(whole)[2:]
    assert losses(first) == losses(whole)[:2]
    keys = torch.load(train(tmp_path / "plain", *TINY) / "last.pth.tar", weights_only=False)["state_dict"].keys()
    assert torch.load(whole / "last.pth.tar", weights_only=False)["state_dict"].keys() == keys


@pytest.mark.parametrize("kind", [PGD, TRADES])
@pytest.mark.parametrize(
    "arguments",
    [
        ("--mixup", 0.5), ("--clip-grad", 0.1), ("--model-ema",), ("--amp",), ("--grad-accum-steps", 2),
        ("--channels-last",), ("--selectivity-alpha", 1),
        pytest.param(("--torchcompile", "eager"), marks=pytest.mark.slow),
        ("--model", "test_resnet", "--img-size", 64, "--grad-checkpointing", "--selectivity-alpha", 1),
    ],
)  # fmt: skip
def test_ways_of_training(tmp_path, kind, arguments):
    folder = train(tmp_path / "run", *kind, *arguments, "--batches", 2)
    table = rows(folder / "adversarial.csv")
    assert len(table) == 2
    for row in table:
        assert EPS * 0.4 < float(row["linf"]) <= EPS + 1e-6
        assert all(value for value in row.values())
    if arguments[0] in ("--channels-last", "--torchcompile"):
        # Of the first step: after it, signs of gradients that are 0 up to rounding decide.
        plain = train(tmp_path / "plain", *kind, "--batches", 2)
        assert losses(folder)[0] == pytest.approx(losses(plain)[0], abs=1e-4)
    if "--selectivity-alpha" in arguments:
        assert len(rows(folder / "selectivity.csv")) == 2


def test_with_trades_the_penalty_is_that_of_the_clean_batch_and_with_pgd_that_of_the_perturbed_one(tmp_path):
    alpha = ("--selectivity-alpha", 1, *TINY)
    clean, trades, pgd = (
        float(rows(train(tmp_path / name, *kind, *alpha) / "selectivity.csv")[0]["penalty"])
        for name, kind in (("clean", ("--in-range",)), ("trades", TRADES), ("pgd", PGD))
    )
    assert trades == clean
    assert pgd != clean
    _, _, moved, _ = first_step(torchattacks.PGD, eps=EPS, steps=2)
    assert pgd == pytest.approx(penalty_of(moved), abs=1e-6)


def penalty_of(images: Tensor) -> float:
    from selplug.core.training.regularizer import SelectivityRegularizer

    random_seed(0, 0)
    model = timm.create_model("resnet20_cifar").train()
    with SelectivityRegularizer(model, 1.0, torch.zeros(2, 3, 8, 8), num_classes=10) as regularizer:
        model(images)
        return regularizer(torch.arange(16) % 10).item()


def test_it_is_logged(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="train"):
        train(tmp_path / "run", *TRADES, *TINY)
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Hooks:")]
    assert len(said) == 2
    assert re.search(
        r"adversarial: adversarial_accuracy \S+, linf 0.0\d*, l2 \S+, clean_accuracy \S+, kl \S+$", said[0]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--adversarial", "pdg"), "--adversarial: unknown perturbation 'pdg'; did you mean pgd"),
        (("--adversarial", "pgd:step=3"), "--adversarial: pgd has no option 'step'; did you mean steps"),
        (("--adversarial", "trades:step=3"), "--adversarial: trades has no option 'step'; did you mean steps"),
        (("--adversarial", "trades:eps"), "'trades:eps': expected name:key=value,key=value, got 'eps'"),
        (("--adversarial", ":eps=1"), "got the name ''"),
        (("--adversarial", "pgd:eps=8"), "--adversarial: pgd: expected eps from 0 to 1, got 8"),
        (("--adversarial", "trades:eps=-1"), "--adversarial: trades: option eps: expected a number >= 0, got -1"),
        (("--adversarial", "apgdt", "--num-classes", 3), "apgdt: expected a model of at least 4 classes, got 3"),
        (("--adversarial", "trades", "--trades-beta", "-1"), "--trades-beta: expected a finite number >= 0, got -1"),
        (("--adversarial", "trades", "--trades-beta", "nan"), "--trades-beta: expected a finite number >= 0, got nan"),
        (("--adversarial", "trades", "--trades-beta", "inf"), "--trades-beta: expected a finite number >= 0, got inf"),
        (("--adversarial", "pgd", "--trades-beta", 1), "needs --adversarial trades, got --adversarial pgd"),
        (("--trades-beta", 1), "--trades-beta needs --adversarial trades, got --adversarial none"),
        ((*PGD, "--multi-label"), "rows that sum to 1, got multi-label or other targets"),
        ((*PGD, "--reprob", 0.25), "--reprob 0.25 with --remode pixel puts noise outside this range"),
        ((*TRADES, "--reprob", 0.25, "--remode", "rand"), "use --remode const, or --reprob 0"),
        (("--adversarial", "pgd"), "--adversarial: pgd: expected pixels in [0, 1] without the normalization"),
        ((*PGD, "--kd-model-name", "resnet20_cifar"), "adversarial cannot take part in LogitDistillationTask"),
    ],
)  # fmt: skip
def test_bad_input(tmp_path, arguments, message):
    with pytest.raises(SelplugError, match=re.escape(message)):
        train(tmp_path / "run", *TINY, *arguments)


@pytest.mark.parametrize("more", [("--remode", "const"), ("--no-aug",)])
def test_random_erasing_that_stays_in_range_is_fine(tmp_path, more):
    train(tmp_path / "run", *NOTHING, "--reprob", 0.25, *more, *TINY)


def test_a_spec_from_yaml_is_text():
    with pytest.raises(SelplugError, match=r"--adversarial: expected a spec such as pgd:eps=8/255,steps=10, got 3"):
        AdversarialHook().active(argparse.Namespace(adversarial=3, trades_beta=None))


def test_without_torchattacks_the_missing_extra_is_told_and_noise_works(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_missing", lambda distribution, extra: ("torchattacks",) * (extra == "torchattacks"))
    monkeypatch.setitem(__import__("sys").modules, "torchattacks", None)
    import selplug_torchattacks

    monkeypatch.delitem(vars(selplug_torchattacks), "tpgd", raising=False)
    with pytest.raises(PluginError, match=re.escape("trades needs torchattacks, which is not installed: pip install")):
        train(tmp_path / "run", *TRADES, *TINY)
    train(tmp_path / "noise", "--in-range", "--adversarial", "gaussian-noise:std=0.1", *TINY)
    (row,) = rows(tmp_path / "noise" / "adversarial.csv")
    assert 0.1 < float(row["linf"]) < 1


def context(model: nn.Module, num_classes: int | None) -> TrainingContext:
    normalize = (tuple(MEAN.flatten().tolist()), tuple(STD.flatten().tolist()))
    return TrainingContext(
        torch.device("cpu"), torch.float32, (3, 8, 8), torch.zeros(2, 3, 8, 8), normalize, F.cross_entropy, num_classes
    )


def hook_on(model: nn.Module, spec: str, num_classes: int | None = None) -> AdversarialHook:
    hook, args = AdversarialHook(), argparse.Namespace(adversarial=spec, trades_beta=None)
    assert hook.active(args)
    hook.attach(model, args, context(model, num_classes))
    hook.on_epoch(0)
    return hook


def test_the_number_of_classes_is_read_off_the_logits_where_the_run_does_not_tell_it():
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    with pytest.raises(SelplugError, match="apgdt: expected a model of at least 4 classes, got 3"):
        hook_on(model, "apgdt")
    with pytest.raises(SelplugError, match=r"the number of classes is unknown, .* not a tensor"):
        hook_on(nn.Identity(), "pgd")


def test_batches_differ_in_their_seeds_and_epochs_and_ranks():
    hook = hook_on(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), "gaussian-noise:std=0.1")
    images, labels = torch.zeros(2, 3, 8, 8), torch.tensor([0, 1])
    found = [hook.on_batch(images, labels)[0] for _ in range(2)]
    hook.on_epoch(1)
    found.append(hook.on_batch(images, labels)[0])
    hook.on_epoch(0)
    assert torch.equal(hook.on_batch(images, labels)[0], found[0])
    hook._seeds = (0, 1)
    hook.on_epoch(0)
    found.append(hook.on_batch(images, labels)[0])
    assert all(not torch.equal(a, b) for i, a in enumerate(found) for b in found[:i])


def test_dropout_of_the_second_pass_differs_between_batches_and_repeats_with_the_epoch():
    hook = hook_on(nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(192, 3)), "trades:eps=0,steps=1")
    images, labels, found = torch.ones(2, 3, 8, 8), torch.tensor([0, 1]), []
    for epoch in (0, 0, 1, 0):
        if epoch or len(found) == 3:
            hook.on_epoch(epoch)
        hook.on_batch(images, labels)
        found.append(hook.extra_loss(torch.zeros(2, 3), labels).item())
    assert found[3] == found[0]
    assert len(set(found)) == 3


def test_a_hook_that_was_closed_does_nothing():
    hook = hook_on(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), "pgd")
    assert all(value != value for value in hook.scalars().values())  # noqa: PLR0124 - NaN
    hook.close()
    images, labels = torch.zeros(2, 3, 8, 8), torch.tensor([0, 1])
    assert hook.on_batch(images, labels)[0] is images
