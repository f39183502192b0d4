"""`selplug train`: it trains as timm's script does, in every way of training, and says what is wrong with its flags."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import timm
import torch
import yaml
from PIL import Image
from selplug_timm.launch.run import run
from selplug_timm.subject import load
from torch.nn import functional as F
from training_runs import own_logging, rows

from selplug.cli import main
from selplug.core.errors import SelplugError
from selplug.core.model.capture import Capture, find_layers

#: timm's data set leaves it to the garbage collector to close an image.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SIZE, CLASSES, PER_CLASS = 16, 3, 8


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of noise whose brightness tells the class, 8 a class and split."""
    root = tmp_path_factory.mktemp("train-data")
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in range(CLASSES):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(PER_CLASS):
                pixels = random.integers(0, 120, (SIZE, SIZE, 3)) + 60 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return root


@pytest.fixture
def train(data: Path, tmp_path: Path) -> Callable[..., Path]:
    """``train(name, *flags)``: a run of two epochs in this process, 4 batches each; its folder."""

    def start(name: str, *flags: object) -> Path:
        fixed = (
            "--data-dir", data, "--val-split", "val", "--model", "resnet20_cifar", "--num-classes", CLASSES,
            "--img-size", SIZE, "-b", 6, "--epochs", 2, "--warmup-epochs", 0, "--lr", 0.02, "--no-aug", "--device",
            "cpu", "--workers", 0, "--log-interval", 2, "--output", tmp_path, "--experiment", name,
        )  # fmt: skip
        torch.compiler.reset()  # code of an earlier network of this class would be taken, without any hooks
        with own_logging(), torch.random.fork_rng(devices=[]):
            run("train", [str(flag) for flag in (*fixed, *flags)])
        return tmp_path / name

    return start


def slow(*flags: object) -> Any:
    """A row for all tests: what timm does with these flags does not meet what we do."""
    return pytest.param(flags, marks=pytest.mark.slow)


def loss_of(folder: Path) -> list[float]:
    return [float(row["train_loss"]) for row in rows(folder / "summary.csv")]


def test_it_learns_and_the_audit_needs_its_folder_alone(train):
    folder = train("run", "--epochs", 6, "--smoothing", 0)
    assert {path.name for path in folder.iterdir()} >= {
        "args.yaml",
        "summary.csv",
        "model_best.pth.tar",
        "last.pth.tar",
    }
    table = rows(folder / "summary.csv")
    assert [row["epoch"] for row in table] == [str(epoch) for epoch in range(6)]
    assert float(table[-1]["train_loss"]) < float(table[0]["train_loss"]) / 2
    subject = load(str(folder), {"workers": 0})
    images, labels = next(iter(subject.loader))
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in subject.normalize)
    with torch.no_grad():
        right = (subject.model((images - mean) / std).argmax(1) == labels).double().mean().item()
    best = max(float(row["eval_top1"]) for row in table)
    assert 100 * right == pytest.approx(best)
    assert best > 60


def test_the_reported_loss_is_that_of_its_own_checkpoint_and_batch(train, data):
    """The second epoch begins with the weights of the first one's checkpoint; its one batch is the whole data set."""
    alpha = -0.7
    folder = train("run", "-b", CLASSES * PER_CLASS, "--smoothing", 0, "--selectivity-alpha", alpha)
    model = timm.create_model("resnet20_cifar", num_classes=CLASSES)
    model.load_state_dict(torch.load(folder / "checkpoint-0.pth.tar", weights_only=False)["state_dict"])
    subject = load(str(folder), {"workers": 0, "split": "train"})
    images, labels = next(iter(subject.loader))
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in subject.normalize)
    model.train()
    with Capture(model, find_layers(model, images[:2])) as capture, torch.no_grad():
        task_loss = F.cross_entropy(model((images - mean) / std), labels).item()
    layers = []
    for responses in capture.responses.values():
        means, _ = reference.class_means(responses.double().numpy(), labels.numpy(), CLASSES)
        layers.append(reference.class_selectivity(means).mean())
    selectivity = float(np.mean(layers))
    row = rows(folder / "selectivity.csv")[1]
    assert float(row["task_loss"]) == pytest.approx(task_loss, abs=1e-4)
    assert float(row["selectivity"]) == pytest.approx(selectivity, abs=1e-4)
    assert loss_of(folder)[1] == pytest.approx(task_loss - alpha * selectivity, abs=1e-4)


