"""The command line as a user meets it: exit codes, messages, files, and what mistakes lead to."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import selplug
from selplug.cli import main
from selplug.cli.arguments import with_values
from selplug.run.subject_flags import declared

timm = pytest.importorskip("timm")
Image = pytest.importorskip("PIL.Image")

CLASSES = [f"class{index}" for index in range(10)]
NOISE = "gaussian-noise:std=0.1"


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Three PNG files of each of 10 classes, 32 x 32."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (root / "test" / name).mkdir(parents=True)
        for index in range(3):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "test" / name / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    pytest.importorskip("selplug_timm.models.cifar")  # registers the model
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet20.pth"
    torch.save(timm.create_model("resnet20_cifar").state_dict(), path)
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


@pytest.fixture
def audit(images, weights, tmp_path):
    """``audit(...)`` runs ``selplug audit resnet20_cifar`` on the images, with or instead of options given."""

    def call(*extra: object, model: str = "resnet20_cifar", **options: object) -> int:
        defaults = {
            "checkpoint": weights,
            "data-dir": images,
            "split": "test",
            "output": tmp_path / "out",
            "workers": 0,
        }
        merged = {**defaults, "batch-size": 8, **{key.replace("_", "-"): value for key, value in options.items()}}
        flags = [part for key, value in merged.items() if value is not None for part in (f"--{key}", value)]
        return run("audit", model, *flags, *extra)

    return call


def test_an_audit_writes_the_report_and_shows_the_tables(audit, tmp_path, capsys):
    assert audit("--perturb", NOISE, "--perturb", "fgsm:eps=8/255") == 0
    shown = capsys.readouterr()
    assert "fgsm:eps=8/255" in shown.out
    assert "layer1.0.act1" in shown.out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.json", "units.npz", "report.html"}
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [condition["name"] for condition in report["conditions"]] == ["clean", NOISE, "fgsm:eps=8/255"]
    assert report["subject"]["model"] == "resnet20_cifar"
    assert report["settings"]["batch_size"] == 8
    assert report["settings"]["perturbations"][1]["options"] == {"eps": 8 / 255}
    assert report["environment"]["selplug"] == selplug.__version__
    assert len(report["layers"]) == 19


def test_attacks_on_survivors_and_sweeps_from_the_command_line(audit, tmp_path, capsys):
    swept = ("--perturb", "fgsm:eps=1/255..2/255*2", "--perturb", "gaussian-noise:std=0..0.1*2")
    assert audit("--quiet", *swept, "--worst-case", "bim:eps=2/255,steps=2,fgsm", "--measure", "selectivity") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    names = [condition["name"] for condition in report["conditions"]]
    assert names == ["clean", "fgsm:eps=1/255", "fgsm:eps=2/255", "gaussian-noise:std=0", "gaussian-noise:std=0.1"]
    assert [step["name"] for step in report["worst_case"]["steps"]] == ["bim:eps=2/255,steps=2", "fgsm:eps=2/255"]
    assert (report["worst_case"]["norm"], report["worst_case"]["eps"]) == ("Linf", 2 / 255)
    assert report["settings"]["worst_case"][0]["options"]["steps"] == 2
    assert "Accuracy over the budget" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_json_for_programs_stands_alone_on_standard_output(audit, capsys):
    assert audit("--json", "-", "--layers", "act1", "--measure", "selectivity") == 0
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert list(report["layers"][0]["conditions"]["clean"]) == ["selectivity"]
    assert "report.html" in shown.err
    assert audit("--quiet") == 0
    shown = capsys.readouterr()
    assert shown.out == shown.err == ""


def test_the_same_command_twice_gives_the_same_files_but_for_times(audit, tmp_path):
    reports = []
    for _ in range(2):
        assert audit("--quiet", "--perturb", "pgd:eps=4/255,steps=2", "--num-samples", 20) == 0
        report = json.loads((tmp_path / "out" / "report.json").read_text())
        for key in ("started", "seconds"):
            del report["environment"][key]
        reports.append((report, (tmp_path / "out" / "units.npz").read_bytes()))
    assert reports[0] == reports[1]
    assert reports[0][0]["subject"]["data"]["samples_per_class"] == [2] * 10


def test_timm_spellings_with_any_number_of_values():
    arguments = ["m", "--mean", "0.5", ".4", "-1", "--model-kwargs", "a=1", "b=x", "--std", "0.2", "-b", "4"]
    given, rest = declared("timm").taken(arguments)
    assert given == {"mean": [0.5, 0.4, -1.0], "model_kwargs": {"a": 1, "b": "x"}, "std": [0.2]}
    assert rest == ["m", "-b", "4"]
    assert declared("timm").taken(["--mean", "0.5", "resnet18"]) == ({"mean": [0.5]}, ["resnet18"])
    for given in (["--torchcompile"], ["--torchcompile", "-b", "4"], ["--torchcompile", "--amp"]):
        assert with_values(given) == ["--torchcompile", "inductor", *given[1:]]
    assert with_values(["--torchcompile", "eager", "--amp"]) == ["--torchcompile", "eager", "--amp"]
    assert with_values(["--torchcompile=eager"]) == ["--torchcompile=eager"]


def test_normalization_options_reach_the_model(audit, tmp_path):
    options = ("--mean", 0.5, 0.4, 0.3, "--std", 0.2, "--model-kwargs", "drop_rate=0.1", "--input-size", 3, 32, 32)
    assert audit("--quiet", *options) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["subject"]["mean"] == [0.5, 0.4, 0.3]
    assert report["subject"]["std"] == [0.2, 0.2, 0.2]
    assert report["settings"]["command"][:2] == ["selplug", "audit"]
    assert "drop_rate=0.1" in report["settings"]["command"]


@pytest.mark.parametrize(
    ("options", "extra", "message"),
    [
        ({"model": "resnet20_cifra"}, [], "resnet20_cifar"),
        ({}, ["--perturb", "fgms"], "did you mean fgsm"),
        ({}, ["--perturb", "fgsm:epsilon=0.1"], "fgsm has no option 'epsilon'.*There are: eps"),
        ({}, ["--perturb", "fgsm:eps=abc"], "option eps: expected a number such as 0.03 or 8/255, got 'abc'"),
        ({}, ["--perturb", "fgsm:eps=-1/255"], "eps"),
        ({}, ["--perturb", "fgsm:eps=1/0"], "division by zero"),
        ({}, ["--perturb", "fgsm:eps=nan"], "finite"),
        ({}, ["--perturb", "fgsm:eps"], "expected name:key=value"),
        ({}, ["--perturb", NOISE, "--perturb", NOISE], "comes twice"),
        ({}, ["--worst-case", "apgd,fba"], "unknown perturbation 'fba'; did you mean"),
        ({}, ["--worst-case", "gaussian-noise"], "the worst case is taken over attacks, but gaussian-noise is noise"),
        ({}, ["--perturb", "pgd:eps=0..8/255*3", "--worst-case", "fab"], "fab in the worst case has no budget"),
        ({}, ["--perturb", "pgd:eps=0..8/255"], "got '0..8/255'"),
        ({}, ["--perturb", "pgd:target=10"], "option target: expected a class from 0 to 9, got 10"),
        ({}, ["--measure", "selectivty"], "did you mean selectivity"),
        ({}, ["--layers", "nope"], "'nope' matches no module"),
        ({"data_dir": "missing-folder"}, [], "missing-folder"),
        ({"split": "validation"}, [], "validation"),
        ({"num_samples": 1000}, [], "1000.*30|30.*1000"),
        ({"checkpoint": "missing.pth"}, [], "missing.pth"),
        ({"num_classes": 7}, [], "7"),
        ({}, ["--torchcompile", "inductr"], "expected a backend of torch.compile .*inductor.*, got inductr"),
        ({"device": "cuda:99"}, [], "cuda:99.*--device cpu"),
        ({}, ["--model-kwargs=x"], "--model-kwargs: expected key=value, got 'x'"),
        ({}, ["--model-kwargs", "nope=1"], "nope"),
    ],
)
def test_mistakes_end_with_one_clear_message(audit, options, extra, message, tmp_path, capfd):
    assert audit("--quiet", *extra, **options) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    text = " ".join(shown.err.split())
    assert re.search(message, text), text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments", [["audit"], ["audit", "m", "--batch-size", "x"], ["audit", "m", "--nope"], ["nope"]]
)
def test_usage_errors_end_with_two(arguments):
    assert run(*arguments) in (0, 2) if arguments == ["audit"] else run(*arguments) == 2


def test_a_broken_image_is_named_and_can_be_skipped(audit, images, tmp_path, capsys):
    root = tmp_path / "broken"
    shutil.copytree(images, root)
    victim = root / "test" / "class4" / "1.png"
    victim.write_bytes(victim.read_bytes()[:200])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text("an older report")
    assert audit("--quiet", data_dir=root) == 2
    assert "class4" in (error := capsys.readouterr().err)
    assert "--skip-bad" in error
    assert (tmp_path / "out" / "report.json").read_text() == "an older report"
    assert audit("--quiet", "--skip-bad", "--perturb", NOISE, data_dir=root) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["subject"]["data"]["samples"] == 29
    assert [Path(name).name for name in report["subject"]["data"]["skipped"]] == ["1.png"]


class Exploit:
    def __reduce__(self):
        return os.system, ("touch exploited",)


@pytest.mark.parametrize("kind", ["text", "pickle", "shapes", "nan"])
def test_a_checkpoint_that_cannot_serve_is_refused(audit, kind, weights, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.pth"
    state = torch.load(weights, weights_only=True)
    if kind == "text":
        path.write_text("no checkpoint")
    elif kind == "pickle":
        torch.save({"state_dict": Exploit()}, path)
    elif kind == "shapes":
        torch.save({**state, "conv1.weight": torch.zeros(8, 3, 3, 3)}, path)
    else:
        torch.save({**state, "fc.bias": torch.full((10,), torch.nan)}, path)
    assert audit("--quiet", checkpoint=path) == 2
    error = capsys.readouterr().err
    expected = {"text": "bad.pth", "pickle": "system", "shapes": "conv1.weight", "nan": "not finite"}
    assert expected[kind] in error
    assert not (tmp_path / "exploited").exists()
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_told_before_the_run(audit, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("x")
    called = []
    monkeypatch.setattr(torch.nn.Module, "__call__", lambda module, *inputs, **options: called.append(module))
    assert audit("--quiet", output=tmp_path / "file") == 2
    assert called == []
    assert "file" in capsys.readouterr().err


def test_a_full_disk_leaves_the_old_report_whole(audit, tmp_path, capsys, monkeypatch):
    assert audit("--quiet") == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.savez_compressed", full)
    monkeypatch.setattr("os.replace", full)
    assert audit("--quiet", "--seed", 1) == 2
    assert "No space left" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_no_half_report(images, weights, tmp_path):
    arguments = [
        "--verbose",
        "audit",
        "resnet20_cifar",
        "--checkpoint",
        weights,
        "--data-dir",
        images,
        "--split",
        "test",
    ]
    arguments += ["--perturb", "pgd:eps=8/255,steps=100000", "--output", tmp_path / "out", "-j", 0]
    # A shell that runs the tests in its background has its children ignore Ctrl-C.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{heed}\nfrom selplug.cli import main; main()", *map(str, arguments)]
    log = tmp_path / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(command, stderr=stream, cwd=tmp_path)  # noqa: S603
    try:
        limit = time.monotonic() + 600  # against hanging alone
        while "layers" not in log.read_text() and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=600) == 130
    finally:
        process.kill()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [["--help"], ["plugins"], ["--version"], ["audit", "--help"]])
def test_what_needs_no_torch_imports_none(arguments):
    code = f"import sys; from selplug.cli import main\ntry: main({arguments})\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.rstrip().endswith("False")


def test_plugins_lists_everything_and_what_is_missing(capsys, monkeypatch):
    assert run("plugins") == 0
    shown = capsys.readouterr().out
    for name in ("gaussian-noise", "fgsm", "selectivity", "dimensionality", "html", "timm"):
        assert name in shown
    real = importlib.metadata.version

    def without_torchattacks(name: str) -> str:
        if name == "torchattacks":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", without_torchattacks)
    assert run("plugins", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["fgsm"]["missing"] == ["torchattacks"]
    assert rows["gaussian-noise"]["missing"] == []
    assert run("plugins") == 0
    assert 'needs torchattacks: pip install "selplug[torchattacks]"' in capsys.readouterr().out


def test_a_model_and_a_factory_of_ones_own(audit, images, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def build(width=4):\n"
        "    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(width * 900, 10))\n"
    )
    options = ("--img-size", 32, "--model-kwargs", "width=6", "--perturb", "fgsm")
    assert audit("--quiet", *options, model=f"{tmp_path / 'mine.py'}:build", checkpoint=None) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [(layer["name"], layer["units"]) for layer in report["layers"]] == [("1", 6)]


def test_gradients_are_measured_where_asked_for(audit, tmp_path, capsys):
    options = ("--measure", "gradients", "--num-samples", 10)
    assert audit(*options, "--gradient-probes", 2, "--perturb", NOISE) == 0
    assert "CV samples" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["settings"]["gradient_probes"] == 2
    with np.load(tmp_path / "out" / "units.npz") as arrays:
        for layer in report["layers"]:
            for condition in ("clean", NOISE):
                values = layer["conditions"][condition]["gradients"]
                gradient = arrays[f"{layer['name']}|{condition}|gradient"]
                assert values["probes"] == 2
                assert gradient.shape == (layer["units"],)
                assert values["mean"] == pytest.approx(gradient.mean())
                assert values["mean_stderr"] > 0
    assert 'id="plot-gradients"' in (tmp_path / "out" / "report.html").read_text()
    for wrong, message in (
        ((*options, "--gradient-probes", 3), "even number of at least 2 gradient probes, got 3"),
        (("--gradient-probes", 4), "add --measure gradients to the measures selectivity, dimensionality"),
    ):
        assert audit(*wrong) == 2
        shown = capsys.readouterr().err
        assert message in shown
        assert "Traceback" not in shown
    assert audit(*options, "--gradient-probes", 1) == 2
