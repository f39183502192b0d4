"""Local errors in a train script: losses, files, checkpoints, and the ways of training that they have to survive."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
import timm
import torch
import yaml
from selplug_timm.hooks.local_errors import LocalErrorsHook, stages_of
from selplug_timm.models import cifar as _registers_the_models  # noqa: F401
from timm.utils import random_seed
from torch.nn import functional as F
from training_runs import losses, rows, train

from selplug.core.errors import CaptureError, InputError, SelplugError
from selplug.core.training.local_errors import LocalErrors, random_classifier

ON = ("--local-errors",)
STAGES = ("layer1", "layer2", "layer3")


def by_hand(seed: int) -> tuple[float, list[float]]:
    """Task loss and local errors of the first step of the small script, without any of the hooks."""
    with torch.random.fork_rng(devices=[]):
        random_seed(0, 0)
        model = timm.create_model("resnet20_cifar").train()
        labels = torch.arange(16) % 10
        images = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + labels.view(-1, 1, 1, 1) / 2
        with torch.no_grad():
            x, errors = model.act1(model.bn1(model.conv1(images))), []
            for number, stage in enumerate(STAGES):
                x = getattr(model, stage)(x)
                logits = x.mean((2, 3)) @ random_classifier(x.shape[1], 10, seed, number)
                errors.append(F.cross_entropy(logits, labels).item())
            return F.cross_entropy(model.forward_head(x), labels).item(), errors


@pytest.mark.parametrize("seed", [42, 7])
def test_the_loss_is_that_of_the_task_plus_local_errors(tmp_path, seed, caplog):
    with caplog.at_level(logging.INFO, logger="train"):
        folder = train(tmp_path / "run", *ON, "--batches", 1, "--epochs", 1, "--seed", seed)
    task, errors = by_hand(seed)
    assert losses(folder) == pytest.approx([task + sum(errors)], abs=1e-4)
    (row,) = rows(folder / "local-errors.csv")
    assert list(row) == [
        "epoch", "task_loss", "local_error", *(f"error/{s}" for s in STAGES), *(f"accuracy/{s}" for s in STAGES),
    ]  # fmt: skip
    assert float(row["task_loss"]) == pytest.approx(task, abs=1e-5)
    assert float(row["local_error"]) == pytest.approx(sum(errors), abs=1e-4)
    assert [float(row[f"error/{s}"]) for s in STAGES] == pytest.approx(errors, abs=1e-5)
    assert all(0 <= float(row[f"accuracy/{s}"]) <= 1 for s in STAGES)
    said = [record.getMessage() for record in caplog.records]
    assert "Local errors of the stages layer1, layer2, layer3" in said
    assert any(re.search(r"local-errors: local_error [\d.]+$", text) for text in said)


def test_without_the_flag_the_run_is_plain_and_with_it_checkpoints_have_the_same_keys(tmp_path):
    plain, on = train(tmp_path / "plain"), train(tmp_path / "on", *ON)
    assert not (plain / "local-errors.csv").exists()
    keys = [torch.load(f / "last.pth.tar", weights_only=False)["state_dict"].keys() for f in (plain, on)]
    assert keys[0] == keys[1]
    assert losses(on) != losses(plain)
    (first, *_) = rows(on / "local-errors.csv")
    # the same batch, weights and random numbers: the task of the first step is the plain one
    one = train(tmp_path / "one", *ON, "--batches", 1, "--epochs", 1)
    assert float(rows(one / "local-errors.csv")[0]["task_loss"]) == pytest.approx(losses(plain)[0], abs=1e-6)
    assert float(first["accuracy/layer3"]) >= 0


def test_a_resumed_run_goes_on_as_the_whole_one(tmp_path):
    whole = train(tmp_path / "whole", *ON, "--epochs", 2)
    cut = train(tmp_path / "cut", *ON, "--epochs", 2, "--stop-after", 1)
    assert losses(cut) == losses(whole)[:4]
    train(cut, *ON, "--epochs", 2, "--resume", cut / "last.pth.tar")
    assert losses(cut) == losses(whole)[4:]
    assert rows(cut / "local-errors.csv") == rows(whole / "local-errors.csv")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--mixup", 0.5), ("--clip-grad", 0.1), ("--model-ema",), ("--amp",), ("--grad-accum-steps", 2),
        ("--selectivity-alpha", -1.0), ("--local-errors-stages", "layer?.0", "--local-errors-stages", "layer3"),
        ("--model", "test_vit", "--img-size", 160, "--num-classes", 5),
        ("--model", "test_convnext", "--img-size", 32, "--num-classes", 5),
    ],
)  # fmt: skip
def test_ways_of_training(tmp_path, arguments):
    folder = train(tmp_path / "on", *arguments, *ON, "--batches", 2)
    table = rows(folder / "local-errors.csv")
    assert len(table) == 2
    penalties = [0.0, 0.0]
    if "--selectivity-alpha" in arguments:
        penalties = [float(row["penalty"]) for row in rows(folder / "selectivity.csv")]
    for row, penalty, total in zip(table, penalties, (losses(folder)[:2], losses(folder)[2:]), strict=True):
        assert float(row["task_loss"]) + float(row["local_error"]) + penalty == pytest.approx(sum(total) / 2, abs=1e-4)
    if "--local-errors-stages" in arguments:
        errors = [key for key in table[0] if key.startswith("error/")]
        assert errors == ["error/layer1.0", "error/layer2.0", "error/layer3.0", "error/layer3"]


def test_flags_come_from_yaml(tmp_path):
    config = tmp_path / "config.yaml"
    asked = {"local_errors": True, "local_errors_stages": ["layer1", "layer3"], "batches": 1, "epochs": 1}
    config.write_text(yaml.safe_dump(asked))
    folder = train(tmp_path / "run", "-c", config)
    assert {key: yaml.safe_load((folder / "args.yaml").read_text())[key] for key in asked} == asked
    assert "error/layer2" not in rows(folder / "local-errors.csv")[0]
    config.write_text(yaml.safe_dump({**asked, "local_errors_stages": "layer1"}))
    assert "error/layer1" in rows(train(tmp_path / "one", "-c", config) / "local-errors.csv")[0]
    config.write_text(yaml.safe_dump({**asked, "local_errors": "yes please"}))
    with pytest.raises(InputError, match="--local-errors: expected true or false, got 'yes please'"):
        train(tmp_path / "two", "-c", config)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--local-errors-stages", "layer1"), "--local-errors-stages needs --local-errors"),
        ((*ON, "--local-errors-stages", "zzz*"), "--local-errors-stages 'zzz*' (stages=) matches no module; there are"),
        (
            (*ON, "--local-errors-stages", "layer1.0.conv1"),
            "resnet20_cifar: the stages layer1.0.conv1 cannot be separated",
        ),
        ((*ON, "--kd-model-name", "resnet20_cifar"), "local-errors cannot take part in LogitDistillationTask"),
        ((*ON, "--bypass"), "the script reports epoch 0, but no batch went through its ClassificationTask"),
        ((*ON, "--seed", "-1"), "expected a whole number >= 0 as seed of the local classifiers, got -1"),
    ],
)
def test_it_is_told(tmp_path, arguments, message):
    with pytest.raises(SelplugError, match=re.escape(message)):
        train(tmp_path / "run", *arguments, "--batches", 1, "--epochs", 1)


def test_a_model_without_stages():
    with pytest.raises(CaptureError, match=r"timm lists no stages for this model \(feature_info: nothing\); give the"):
        stages_of(torch.nn.Sequential(torch.nn.Linear(2, 2)))


def test_a_hook_that_is_not_attached_does_nothing():
    hook = LocalErrorsHook()
    assert hook.extra_loss(torch.zeros(1, 2), torch.zeros(1).long()) is None
    assert hook.scalars() == {}
    hook.close()


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_vit"])
def test_checkpointing_of_timm(name):
    """timm then calls the blocks of a stage one by one, and not the stage."""
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=4)
        size = model.default_cfg["input_size"][1] if name == "test_vit" else 32
        model.set_grad_checkpointing(checkpointing)
        local = LocalErrors(model, [*stages_of(model)], F.cross_entropy, torch.rand(2, 3, size, size))
        torch.manual_seed(1)
        images, labels = torch.rand(4, 3, size, size), torch.arange(4)
        (F.cross_entropy(model(images), labels) + local(labels)).backward()
        found.append((local.stages, local.losses, [parameter.grad for parameter in model.parameters()]))
    assert found[0][0] == found[1][0]
    torch.testing.assert_close(found[0][1:], found[1][1:], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_compiled():
    found = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = timm.create_model("resnet20_cifar")
        local = LocalErrors(model, [*stages_of(model)], F.cross_entropy, torch.rand(2, 3, 8, 8))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        call = torch.compile(model, backend="aot_eager") if compiled else model
        images, labels = torch.rand(8, 3, 8, 8), torch.arange(8)
        found.append([])
        for _ in range(3):
            loss = F.cross_entropy(call(images), labels) + local(labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            found[-1].append(loss.item())
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_a_network_learns_handwritten_digits_by_local_errors():
    datasets = pytest.importorskip("sklearn.datasets")
    data = datasets.load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(data.target.astype(np.int64))
    torch.manual_seed(0)
    order = torch.randperm(len(images))
    training, test = order[:1400], order[1400:]
    model = timm.create_model("resnet20_cifar", in_chans=1)
    local = LocalErrors(model, [*stages_of(model)], F.cross_entropy, images[:2])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(4):
        for batch in training[torch.randperm(1400)].split(50):
            (F.cross_entropy(model(images[batch]), labels[batch]) + local(labels[batch])).backward()
            optimizer.step()
            optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        accuracy = (model(images[test]).argmax(1) == labels[test]).float().mean()
    assert accuracy > 0.85  # chance is 0.1
    assert (local.accuracies > 0.5).all()
