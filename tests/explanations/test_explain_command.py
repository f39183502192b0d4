"""``selplug explain`` as a user meets it: files, numbers, and what mistakes lead to."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import typer

from selplug import registry
from selplug.cli import main
from selplug.cli.arguments import ON_SUBJECTS
from selplug.cli.commands import app
from selplug.core.errors import InputError
from selplug.run.subject_flags import declared

timm = pytest.importorskip("timm")
captum = pytest.importorskip("captum.attr")
pytest.importorskip("torchattacks")
Image = pytest.importorskip("PIL.Image")

CLASSES = ["<cat>", "ant", "bee"]  # in the order that timm gives them

MODEL = """
from torch import nn

def tiny(num_classes=3):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, num_classes),
    )
    model.num_classes = num_classes
    return model
"""

#: A distribution of somebody else, with methods in Captum's manner.
PLUGIN = """
from selplug.core.errors import InputError

class Layer:
    def __init__(self, forward_func, layer):
        self.forward_func, self.layer = forward_func, layer

    def attribute(self, inputs, target=None, power: float = 1.0):
        kept = []
        handle = self.layer.register_forward_hook(lambda m, i, o: kept.append(o))
        try:
            self.forward_func(inputs)
        finally:
            handle.remove()
        return kept[-1].abs() ** power

class Fitted:
    def __init__(self, forward_func, layer):
        self.forward_func, self.layer = forward_func, layer

    def fit(self, loader):
        self.means = [0.0] * 3
        for images, labels in loader:
            for image, label in zip(images, labels):
                self.means[int(label)] = self.means[int(label)] + image

    def attribute(self, inputs, target):
        return inputs * self.means[target]

class Wants:
    def __init__(self, forward_func):
        pass

    def attribute(self, inputs, target, window: int):
        return inputs * window

def no_class(forward_func):
    return None
"""
POINTS = """[selplug.attributions]
mine = their_methods:Layer
fitted = their_methods:Fitted
wants = their_methods:Wants
no-class = their_methods:no_class
"""


@pytest.fixture(scope="module")
def there(tmp_path_factory) -> Path:
    """``data/test/<class>/N.png`` (20 x 20), ``mine.py``, ``weights.pth`` and a distribution in ``site``."""
    root = tmp_path_factory.mktemp("there")
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (root / "data" / "test" / name).mkdir(parents=True)
        for index in range(3):
            pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "data" / "test" / name / f"{index}.png")
    (root / "mine.py").write_text(MODEL)
    namespace: dict = {}
    exec(MODEL, namespace)  # noqa: S102
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(namespace["tiny"]().state_dict(), root / "weights.pth")
        torch.save(timm.create_model("resnet10t").state_dict(), root / "other.pth")
    info = root / "site" / "theirs-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    (root / "site" / "their_methods.py").write_text(PLUGIN)
    return root


@pytest.fixture
def explain(there, tmp_path, monkeypatch):
    """``explain(*images, **options)`` runs the command on the tiny model; ``data=True`` adds the data."""
    monkeypatch.setattr(sys, "path", [str(there / "site"), *sys.path])

    def call(*extra: object, data: bool = True, model: object = None, **options: object) -> int:
        defaults: dict[str, object] = {"checkpoint": there / "weights.pth", "img_size": 20, "output": tmp_path / "out"}
        if data:
            defaults |= {"data_dir": there / "data", "split": "test", "workers": 0}
        merged = {"method": "saliency", **defaults, **options}
        flags = [part for k, v in merged.items() if v is not None for part in (f"--{k.replace('_', '-')}", str(v))]
        given = [str(argument) for argument in extra]
        if not any(isinstance(argument, Path) for argument in extra):
            given.append(str(there / "data" / "test" / "ant" / "0.png"))
        with pytest.raises(SystemExit) as stop:
            main(["explain", str(model or f"{there / 'mine.py'}:tiny"), *given, *flags])
        return int(stop.value.code or 0)

    return call


def by_hand(there: Path) -> torch.nn.Module:
    namespace: dict = {}
    exec(MODEL, namespace)  # noqa: S102
    model = namespace["tiny"]()
    model.load_state_dict(torch.load(there / "weights.pth", weights_only=True))
    return model.eval()


class Normalized(torch.nn.Module):
    """timm's normalization where a model has none of its own."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = torch.tensor(timm.data.IMAGENET_DEFAULT_MEAN).view(3, 1, 1)
        return self.model((images - mean) / torch.tensor(timm.data.IMAGENET_DEFAULT_STD).view(3, 1, 1))


