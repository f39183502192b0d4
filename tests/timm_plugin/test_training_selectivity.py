"""The penalty inside a train script: its value, its schedule, and the ways of training that it has to survive."""

from __future__ import annotations

import logging

import pytest
import timm
import torch
from selplug_timm.hooks.selectivity import SelectivityHook, parse_schedule
from selplug_timm.models import cifar as _registers_the_models  # noqa: F401
from timm.utils import random_seed
from torch.nn import functional as F
from training_runs import losses, rows, train

from selplug.core.errors import InputError
from selplug.core.measures.functional import class_means, class_selectivity
from selplug.core.model.capture import Capture, find_layers

OFF = ("--selectivity-alpha", 0)
ON = ("--selectivity-alpha", -1.0)


def by_hand(batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[float, float]:
    """Task loss and mean selectivity of the first step of the small script, without any of the hooks."""
    with torch.random.fork_rng(devices=[]):
        random_seed(0, 0)
        model = timm.create_model("resnet20_cifar").train()
        images, labels = batch
        with Capture(model, find_layers(model, images[:2])) as capture, torch.no_grad():
            loss = F.cross_entropy(model(images), labels)
    index = [class_selectivity(*class_means(r, labels, 10)).mean() for r in capture.responses.values()]
    return loss.item(), torch.stack(index).mean().item()


def test_alpha_0_is_the_plain_run_and_others_differ(tmp_path):
    plain = train(tmp_path / "plain")
    off = train(tmp_path / "off", *OFF)
    assert losses(off) == losses(plain)
    assert not (off / "selectivity.csv").exists()
    on = train(tmp_path / "on", *ON)
    assert losses(on)[0] != losses(plain)[0]
    assert (on / "summary.csv").exists()
    plain_keys = torch.load(plain / "last.pth.tar", weights_only=False)["state_dict"].keys()
    assert torch.load(on / "last.pth.tar", weights_only=False)["state_dict"].keys() == plain_keys


@pytest.mark.parametrize("alpha", [-1.0, 0.5])
def test_the_loss_is_task_loss_minus_alpha_selectivity(tmp_path, alpha):
    folder = train(tmp_path / "run", "--selectivity-alpha", alpha, "--batches", 1, "--epochs", 1)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(16) % 10
    batch = torch.randn(16, 3, 8, 8, generator=generator) + labels.view(-1, 1, 1, 1) / 2, labels
    task_loss, selectivity = by_hand(batch)
    assert losses(folder) == pytest.approx([task_loss - alpha * selectivity], abs=1e-5)
    (row,) = rows(folder / "selectivity.csv")
    assert float(row["task_loss"]) == pytest.approx(task_loss, abs=1e-5)
    assert float(row["selectivity"]) == pytest.approx(selectivity, abs=1e-5)
    assert float(row["penalty"]) == pytest.approx(-alpha * selectivity, abs=1e-5)
    layers = [float(value) for key, value in row.items() if key.startswith("selectivity/")]
    assert len(layers) == 19
    assert sum(layers) / 19 == pytest.approx(selectivity, abs=1e-5)


def test_the_sign_of_alpha(tmp_path):
    down, up = (
        rows(train(tmp_path / str(alpha), "--selectivity-alpha", alpha, "--epochs", 3) / "selectivity.csv")
        for alpha in (-2, 2)
    )
    assert float(down[-1]["selectivity"]) < float(up[-1]["selectivity"]) - 0.05


def test_the_schedule_follows_the_epochs(tmp_path, caplog):
    schedule = ("--selectivity-schedule", "1:-1,3:0.5")
    with caplog.at_level(logging.INFO, logger="train"):
        folder = train(tmp_path / "run", *schedule, "--epochs", 4, "--batches", 2, "--val-interval", 3)
    table = rows(folder / "selectivity.csv")
    assert [(row["epoch"], float(row["alpha"])) for row in table] == [("0", 0), ("1", -1), ("2", -1), ("3", 0.5)]
    assert [bool(row["selectivity"]) for row in table] == [False, True, True, True]
    assert float(table[0]["penalty"]) == 0
    plain = train(tmp_path / "plain", "--epochs", 4, "--batches", 2, "--val-interval", 3)
    assert losses(folder)[:2] == losses(plain)[:2]
    assert losses(folder)[2] != losses(plain)[2]
    # batches 0 and (there is none) 2 of each epoch, and its mean
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Hooks:")]
    assert [text.split("  task loss")[0] for text in said[:2]] == ["Hooks: 0 [   0]", "Hooks: 0 mean  "]
    assert len(said) == 8
    assert "alpha -1, penalty 0." in said[2]


@pytest.mark.parametrize("start", ["resume", "--start-epoch"])
def test_a_run_goes_on_with_the_schedule_where_it_stopped(tmp_path, start):
    first = train(tmp_path / "first", *ON, "--epochs", 1, "--batches", 2)
    going_on = ("--resume", first / "last.pth.tar") if start == "resume" else (start, 1)
    folder = train(
        first, "--selectivity-schedule", "0:-1,2:1", "--epochs", 3, "--batches", 2, "--sched", "none", *going_on
    )
    table = rows(folder / "selectivity.csv")
    assert [(row["epoch"], float(row["alpha"])) for row in table] == [("0", -1), ("1", -1), ("2", 1)]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--mixup", 0.5), ("--clip-grad", 0.1), ("--model-ema",), ("--selectivity-ema", 0.9),
        ("--selectivity-layers", "layer3.*", "--selectivity-layers", "act1"), ("--selectivity-sync",),
    ],
)  # fmt: skip
def test_ways_of_training(tmp_path, arguments):
    plain = [word for word in arguments if not str(word).startswith("--sel")] if "--sel" not in str(arguments) else []
    without = train(tmp_path / "off", *plain, "--batches", 2)
    folder = train(tmp_path / "on", *arguments, *ON, "--batches", 2)
    assert losses(folder) != losses(without)
    table = rows(folder / "selectivity.csv")
    assert len(table) == 2
    for row, total in zip(table, (losses(folder)[:2], losses(folder)[2:]), strict=True):
        assert float(row["task_loss"]) + float(row["penalty"]) == pytest.approx(sum(total) / 2, abs=1e-5)
    if "--selectivity-layers" in arguments:
        assert sum(key.startswith("selectivity/") for key in table[0]) == 7


