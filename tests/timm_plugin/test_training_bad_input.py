"""Never silently unregularized: whatever keeps a hook from taking part ends the run with a message."""

from __future__ import annotations

import re

import pytest
from selplug_timm.launch import run as launch
from training_runs import own_logging, train

from selplug.cli import main
from selplug.core.errors import SelplugError

ON = ("--selectivity-alpha", "-1")
TINY = ("--batches", "1", "--epochs", "1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--selectivity-alpha", "nan"), "--selectivity-alpha: expected a finite number, got nan"),
        (("--selectivity-alpha=-inf",), "--selectivity-alpha: expected a finite number, got -inf"),
        (("--selectivity-schedule", "5"), "--selectivity-schedule: expected EPOCH:ALPHA,EPOCH:ALPHA,..."),
        ((*ON, "--selectivity-ema", "1"), "--selectivity-ema: expected a decay in [0, 1), got 1.0"),
        ((*ON, "--selectivity-layers", "zzz*"), "--selectivity-layers 'zzz*' matches no module; there are conv1, bn1"),
        ((*ON, "--model", "test_mlp_mixer_absent"), "Unknown model"),
        ((*ON, "--multi-label"), "expected soft targets (N, C) with rows that sum to 1, got multi-label targets"),
        ((*ON, "--kd-model-name", "resnet20_cifar"), "selectivity cannot take part in LogitDistillationTask"),
        ((*ON, "--no-task"), "selectivity could not take part: the script built no timm.task.ClassificationTask"),
        ((*ON, "--second-task"), "the script built a second ClassificationTask"),
        ((*ON, "--bypass"), "the script reports epoch 0, but no batch went through its ClassificationTask"),
        ((*ON, "--num-classes", "1"), "class selectivity needs at least two classes"),
    ],
)
def test_it_is_told(tmp_path, arguments, message):
    expected = RuntimeError if "Unknown" in message else SelplugError
    if expected is RuntimeError:  # the script's own: a traceback and code 1
        with pytest.raises(SystemExit, match="1"):
            train(tmp_path / "run", *TINY, *arguments)
        return
    with pytest.raises(expected, match=re.escape(message)):
        train(tmp_path / "run", *TINY, *arguments)


def test_nothing_that_can_be_recorded(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import argparse, torch\nfrom timm.task import ClassificationTask\nparser = argparse.ArgumentParser()\n"
        "parser.add_argument('--model')\nparser.parse_args()\n"
        "model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 224 * 224, 2))\n"
        "ClassificationTask(model=model, criterion=torch.nn.CrossEntropyLoss())\n"
    )
    with pytest.raises(SelplugError, match=r"no activation module.*choose modules with --selectivity-layers"):
        launch.run(script, ["--selectivity-alpha", "1"])


@pytest.mark.filterwarnings("ignore:.torch.jit")  # torch will drop the compiler that the script asks for here
def test_a_scripted_model(tmp_path):
    with pytest.raises(SelplugError, match="leave out --torchscript"):
        train(tmp_path / "run", *TINY, *ON, "--torchscript")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\n", "is not a timm train script: it made no parser with --model"),
        ("import argparse\nargparse.ArgumentParser().parse_args([])\n", "it made no parser with --model"),
    ],
)
def test_another_script(tmp_path, capsys, source, message):
    script = tmp_path / "other.py"
    script.write_text(source)
    with pytest.raises(SystemExit) as stop, own_logging():
        main(["timm-train", str(script), "--selectivity-alpha", "1"])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_the_exit_code_of_the_script_is_passed_on(tmp_path):
    with pytest.raises(SystemExit) as stop:
        train(tmp_path / "run", *ON, "--exit-code", 3)
    assert stop.value.code == 3


def test_what_hooks_cannot_follow_runs_without_them(tmp_path):
    train(tmp_path / "run", *TINY, "--second-task")
    train(tmp_path / "run2", *TINY, "--bypass")