@pytest.mark.parametrize(
    "flags",
    [
        ("--amp",), ("--channels-last",), ("--grad-accum-steps", 3), ("--grad-checkpointing",),
        ("--model-ema", "--model-ema-decay", 0.5), ("--mixup", 0.2, "--cutmix", 1), ("--selectivity-ema", 0.9),
        slow("--amp", "--amp-dtype", "float16"), slow("--clip-grad", 0.5),
        slow("--clip-grad", 0.01, "--clip-mode", "agc"), slow("--torchcompile", "aot_eager"),
        slow("--opt", "adamw", "--lr", 1e-3), slow("--drop", 0.1), slow("--sched", "none"),
    ],
    ids=lambda flags: " ".join(map(str, flags)),
)  # fmt: skip
def test_ways_of_training(train, flags):
    plain = train("plain", *(flag for flag in flags if not str(flag).startswith("--selectivity") and flag != 0.9))
    on = train("on", *flags, "--selectivity-alpha", -2)
    table = rows(on / "selectivity.csv")
    assert len(table) == 2
    for row, loss in zip(table, loss_of(on), strict=True):
        assert float(row["penalty"]) == pytest.approx(2 * float(row["selectivity"]), rel=1e-5)
        tolerance = 0.02 if "--amp" in flags else 1e-5
        assert float(row["task_loss"]) + float(row["penalty"]) == pytest.approx(loss, abs=tolerance)
    assert loss_of(on)[0] > loss_of(plain)[0] + 0.1
    keys = [torch.load(folder / "last.pth.tar", weights_only=False) for folder in (plain, on)]
    assert keys[0].keys() == keys[1].keys()
    for part in ("state_dict", "state_dict_ema"):
        assert keys[0].get(part, {}).keys() == keys[1].get(part, {}).keys()
    timm.create_model("resnet20_cifar", num_classes=CLASSES).load_state_dict(keys[1]["state_dict"])


@pytest.mark.parametrize("flags", [slow("--torchcompile", "aot_eager"), ("--grad-checkpointing",)])
def test_the_penalty_is_the_same_in_these_ways(train, flags):
    eager, other = train("eager", "--selectivity-alpha", -2), train("other", "--selectivity-alpha", -2, *flags)
    assert loss_of(other) == pytest.approx(loss_of(eager), rel=1e-3)
    assert [float(row["penalty"]) for row in rows(other / "selectivity.csv")] == pytest.approx(
        [float(row["penalty"]) for row in rows(eager / "selectivity.csv")], rel=1e-3
    )


def test_a_run_goes_on(train):
    first = train("run", "--epochs", 3, "--selectivity-schedule", "0:-1,1:1")
    second = train("run", "--epochs", 5, "--selectivity-schedule", "0:-1,1:1", "--resume", first / "last.pth.tar")
    assert second == first
    assert [row["epoch"] for row in rows(first / "summary.csv")] == ["0", "1", "2", "3", "4"]
    alphas = [(row["epoch"], float(row["alpha"])) for row in rows(first / "selectivity.csv")]
    assert alphas == [("0", -1), ("1", 1), ("2", 1), ("3", 1), ("4", 1)]


def test_a_second_run_of_one_name_keeps_the_first(train, tmp_path):
    first = train("run", "--epochs", 1)
    before = (first / "last.pth.tar").read_bytes()
    train("run", "--epochs", 1, "--seed", 1)
    assert (first / "last.pth.tar").read_bytes() == before
    assert (tmp_path / "run-1" / "last.pth.tar").is_file()