def test_the_files_hold_what_the_methods_give_by_hand(explain, there, tmp_path, capsys):
    extra = ("--method", "layer-gradcam", "--layer", "1", "--layer", "4")
    assert explain(there / "data/test/ant/0.png", there / "data/test/bee", *extra, target="bee", crop_pct=1.0) == 0
    shown = capsys.readouterr()
    assert "images: 4 of 4; target: bee; adversarial images by pgd:eps=2/255,alpha=0.5/255,steps=10" in shown.err
    assert "ant/0.png" in shown.out
    assert "layer-gradcam" in shown.out
    record = json.loads((tmp_path / "out" / "explain.json").read_text())
    arrays = np.load(tmp_path / "out" / "explain.npz")
    assert [image["file"] for image in record["images"]] == ["ant/0.png", "bee/0.png", "bee/1.png", "bee/2.png"]
    model = Normalized(by_hand(there))
    layers = {"1": model.model[1], "4": model.model[4]}
    for number, image in enumerate(record["images"], 1):
        assert (image["target"], image["label"]) == (2, CLASSES.index(image["file"].partition("/")[0]))
        pixels = np.asarray(Image.open(there / "data" / "test" / image["file"]))
        np.testing.assert_array_equal(np.rint(255 * arrays[f"{number}|clean"]), pixels.transpose(2, 0, 1))
        assert np.abs(arrays[f"{number}|adversarial"] - arrays[f"{number}|clean"]).max() <= 2 / 255 + 1e-6
        for condition in ("clean", "adversarial"):
            inputs = torch.from_numpy(arrays[f"{number}|{condition}"])[None].requires_grad_()
            expected = {"saliency|input": captum.Saliency(model).attribute(inputs, 2).sum(1)[0]}
            for name, layer in layers.items():
                expected[f"layer-gradcam|{name}"] = captum.LayerGradCam(model, layer).attribute(inputs, 2)[0, 0]
            for key, values in expected.items():
                found = arrays[f"{number}|{key}|{condition}"]
                np.testing.assert_allclose(found, values.detach().numpy(), rtol=1e-4, atol=1e-7)
            best = model(inputs).softmax(1)[0].detach().numpy()
            top = image["predictions"][condition][0]
            assert (top["class"], top["name"]) == (best.argmax(), CLASSES[best.argmax()])
            assert top["probability"] == pytest.approx(best.max(), rel=1e-5)
    page = (tmp_path / "out" / "explain.html").read_text(encoding="utf-8")
    assert "&lt;cat&gt;" in page
    assert "<cat>" not in page
    assert str(there) not in page.partition("run\n<code>")[0]


