"""Model specs: timm names, weights that cannot be had, and factories in files of the user's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from selplug_timm.models.model import build_model, count_classes, data_config
from selplug_timm.options import parse_options
from selplug_timm.subject import load
from torch import nn

from selplug.core.errors import InputError
from selplug.core.types import Subject


def build(spec: str, **options: Any) -> nn.Module:
    return build_model(spec, parse_options(options))


def test_timm_name_with_arguments() -> None:
    model = build("resnet18", pretrained=False, num_classes=7, in_chans=1, gp="max", model_kwargs={"act_layer": "gelu"})
    assert model.fc.out_features == 7
    assert model.conv1.in_channels == 1
    assert model.global_pool.pool_type == "max"
    assert "gelu" in type(model.act1).__name__.lower()
    assert not model.training


def test_image_size_reaches_models_that_are_built_for_one() -> None:
    model = build("vit_tiny_patch16_224", pretrained=False, img_size=32)
    assert model.patch_embed.img_size == (32, 32)
    assert count_classes(model, (3, 32, 32), probe=True) == 1000


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("resnt20_cifar", {}, "unknown model 'resnt20_cifar'; did you mean resnet20_cifar"),
        ("qqqqqqqq", {}, "unknown model 'qqqqqqqq'; expected a timm name, hf-hub:OWNER/NAME"),
        ("timm/resnet18", {}, "unknown model 'timm/resnet18'"),
        ("resnet18.nope", {}, "unknown weights 'nope' of the model resnet18; it has .*a1_in1k"),
        ("resnet20_cifar", {}, "no pretrained weights for resnet20_cifar: .*--checkpoint FILE, or --no-pretrained"),
        ("resnet20_cifar", {"pretrained": True}, "no pretrained weights for resnet20_cifar"),
        ("local-dir:nowhere", {}, "local-dir:nowhere"),
        (
            "resnet20_cifar",
            {"pretrained": False, "model_kwargs": {"depth": 3}},
            "cannot be built with depth=3: .*depth",
        ),
        ("resnet20_cifar", {"gp": "median"}, "no pretrained weights"),
        ("resnet20_cifar", {"pretrained": False, "gp": "median"}, "cannot be built with global_pool='median'"),
        (
            "resnet20_cifar",
            {"num_classes": 5, "model_kwargs": {"num_classes": 6}},
            "num_classes has its own option",
        ),
        ("resnet20_cifar", {"model_kwargs": {"checkpoint_path": "x"}}, "checkpoint_path has its own option"),
    ],
)
def test_bad_models(spec: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(spec, **options)


def test_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"no pretrained weights for resnet18: .*--no-pretrained"):
        build("resnet18", model_kwargs={"cache_dir": str(tmp_path)})
    assert build("resnet18", pretrained=False).training is False


@pytest.fixture
def local_dir(tmp_path: Path) -> Path:
    """A model folder as the hub has it: config.json and weights."""
    folder = tmp_path / "hub"
    folder.mkdir()
    cfg = timm.create_model("resnet20_cifar").pretrained_cfg
    config = {"architecture": "resnet20_cifar", "num_classes": 10, "pretrained_cfg": {**cfg, "num_classes": 10}}
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(timm.create_model("resnet20_cifar").state_dict(), folder / "pytorch_model.bin")
    return folder


def test_local_folder(local_dir: Path) -> None:
    model = build(f"local-dir:{local_dir}")
    saved = torch.load(local_dir / "pytorch_model.bin", weights_only=True)
    assert torch.equal(model.fc.weight, saved["fc.weight"])


def test_a_pretrained_model_keeps_its_classifier(local_dir: Path) -> None:
    """timm would put a random classifier on pretrained weights without a word."""
    with pytest.raises(InputError, match=r"weights of .* are for 10 classes; with num_classes=5 its classifier would"):
        build(f"local-dir:{local_dir}", num_classes=5)


def test_checkpoint_needs_no_pretrained_weights(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    torch.manual_seed(3)
    saved = timm.create_model("resnet20_cifar", num_classes=3)
    torch.save(saved.state_dict(), tmp_path / "w.pth")
    options = {"data_dir": str(make_folder()), "checkpoint": str(tmp_path / "w.pth"), "num_classes": 3, "workers": 0}
    subject = load("resnet20_cifar", options)
    assert torch.equal(subject.model.fc.weight, saved.fc.weight)
    assert subject.info["weights"] == "checkpoint"
    assert subject.info["checkpoint"]["file"].endswith("w.pth")


def test_data_config_follows_timm() -> None:
    model = build("resnet20_cifar", pretrained=False)
    assert data_config(model, parse_options({})) == {
        "input_size": (3, 32, 32),
        "interpolation": "bicubic",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "crop_pct": 1.0,
        "crop_mode": "center",
    }
    changed = data_config(
        model, parse_options({"img_size": 48, "mean": [0.5], "std": [0.1, 0.2, 0.3], "crop_pct": 0.9})
    )
    assert (changed["input_size"], changed["crop_pct"]) == ((3, 48, 48), 0.9)
    assert (changed["mean"], changed["std"]) == ((0.5, 0.5, 0.5), (0.1, 0.2, 0.3))
    gray = data_config(build("resnet20_cifar", pretrained=False, in_chans=1), parse_options({"in_chans": 1}))
    assert gray["input_size"] == (1, 32, 32)
    assert gray["mean"] == pytest.approx((0.449,), abs=1e-3)
    large = build("resnet50d", pretrained=False)
    assert data_config(large, parse_options({}))["input_size"] == (3, 288, 288), "the test size, as validate.py"
    with pytest.raises(InputError, match="takes 4 channels; images are read with 1"):
        data_config(model, parse_options({"in_chans": 4}))


def test_factory_in_a_file(open_tiny: Callable[..., Subject], make_folder: Callable[..., Path]) -> None:
    subject = open_tiny(make_folder(), model_kwargs={"width": 6}, num_classes=3)
    assert subject.model.conv.out_channels == 6
    assert subject.num_classes == 3
    assert subject.normalize == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert subject.name.endswith("mine.py:tiny")
    assert subject.info["weights"] == "factory"
    assert not subject.model.training


def test_file_may_import_its_neighbours_and_hold_a_module(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_a_model.py").write_text("from torch import nn\nnet = nn.Linear(2, 3)\n")
    (tmp_path / "mine.py").write_text("from neighbour_of_a_model import net\n")
    assert build(f"{tmp_path / 'mine.py'}:net").out_features == 3


def test_config_of_a_module_is_used(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "import torch\n"
        "def net():\n"
        "    model = torch.nn.Flatten()\n"
        "    model.default_cfg = {'input_size': (1, 5, 5), 'mean': (0.5,), 'std': (0.2,), 'crop_pct': 0.9}\n"
        "    return model\n"
    )
    model = build(f"{path}:net")
    config = data_config(model, parse_options({}))
    assert (config["input_size"], config["mean"], config["crop_pct"]) == ((1, 5, 5), (0.5,), 0.9)
    assert count_classes(model, config["input_size"], probe=True) == 25


BAD_FILE = """
import torch
number = 3
_hidden = print
def good(): return torch.nn.Flatten()
def text(): return "model"
def fails(width=1): raise KeyError("no such layer")
def maps(): return torch.nn.Conv2d(3, 2, 1)
class Pair(torch.nn.Module):
    def forward(self, x): return x, x
