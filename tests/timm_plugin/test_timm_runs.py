"""A training run says its model, its data and its weights once; an audit reads them there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from selplug_timm.models.run_folder import with_run
from selplug_timm.subject import load

from selplug.core.errors import InputError

#: As timm's script writes them: every flag, most of them null or empty.
ARGUMENTS = {
    "model": "resnet20_cifar", "num_classes": 3, "data": None, "data_dir": None, "dataset": "", "val_split": "held-out",
    "input_size": None, "img_size": 24, "in_chans": 1, "mean": [0.4], "std": [0.2], "crop_pct": 1.0, "class_map": "",
    "interpolation": "", "gp": None, "bn_eps": None, "model_kwargs": {}, "opt": "sgd", "selectivity_alpha": -1.0,
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, make_folder: Callable[..., Path]) -> Path:
    data = make_folder(split="held-out", mode="L")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "args.yaml").write_text(yaml.safe_dump({**ARGUMENTS, "data_dir": str(data)}))
    torch.manual_seed(1)
    model = timm.create_model("resnet20_cifar", num_classes=3, in_chans=1)
    for name in ("model_best.pth.tar", "last.pth.tar", "checkpoint-2.pth.tar", "checkpoint-10.pth.tar"):
        torch.save({"state_dict": model.state_dict(), "arch": "resnet20_cifar"}, folder / name)
    return folder


def with_arguments(run: Path, **changed: Any) -> Path:
    path = run / "args.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changed}))
    return run


def test_folder_alone_is_enough(run: Path) -> None:
    subject = load(str(run), {"workers": 0})
    assert subject.name == "resnet20_cifar"
    assert subject.num_classes == 3
    assert subject.normalize == ((0.4,), (0.2,))
    assert next(iter(subject.loader))[0].shape == (12, 1, 24, 24)
    assert subject.info["weights"] == "checkpoint"
    assert subject.info["checkpoint"]["file"].endswith("model_best.pth.tar")
    assert subject.info["data"]["split"] == "held-out"
    assert subject.info["training_run"]["file"] == "run/args.yaml"
    assert {"mean", "num_classes", "split"} <= set(subject.info["training_run"]["options"])
    weights = torch.load(run / "last.pth.tar", weights_only=True)["state_dict"]
    assert torch.equal(subject.model.state_dict()["conv1.weight"], weights["conv1.weight"])


def test_checkpoint_instead_of_folder(run: Path) -> None:
    model, options, facts = with_run(str(run / "last.pth.tar"), {})
    assert (model, options["checkpoint"]) == ("resnet20_cifar", str(run / "last.pth.tar"))
    assert facts is not None


def test_beside_the_checkpoint_of_a_named_model(run: Path) -> None:
    model, options, facts = with_run("resnet20_cifar", {"checkpoint": str(run / "last.pth.tar")})
    assert (model, options["num_classes"], options["split"]) == ("resnet20_cifar", 3, "held-out")
    assert facts is not None


def test_given_options_win(run: Path) -> None:
    with_arguments(run, input_size=[1, 24, 24], bn_eps=1e-4, model_kwargs={"a": 1, "b": 2})
    given = {"img_size": 16, "split": "", "mean": None, "data_dir": "elsewhere", "model_kwargs": {"b": 3}}
    _, options, facts = with_run(str(run), given)
    assert options["img_size"] == 16
    assert "input_size" not in options
    assert options["data_dir"] == "elsewhere"
    assert options["split"] == "held-out"
    assert options["mean"] == [0.4]
    assert options["model_kwargs"] == {"a": 1, "b": 3, "bn_eps": 1e-4}
    assert facts is not None
    assert "data_dir" not in facts["options"]


def test_which_checkpoint(run: Path) -> None:
    chosen = []
    for name in ("model_best.pth.tar", "last.pth.tar", "checkpoint-10.pth.tar", "checkpoint-2.pth.tar"):
        chosen.append(Path(with_run(str(run), {})[1]["checkpoint"]).name)
        (run / name).unlink()
    assert chosen == ["model_best.pth.tar", "last.pth.tar", "checkpoint-10.pth.tar", "checkpoint-2.pth.tar"]
    with pytest.raises(InputError, match="has no checkpoint yet"):
        with_run(str(run), {})


def test_what_is_no_run(run: Path, tmp_path: Path, tiny: str) -> None:
    assert with_run("resnet18", {}) == ("resnet18", {}, None)
    given = {"checkpoint": str(run / "last.pth.tar")}
    assert with_run(tiny, given)[2] is None
    assert with_run("resnet32_cifar", given) == ("resnet32_cifar", given, None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"neither a model nor a training run of timm: there is no args.yaml in"):
        with_run(str(tmp_path / "empty"), {})


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "cannot be read as YAML"), ("- 1", "expected its flags"), ("data: coco.yaml", "expected its flags")],
)
def test_arguments_of_something_else(run: Path, text: str, message: str) -> None:
    (run / "args.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        with_run(str(run), {})


def test_file_of_that_name_by_another_tool(run: Path) -> None:
    (run / "args.yaml").write_text("task: detect\nmodel: other.pt\n")
    assert with_run("resnet20_cifar", {"checkpoint": str(run / "last.pth.tar")})[2] is None


def test_a_model_name_wins_over_a_folder(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run.rename(run.with_name("resnet18"))
    monkeypatch.chdir(run.parent)
    assert with_run("resnet18", {})[0] == "resnet18"


def test_report_tells_how_the_network_was_trained(run: Path) -> None:
    with_arguments(run, seed=3, log_wandb=False, tags=[], output=str(run.parent / "many" / "runs"))
    weights = torch.load(run / "last.pth.tar", weights_only=True)
    torch.save({**weights, "epoch": 4}, run / "last.pth.tar")
    info = load(str(run / "last.pth.tar"), {"workers": 0}).info
    arguments = info["training_run"]["arguments"]
    assert arguments["selectivity_alpha"] == -1.0
    assert arguments["seed"] == 3
    assert not {"log_wandb", "tags", "dataset", "bn_eps"} & arguments.keys(), "flags that are not set say nothing"
    assert arguments["output"] == "many/runs"
    assert info["checkpoint"]["epoch"] == 4
    assert load(str(run), {"workers": 0}).info["checkpoint"]["epoch"] is None