def test_methods_of_others_are_fitted_on_the_data_and_take_options(explain, there, tmp_path):
    options = {"method": "fitted", "layer": "4", "target": 2, "num_samples": 6, "crop_pct": 1.0}
    assert explain("--quiet", there / "data/test/ant/0.png", "--method", "mine:power=2", **options) == 0
    record = json.loads((tmp_path / "out" / "explain.json").read_text())
    assert record["settings"]["fitted"] == ["fitted"]
    assert record["subject"]["data"]["samples_per_class"] == [2, 2, 2]
    arrays = np.load(tmp_path / "out" / "explain.npz")
    data = {"data_dir": str(there / "data"), "split": "test", "num_samples": 6, "workers": 0}
    load = registry.load("selplug.subjects", "timm")
    subject = load(f"{there / 'mine.py'}:tiny", {**data, "img_size": 20, "crop_pct": 1.0})
    total = sum(image for images, labels in subject.loader for image in images[labels == 2])
    clean = arrays["1|clean"]
    np.testing.assert_allclose(arrays["1|fitted|4|clean"], (clean * total.numpy()).sum(0), rtol=1e-5)
    responses = Normalized(by_hand(there)).eval()
    features = torch.nn.Sequential(*responses.model[:5])
    responses.model = features
    expected = responses(torch.from_numpy(clean)[None]).square().sum(1)[0].detach().numpy()
    np.testing.assert_allclose(arrays["1|mine:power=2|4|clean"], expected, rtol=1e-4)


def test_without_data_a_number_names_the_class(explain, tmp_path, there, monkeypatch):
    assert explain("--quiet", there / "data/test/bee/1.png", data=False, target=2, mean=0.5, std=0.25) == 0
    record = json.loads((tmp_path / "out" / "explain.json").read_text())
    assert (record["images"][0]["target"], record["images"][0]["label"]) == (2, None)
    assert record["subject"]["class_names"] is None
    assert record["subject"]["mean"] == [0.5] * 3
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    image = there / "data/test/bee/1.png"
    assert explain("--quiet", image, data=False, target="true", class_map=tmp_path / "classes.txt") == 0
    record = json.loads((tmp_path / "out" / "explain.json").read_text())
    assert (record["images"][0]["target"], record["images"][0]["label"]) == (2, 2)


def test_of_many_images_some_evenly_spaced(explain, there, tmp_path):
    assert explain("--quiet", there / "data", max_images=3) == 0
    record = json.loads((tmp_path / "out" / "explain.json").read_text())
    assert [image["file"] for image in record["images"]] == ["<cat>/0.png", "ant/0.png", "bee/0.png"]
    assert record["settings"]["images_found"] == 9


def test_the_same_command_twice_gives_the_same_numbers(explain, tmp_path):
    content = []
    for _ in range(2):
        assert explain("--quiet", perturb="gaussian-noise:std=0.1") == 0
        content.append((tmp_path / "out" / "explain.npz").read_bytes())
    assert content[0] == content[1]
    assert explain("--quiet", perturb="gaussian-noise:std=0.1", seed=1) == 0
    assert (tmp_path / "out" / "explain.npz").read_bytes() != content[0]


def test_json_for_programs_stands_alone_on_standard_output(explain, tmp_path, capsys):
    assert explain(json="-", perturb="gaussian-noise:std=0.1") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == json.loads((tmp_path / "out" / "explain.json").read_text())
    assert "explain.html" in shown.err
    assert explain("--quiet", json=tmp_path / "copy.json") == 0
    assert (tmp_path / "copy.json").read_bytes() == (tmp_path / "out" / "explain.json").read_bytes()
    assert capsys.readouterr() == ("", "")