def test_half_precision_changes_little(tmp_path):
    single, half = (
        rows(train(tmp_path / name, *ON, *more, "--batches", 1, "--epochs", 1) / "selectivity.csv")[0]
        for name, more in (("single", ()), ("half", ("--amp",)))
    )
    assert float(half["selectivity"]) == pytest.approx(float(single["selectivity"]), abs=0.01)


def test_accumulated_batches_count_as_one_update(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="train"):
        folder = train(tmp_path / "run", *ON, "--grad-accum-steps", 2, "--epochs", 1)
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Hooks:")]
    assert [text[9:15] for text in said] == ["[   0]", "mean  "]
    (row,) = rows(folder / "selectivity.csv")
    # the script divides the loss in place, which must not reach what is reported
    assert float(row["task_loss"]) + float(row["penalty"]) == pytest.approx(sum(losses(folder)) / 4, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "schedule"),
    [(None, {}), ("", {}), ("0:-1", {0: -1.0}), (" 0:0 , 10 : 2e-1", {0: 0.0, 10: 0.2})],
)
def test_schedules(text, schedule):
    assert parse_schedule(text) == schedule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1", "got '1'"), ("a:1", "got 'a:1'"), ("-1:1", "got '-1:1'"), ("1:x", "got '1:x'"), ("1:1,", "got ''"),
        ("2:1,1:1", "epoch 1 is not after 2"), ("1:1,1:2", "epoch 1 is not after 1"),
        ("0:nan", "finite number, got nan"), (310, "got 310; in a YAML file put it in quotation marks"),
    ],
)  # fmt: skip
def test_bad_schedules(text, message):
    with pytest.raises(InputError, match=message):
        parse_schedule(text)


def test_a_hook_that_is_attached_to_nothing_has_nothing_to_say():
    hook = SelectivityHook()
    hook.on_epoch(0)
    assert hook.extra_loss(torch.zeros(2, 2), torch.zeros(2)) is None
    assert hook.scalars() == {}
    hook.close()
