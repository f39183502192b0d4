"""The launcher: flags on the script's own parser, several hooks at once, nothing left behind."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
import timm.scheduler
import timm.task
import timm.utils
import yaml
from selplug_timm.launch import run as launch
from timm.task.task import TrainingTask
from training_runs import SCRIPT, losses, rows, train

from selplug.cli import main
from selplug.core.errors import InputError, PluginError

HOOK = """
from selplug.core.training import TrainingHook

class Hook(TrainingHook):
    closed = 0

    def add_arguments(self, group):
        group.add_argument("--{flag}", type=float, default=1.0, help="a factor on every pixel")

    def active(self, args):
        self.factor = args.{flag}
        return self.factor != 1

    def on_batch(self, images, target):
        return images * self.factor, target

    def extra_loss(self, output, target):
        return output.new_zeros({shape}) + 10

    def scalars(self):
        return {{"factor": self.factor}}

    def close(self):
        Hook.closed += 1
"""


@pytest.fixture
def brighten(tmp_path, monkeypatch):
    """``brighten(flag, shape)``: an installed distribution with a training hook of that name."""

    def install(flag: str = "brighten", shape: str = "()") -> None:
        info = tmp_path / "site" / "bright-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bright\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[selplug.training]\nbrighten = bright_hook:Hook\n")
        (tmp_path / "site" / "bright_hook.py").write_text(HOOK.format(flag=flag, shape=shape))
        monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
        monkeypatch.delitem(sys.modules, "bright_hook", raising=False)

    return install


def replaced() -> list[object]:
    parser = argparse.ArgumentParser
    return [
        timm.task.ClassificationTask, timm.task.classification.ClassificationTask, timm.task.resume_task_checkpoint,
        TrainingTask.__init__, timm.scheduler.create_scheduler_v2, timm.scheduler.CosineLRScheduler.step,
        timm.utils.update_summary, parser.parse_known_args, parser.set_defaults, "set_defaults" in vars(parser),
        "step" in vars(timm.scheduler.CosineLRScheduler), list(sys.argv), list(sys.path),
    ]  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request):
    before = replaced()
    yield
    if "brighten" not in request.fixturenames:
        assert replaced() == before


def test_flags_are_in_the_help_with_the_sign_of_alpha(capsys):
    with pytest.raises(SystemExit) as stop:
        launch.run(SCRIPT, ["--help"])
    assert not stop.value.code
    text = " ".join(capsys.readouterr().out.split())
    assert "Small training" in text
    assert "loss = task_loss - alpha * mean class selectivity: alpha > 0 promotes selectivity, alpha < 0" in text
    for flag in ("--selectivity-schedule", "--selectivity-layers", "--selectivity-ema", "--selectivity-sync"):
        assert flag in text


def test_flags_come_from_yaml_and_go_into_args_yaml(tmp_path):
    config = tmp_path / "config.yaml"
    asked = {"selectivity_alpha": -1, "selectivity_layers": ["layer3.*"], "selectivity_ema": 0.5, "batches": 1}
    config.write_text(yaml.safe_dump(asked))
    folder = train(tmp_path / "one", "-c", config, "--selectivity-alpha=-2")
    saved = yaml.safe_load((folder / "args.yaml").read_text())
    assert {key: saved[key] for key in asked} == {**asked, "selectivity_alpha": -2.0}
    assert [float(row["alpha"]) for row in rows(folder / "selectivity.csv")] == [-2, -2]
    again = train(tmp_path / "two", "-c", folder / "args.yaml", "--output", tmp_path / "two")
    assert losses(again) == losses(folder)


def test_several_hooks_compose(tmp_path, brighten):
    brighten()
    short = ("--batches", 1, "--epochs", 1)
    plain = losses(train(tmp_path / "plain", *short))
    penalty = losses(train(tmp_path / "penalty", *short, "--selectivity-alpha", -1))
    both = train(tmp_path / "both", *short, "--selectivity-alpha", -1, "--brighten", 0.5)
    one = losses(train(tmp_path / "one", *short, "--brighten", 0.5))
    assert one[0] > 10
    assert plain[0] < penalty[0] < one[0] < losses(both)[0] < one[0] + 1
    assert [(row["epoch"], row["factor"]) for row in rows(both / "brighten.csv")] == [("0", "0.5")]
    assert float(rows(both / "selectivity.csv")[0]["alpha"]) == -1
    assert sys.modules["bright_hook"].Hook.closed == 2


def test_a_flag_that_two_hooks_have_names_both(brighten):
    brighten("selectivity_alpha")
    with pytest.raises(PluginError, match=r"hooks brighten \(of bright\) and selectivity \(of selplug\) both have sel"):
        launch.run(SCRIPT, [])


def test_a_flag_that_the_script_has_is_told(brighten):
    brighten("epochs")
    with pytest.raises(
        PluginError, match="the training script already has --epochs, a flag of the training hook brighten"
    ):
        launch.run(SCRIPT, [])


def test_a_hook_whose_loss_is_no_scalar_is_named(tmp_path, brighten):
    brighten(shape="3")
    with pytest.raises(PluginError, match=r"expected a scalar loss from the training hook brighten, got shape \(3,\)"):
        train(tmp_path / "run", "--brighten", 2)


def test_the_command_hands_everything_on(tmp_path, capsys):
    script = tmp_path / "show.py"
    script.write_text(
        "import argparse, helper\nparser = argparse.ArgumentParser()\nparser.add_argument('--model')\n"
        "parser.add_argument('--mean', type=float, nargs='+')\nargs = parser.parse_args()\n"
        "print(args.mean, args.model, __name__, helper.X)\nraise SystemExit(7)\n"
    )
    (tmp_path / "helper.py").write_text("X = 5\n")
    with pytest.raises(SystemExit) as stop:
        main(["timm-train", str(script), "--mean", "0.1", "0.2", "0.3", "--model", "m"])
    assert stop.value.code == 7
    assert capsys.readouterr().out == "[0.1, 0.2, 0.3] m __main__ 5\n"


@pytest.mark.slow
def test_python_m_runs_a_script_and_passes_its_traceback_and_code(tmp_path):
    script = tmp_path / "fails.py"
    script.write_text("open('absent.txt')\n")
    command = [sys.executable, "-m", "selplug_timm", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)  # noqa: S603
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "FileNotFoundError" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [([], 2, "usage: python -m"), (["--help"], 0, "usage: python -m"), (["absent.py"], 2, "error: there is no script")],
)
def test_python_m_without_a_script(capsys, arguments, code, message):
    with pytest.raises(SystemExit) as stop:
        launch.main(arguments)
    assert stop.value.code == code
    assert message in "".join(capsys.readouterr())


@pytest.mark.parametrize(("version", "fits"), [("1.0.26", False), ("0.9.16", False), ("1.0.27", True), ("1.1", True)])
def test_the_oldest_timm(version, fits):
    if fits:
        launch.check_timm(version)
    else:
        with pytest.raises(
            InputError, match=rf'need timm 1\.0\.27 or later, found {version}: pip install --upgrade "t'
        ):
            launch.check_timm(version)


def test_a_folder_is_no_script(tmp_path: Path):
    with pytest.raises(InputError, match=r"there is no script .*train\.py is not part of the timm package"):
        launch.run(tmp_path, [])