def test_beside_an_audit_it_becomes_a_page_of_the_report(explain, there, tmp_path, capsys):
    audit = ["audit", f"{there / 'mine.py'}:tiny", "--checkpoint", there / "weights.pth", "--img-size", 20, "--quiet"]
    audit += ["--data-dir", there / "data", "--split", "test", "-j", 0, "--output", tmp_path / "out"]
    with pytest.raises(SystemExit):
        main([str(part) for part in audit])
    assert explain("--quiet") == 0
    assert 'href="explain.html"' in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert explain("--quiet", checkpoint=None) == 2
    assert "report of another checkpoint" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "salience"}, "unknown attribution 'salience'; did you mean saliency"),
        ({"method": "saliency:abbs=false"}, "saliency has no option 'abbs'; did you mean abs"),
        ({"method": "saliency:abs=7"}, "option abs: expected true or false, got 7"),
        ({"method": "wants"}, "wants needs the option window, as in wants:window=..."),
        ({"method": "no-class"}, "attribution no-class of .*: expected a class with a method attribute"),
        ({"method": "fitted", "data": False}, "fitted has to see labelled images.*--data-dir"),
        ({"method": None}, "give one or more --method NAME; there are: .*saliency"),
        ({"method": "mine", "layer": "nope*"}, r"'nope\*' matches no module; there are 0, 1, 2"),
        ({"method": "mine", "layer": "6"}, r"mine returned \(1, 5\) for 6 \(1, 5\), which is not a map over the image"),
        ({"method": "mine", "layer": "4", "extra": ["--method", "mine"]}, "the method mine comes twice"),
        ({"target": "3"}, "class from 0 to 2, got 3"),
        ({"target": "aunt"}, "--target 'aunt': expected a class name.*did you mean ant"),
        ({"target": "true", "data": False}, "true class of ant/0.png is unknown"),
        ({"perturb": "pdg"}, "did you mean pgd"),
        ({"perturb": "pgd:eps=-1"}, "eps"),
        ({"extra": ["missing.png"]}, "no image file or folder missing.png"),
        ({"checkpoint": "missing.pth"}, "no checkpoint file missing.pth"),
        ({"data_dir": "missing-folder"}, "missing-folder"),
        ({"num_samples": 1000}, "1000.*9|9.*1000"),
        ({"device": "cuda:99"}, "cuda:99.*--device cpu"),
        ({"model": "resnet10"}, "unknown model 'resnet10'"),
        ({"subject": "tim"}, "did you mean timm"),
    ],
)
def test_mistakes_end_with_one_clear_message(explain, there, tmp_path, capfd, options, message):
    extra = options.pop("extra", [])
    assert explain("--quiet", *extra, **options) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    text = " ".join(shown.err.split())
    assert re.search(message, text), text
    assert not (tmp_path / "out").exists()


def test_a_broken_image_and_a_folder_without_any(explain, there, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    assert explain("--quiet", tmp_path / "in") == 2
    assert "no images in the folder" in capsys.readouterr().err
    whole = (there / "data/test/ant/0.png").read_bytes()
    for name, content in (("cut.png", whole[:300]), ("text.jpg", b"no image")):
        (tmp_path / "in" / name).write_bytes(content)
        assert explain("--quiet", tmp_path / "in" / name) == 2
        assert f"in/{name} cannot be read" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_another_model_and_a_folder_that_cannot_be_written(explain, there, tmp_path, capsys):
    assert explain("--quiet", checkpoint=there / "other.pth") == 2
    assert "does not match the model" in capsys.readouterr().err
    (tmp_path / "file").write_text("x")
    assert explain("--quiet", output=tmp_path / "file") == 2
    assert "cannot write the report into" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "x"


def test_a_class_name_that_several_have_needs_a_number():
    from selplug.explanations.api import _target

    assert [_target(text, ["a", "7", "a"]) for text in ("7", "2", "true")] == [1, 2, "true"]
    with pytest.raises(InputError, match="several classes; give a number: 0, 2"):
        _target("a", ["a", "7", "a"])


def test_every_shared_flag_is_that_of_audit():
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    audit, explain = ({p.name: p for p in commands[name].params} for name in ("audit", "explain"))
    for name in ("subject", "device", "batch_size", "channels_last", "seed"):
        for what in ("opts", "secondary_opts", "default", "help", "nargs", "multiple"):
            assert getattr(audit[name], what, None) == getattr(explain[name], what, None), (name, what)
    of_audit, of_explain = (declared("timm", ON_SUBJECTS[name]).defaults() for name in ("audit", "explain"))
    assert of_audit == of_explain


def test_help_imports_neither_torch_nor_captum():
    code = "import sys; from selplug.cli import main\ntry: main(['explain', '--help'])\nfinally: "
    code += "print({'torch', 'captum'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.rstrip().endswith("set()")