def stops(): raise SystemExit(3)
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", r"which factory of .*mine.py\? .*callables there: Pair, fails, good, maps, stops, text"),
        (":nope", r"has no 'nope'; callables there: Pair, fails"),
        (":number", "number is a int, expected a callable"),
        (":text", r"expected text\(\) to return an nn.Module, got str"),
        (":fails", r"fails\(\) raised KeyError: 'no such layer'"),
    ],
)
def test_bad_factories(name: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(BAD_FILE)
    with pytest.raises(InputError, match=message):
        build(f"{path}{name}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_package_at_all\n", "mine.py cannot be run: ModuleNotFoundError"),
        ("def broken(:\n", "mine.py cannot be run: SyntaxError"),
        ("raise SystemExit('bye')\n", "mine.py cannot be run: SystemExit: bye"),
    ],
)
def test_files_that_do_not_run(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        build(f"{path}:net")


def test_other_bad_files(tmp_path: Path, tiny: str) -> None:
    with pytest.raises(InputError, match=r"no file .*nowhere.py; expected FILE.py:factory"):
        build(f"{tmp_path / 'nowhere.py'}:net")
    with pytest.raises(InputError, match="has no pretrained weights to download"):
        build(tiny, pretrained=True)
    with pytest.raises(InputError, match=r"tiny\(num_classes=3, depth=4\) raised TypeError"):
        build(tiny, num_classes=3, model_kwargs={"depth": 4})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("maps", r"expected logits \(N, K\) from the model, got shape \(1, 2, 8, 8\) for one image of 3 x 8 x 8"),
        ("Pair", r"expected logits \(N, K\) from the model, got tuple"),
    ],
)
def test_models_without_logits(name: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(BAD_FILE)
    with pytest.raises(InputError, match=message):
        count_classes(build(f"{path}:{name}"), (3, 8, 8), probe=True)
    with pytest.raises(InputError, match="the model fails on an image of 4 x 8 x 8: RuntimeError"):
        count_classes(build(f"{path}:maps"), (4, 8, 8), probe=True)
