"""Weights of every common layout load; what is no checkpoint, or would run code, is refused with its reason."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from selplug_timm.models.checkpoint import load_checkpoint
from torch import Tensor, nn

from selplug.core.errors import InputError


def resnet(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return timm.create_model("resnet20_cifar").eval()


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return resnet(1).state_dict()


def as_public(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"module." + key.replace("fc.", "linear."): value for key, value in weights.items()}


LAYOUTS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "plain.pth": dict,
    "plain.th": dict,
    "lightning.ckpt": lambda weights: {"state_dict": weights, "epoch": 3},
    "model.pt": lambda weights: {"model": weights},
    "net.pt": lambda weights: {"net": weights, "acc": 90.0},
    "timm.pth.tar": lambda weights: {
        "epoch": 1,
        "arch": "resnet20_cifar",
        "state_dict": weights,
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
        "args": argparse.Namespace(lr=0.1, model="resnet20_cifar"),
    },
    "parallel.pth": lambda weights: {"module." + key: value for key, value in weights.items()},
    "compiled.pth": lambda weights: {"_orig_mod.module." + key: value for key, value in weights.items()},
    "public.th": lambda weights: {"state_dict": as_public(weights), "best_prec1": 92.6},
    "before_counters.pth": lambda weights: {k: v for k, v in weights.items() if "num_batches_tracked" not in k},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name: str, weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / name
    torch.save(LAYOUTS[name](weights), path)
    model = resnet()
    facts = load_checkpoint(model, str(path))
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, weights[key], rtol=0, atol=0)
    assert facts["file"].endswith(name)
    assert len(facts["sha256"]) == 64


def test_safetensors(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(weights, path)
    model = resnet()
    load_checkpoint(model, str(path))
    assert torch.equal(model.fc.weight, weights["fc.weight"])


def test_legacy_file_of_old_torch(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "old.th"
    torch.save(as_public(weights), path, _use_new_zipfile_serialization=False)
    model = resnet()
    load_checkpoint(model, str(path))
    assert torch.equal(model.fc.weight, weights["fc.weight"])


def test_ema_is_taken_only_when_asked_for(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "w.pth.tar"
    torch.save({"state_dict": weights, "state_dict_ema": resnet(2).state_dict()}, path)
    model = resnet()
    assert load_checkpoint(model, str(path))["use_ema"] is False
    assert torch.equal(model.fc.weight, weights["fc.weight"])
    assert load_checkpoint(model, str(path), use_ema=True)["use_ema"] is True
    assert torch.equal(model.fc.weight, resnet(2).fc.weight)


def test_no_ema_weights(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"state_dict": weights, "epoch": 1}, path)
    with pytest.raises(InputError, match=r"has no EMA weights .*it has state_dict, epoch; omit --use-ema"):
        load_checkpoint(resnet(), str(path), use_ema=True)


class Evil:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused(zipped: bool, tmp_path: Path) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "ran"
    torch.save({"state_dict": Evil(trace)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"evil.pth is refused: .*(posix|nt)\.system.*never unpickles code"):
        load_checkpoint(resnet(), str(path))
    assert not trace.exists()


def test_a_plain_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path, trace = tmp_path / "evil.pkl", tmp_path / "ran"
    path.write_bytes(pickle.dumps(Evil(trace), protocol=2))
    with pytest.raises(InputError, match=r"evil.pkl"):
        load_checkpoint(resnet(), str(path))
    assert not trace.exists()


def test_a_whole_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "whole.pt"
    torch.save(resnet(), path)
    with pytest.raises(InputError, match=r"refused: .*selplug_timm.models.cifar.CifarResNet.*model.state_dict\(\)"):
        load_checkpoint(resnet(), str(path))


def some_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "text")


NO_CHECKPOINT: dict[str, Callable[[Path], Any]] = {
    "random.pth": lambda path: path.write_bytes(bytes(range(7, 250)) * 20),
    "empty.pth": lambda path: path.write_bytes(b""),
    "text.pth": lambda path: path.write_text("these are no weights\n"),
    "page.safetensors": lambda path: path.write_text("<html>sign in</html>"),
    "some.zip": some_zip,
    "photo.png": lambda path: Image.new("RGB", (4, 4)).save(path),
}


@pytest.mark.parametrize("name", NO_CHECKPOINT)
def test_no_checkpoint(name: str, tmp_path: Path) -> None:
    NO_CHECKPOINT[name](tmp_path / name)
    with pytest.raises(InputError, match=f"{name} is not a readable checkpoint .*expected a .safetensors"):
        load_checkpoint(resnet(), str(tmp_path / name))


def test_truncated(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "half.pth"
    torch.save(weights, path)
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(InputError, match=r"half.pth is not a readable checkpoint"):
        load_checkpoint(resnet(), str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(2)], "contains a list; expected a state dict"),
        (torch.zeros(2), "contains a Tensor; expected a state dict"),
        ({}, "contains an empty state dict"),
        ({"epoch": 3, "loss": 0.1}, "no state dict at its top or under state_dict.*but epoch, loss are not tensors"),
        ({"state_dict": {"epoch": 3}}, "but epoch is not a tensor"),
    ],
)
def test_no_state_dict(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InputError, match=message):
        load_checkpoint(resnet(), str(tmp_path / "w.pth"))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no checkpoint file .*nowhere.pth"):
        load_checkpoint(resnet(), str(tmp_path / "nowhere.pth"))
    with pytest.raises(InputError, match="no checkpoint file"):
        load_checkpoint(resnet(), str(tmp_path))


def test_other_shapes_and_names(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(timm.create_model("resnet20_cifar", num_classes=100).state_dict(), path)
    with pytest.raises(
        InputError,
        match=r"2 tensors of another shape \(fc.weight: the model has \(10, 64\), the file \(100, 64\).*--num-classes",
    ):
        load_checkpoint(resnet(), str(path))
    torch.save(timm.create_model("resnet32_cifar").state_dict(), path)
    with pytest.raises(InputError, match=r"not match the model: 72 not in the model \(layer1.3.conv1"):
        load_checkpoint(resnet(), str(path))
    del weights["fc.bias"], weights["conv1.weight"]
    torch.save({**weights, "extra": torch.zeros(1), "bn1.weight": torch.zeros(3)}, path)
    with pytest.raises(
        InputError, match=r"1 tensor of another.*2 missing \(conv1.weight, fc.bias\); 1 not in the model .*extra"
    ):
        load_checkpoint(resnet(), str(path))