def test_a_yaml_file_gives_defaults_and_args_yaml_is_such_a_file(train, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("lr: 0.01\nselectivity_alpha: -1.0\nsmoothing: 0.0\n")
    first = train("first", "-c", config)
    saved = yaml.safe_load((first / "args.yaml").read_text())
    assert (saved["lr"], saved["selectivity_alpha"], saved["smoothing"]) == (0.02, -1.0, 0.0)
    again = train("again", "-c", first / "args.yaml")
    assert loss_of(again) == loss_of(first)


def test_a_loss_of_nan_ends_the_run_and_keeps_what_there_is(train, tmp_path):
    train("run", "--epochs", 1)
    with pytest.raises(SelplugError, match=r"the loss has been nan for 10 batches \(epoch .*: lower --lr"):
        train(
            "run", "--epochs", 9, "--resume", tmp_path / "run" / "last.pth.tar", "--lr", 1e30, "--no-resume-opt",
            "--selectivity-alpha", 1,
        )  # fmt: skip
    torch.load(tmp_path / "run" / "last.pth.tar", weights_only=False)
    assert rows(tmp_path / "run" / "selectivity.csv")[-1]["task_loss"] == "nan"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model", "resnet20_cifr"), "unknown model 'resnet20_cifr'; did you mean resnet20_cifar"),
        (("--data-dir", "nowhere"), "nowhere"),
        (("--val-split", "nope"), "no split 'nope' in"),
        (("--train-split", "tran"), "give --train-split"),
        (("--num-classes", 10), "the data has 3 classes (class0, class1, class2), the model 10"),
        (("-b", 100), "the training data has 24 images, less than one batch of 100 for 1 process"),
        (("--epochs", 0), "--epochs: expected a number at least 1, got 0"),
        (("--lr", "nan"), "--lr: expected a number above 0, got nan"),
        (("--opt", "sdg"), "--opt sdg"),
        (("--sched", "cosin"), "--sched cosin"),
        (("--mixup", 0.2, "-b", 5), "--mixup and --cutmix need an even --batch-size, got 5"),
        (("--device", "cuda:77"), "--device cuda:77"),
        (("--device", "gpu"), "--device gpu"),
        (("--resume", "absent.pth.tar"), "no checkpoint file absent.pth.tar"),
        (("--initial-checkpoint", "absent.pth"), "no checkpoint file absent.pth"),
        (("--config", "absent.yaml"), "--config absent.yaml: No such file"),
        (("--torchcompile", "nonsense"), "--torchcompile nonsense"),
        (("--selectivity-alpha", "inf"), "--selectivity-alpha: expected a finite number, got inf"),
        (("--selectivity-alpha", 1, "--selectivity-layers", "zzz"), "--selectivity-layers 'zzz' matches no module"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_bad_flags(train, tmp_path, flags, message):
    with pytest.raises(SelplugError, match=re.escape(message)):
        train("run", *flags)
    assert not (tmp_path / "run").exists()


def test_splits_that_number_their_classes_differently(train, tmp_path, data):
    other = tmp_path / "other"
    (other / "train").parent.mkdir()
    (other / "train").symlink_to(data / "train")
    for name in ("class0", "class2", "extra"):
        (other / "val" / name).mkdir(parents=True)
        Image.new("RGB", (SIZE, SIZE)).save(other / "val" / name / "0.png")
    with pytest.raises(SelplugError, match="number their classes differently, for instance class1, class2, extra"):
        train("run", "--data-dir", other)


def test_unknown_names_in_a_yaml_file(train, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("learning_rate: 0.1\n")
    with pytest.raises(SelplugError, match="no such flag: learning_rate"):
        train("run", "-c", config)
    config.write_text("- 1\n")
    with pytest.raises(SelplugError, match="expected flags and their values, got list"):
        train("run", "-c", config)


def test_on_the_command_line(data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop, own_logging():
        main(["train", "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert "usage: selplug train" in said
    assert "--selectivity-alpha FLOAT" in said
    for arguments in (["--data-dir", "absent"], ["--epochs", "x"], ["--lernrate", "1"]):
        with pytest.raises(SystemExit) as stop, own_logging():
            main(["train", *arguments])
        assert stop.value.code == 2
        assert "Traceback" not in capsys.readouterr().err


def test_a_file_called_train_is_not_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train").write_text("raise SystemExit('somebody else')\n")
    (tmp_path / "timm.py").write_text("raise SystemExit('somebody else')\n")
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    assert stop.value.code in (0, None)
    assert "--selectivity-alpha" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="somebody else"):
        main(["timm-train", "train", "--model", "m"])
