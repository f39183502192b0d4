"""``selplug similarity`` as a user meets it: files, numbers, the page, and what mistakes lead to."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from selplug import registry
from selplug.cli import main
from selplug.core.errors import InputError
from selplug.core.measures.alignment import BlockStructure
from selplug.core.model.layers import Layer
from selplug.report.heat_map import heat_map
from selplug.run import subject_flags
from selplug.similarities.page import render, summary_tables
from selplug.similarities.report import SimilarityReport
from selplug.similarities.run import SimilarityResult

timm = pytest.importorskip("timm")
Image = pytest.importorskip("PIL.Image")

MODEL = """
from torch import nn

def tiny(num_classes=3, width=5):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, width, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes),
    )
    model.num_classes = num_classes
    return model

def broken(num_classes=3):
    model = tiny(num_classes)
    model.append(nn.Linear(7, num_classes))
    return model

def raising(num_classes=3):
    raise KeyError("no such thing")
"""
ARGS = "model: {model}\ndata_dir: {data}\nval_split: {split}\nnum_classes: 10\nimg_size: 32\n"


@pytest.fixture(scope="module")
def there(tmp_path_factory) -> Path:
    """``data/test/<class>/N.png`` (20 x 20), ``other`` with other classes, ``mine.py`` and two checkpoints."""
    root = tmp_path_factory.mktemp("there")
    rng = np.random.default_rng(0)
    for folder, classes in (("data", ["ant", "bee", "cat"]), ("other", ["dog", "elk", "fox"])):
        for name in classes:
            (root / folder / "test" / name).mkdir(parents=True)
            for index in range(5):
                pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / folder / "test" / name / f"{index}.png")
    (root / "mine.py").write_text(MODEL)
    namespace: dict = {}
    exec(MODEL, namespace)  # noqa: S102
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            torch.save(namespace["tiny"]().state_dict(), root / f"weights{seed}.pth")
    return root


@pytest.fixture
def similarity(there, tmp_path):
    """``similarity(*extra, **options)`` compares the tiny model at two checkpoints."""

    def call(*extra: object, a: object = None, b: object = None, **options: object) -> int:
        defaults: dict[str, object] = {
            "checkpoint-a": there / "weights0.pth",
            "checkpoint-b": there / "weights1.pth",
            "data-dir": there / "data",
            "split": "test",
            "img-size": 20,
            "workers": 0,
            "output": tmp_path / "out",
        }
        merged = defaults | {key.replace("_", "-"): value for key, value in options.items()}
        flags = [part for key, value in merged.items() if value is not None for part in (f"--{key}", value)]
        tiny = f"{there / 'mine.py'}:tiny"
        with pytest.raises(SystemExit) as stop:
            main([str(part) for part in ("similarity", a or tiny, b or tiny, *flags, *extra)])
        return int(stop.value.code or 0)

    return call


def read(folder: Path) -> dict:
    return json.loads((folder / "similarity.json").read_text())


def test_two_checkpoints_of_one_network(similarity, tmp_path, capsys):
    assert similarity("--measure", "cka", "--measure", "procrustes") == 0
    shown = capsys.readouterr().out
    assert "CKA (debiased)" in shown
    assert "Procrustes distance" in shown
    found = read(tmp_path / "out")
    assert found["schema_version"] == "1.0"
    assert found["samples"] == 15
    assert [layer["units"] for layer in found["layers"]["a"]] == [4, 5]
    maps = {(one["measure"], one["rows"], one["columns"]): one for one in found["maps"]}
    assert maps.keys() == {("cka", "a", "b"), ("cka", "a", "a"), ("cka", "b", "b"), ("procrustes", "a", "b")}
    assert maps["cka", "a", "b"]["estimator"] == "debiased"
    assert maps["procrustes", "a", "b"]["estimator"] is None
    assert maps["cka", "a", "a"]["values"][0][0] == pytest.approx(1)
    assert abs(maps["cka", "a", "b"]["values"][0][0] - 1) > 1e-3
    with np.load(tmp_path / "out" / "similarity.npz") as arrays:
        np.testing.assert_array_equal(arrays["cka|a|b"], maps["cka", "a", "b"]["values"])
    assert found["subjects"]["a"]["checkpoint"] != found["subjects"]["b"]["checkpoint"]
    assert found["settings"]["command"][:2] == ["selplug", "similarity"]


def test_the_same_checkpoint_twice_gives_one(similarity, there, tmp_path):
    for flatten in ([], ["--flatten"]):
        assert similarity("--quiet", *flatten, checkpoint_b=there / "weights0.pth") == 0
        found = read(tmp_path / "out")
        between = next(one["values"] for one in found["maps"] if one["rows"] != one["columns"])
        np.testing.assert_allclose(np.diag(between), 1, rtol=1e-6)
        assert ("every position" in found["settings"]["responses"]) == bool(flatten)


def test_different_architectures_and_sizes_see_the_same_images(similarity, there, tmp_path):
    model_b = tmp_path / "wide.py"
    model_b.write_text(MODEL.replace("width=5", "width=8"))
    assert similarity("--quiet", "--estimator", "biased", b=f"{model_b}:tiny", checkpoint_b=None) == 0
    found = read(tmp_path / "out")
    assert [layer["units"] for layer in found["layers"]["b"]] == [4, 8]
    assert found["maps"][0]["estimator"] == "biased"


def test_training_runs_need_no_flags(there, tmp_path):
    """Two runs with their own args.yaml and checkpoints, as timm leaves them."""
    pytest.importorskip("selplug_timm.models.cifar")  # registers the models
    for name in ("classes", "first", "second"):
        (tmp_path / name).mkdir()
    rng = np.random.default_rng(0)
    for label in range(10):
        folder = tmp_path / "classes" / "test" / f"class{label}"
        folder.mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / "0.png")
    for seed, name in enumerate(("first", "second")):
        torch.manual_seed(seed)
        torch.save({"state_dict": timm.create_model("resnet20_cifar").state_dict()}, tmp_path / name / "last.pth.tar")
        text = ARGS.format(model="resnet20_cifar", data=tmp_path / "classes", split="test")
        (tmp_path / name / "args.yaml").write_text(text)
    out = tmp_path / "out"
    runs = [str(tmp_path / name / "last.pth.tar") for name in ("first", "second")]
    with pytest.raises(SystemExit) as stop:
        main(["similarity", *runs, "--quiet", "--workers", "0", "--layers", "layer1*", "--output", str(out)])
    assert not stop.value.code
    assert read(out)["samples"] == 10


@pytest.mark.parametrize(
    ("extra", "options", "message"),
    [
        (
            [],
            {"b": "{there}/mine.py:broken", "checkpoint_b": None},
            r"mine.py:broken \(b\): the model fails on .*shapes",
        ),
        ([], {"a": "{there}/mine.py:raising"}, r"mine.py:raising \(a\): .*no such thing"),
        ([], {"checkpoint_b": "nowhere.pth"}, "nowhere.pth"),
        ([], {"data_dir": "nowhere"}, "nowhere"),
        (["--num-classes", "7"], {"checkpoint_a": None, "checkpoint_b": None}, "has 3 classes .* the model 7"),
        (["--num-samples", "3"], {}, "at least 4 samples, got 3"),
        (["--layers", "zzz"], {}, "matches no module"),
        (["--layers-b", "zzz"], {}, "matches no module"),
        (["--measure", "best"], {}, "cka"),
        (["--checkpoint", "x"], {}, "No such option"),
        (["--device", "warp9"], {}, "warp9"),
    ],
)
def test_mistakes_end_with_one_message_and_leave_an_old_page(
    similarity, there, tmp_path, capsys, extra, options, message
):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "similarity.html").write_text("old")
    options = {k: v.format(there=there) if isinstance(v, str) else v for k, v in options.items()}
    assert similarity("--quiet", *extra, **options) == 2
    error = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().err).split())
    assert re.search(message, error), error
    assert "Traceback" not in error
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["similarity.html"]
    assert (tmp_path / "out" / "similarity.html").read_text() == "old"


def test_subjects_that_tell_of_different_data_are_an_error(similarity, there, tmp_path, capsys, monkeypatch):
    """As two training runs on different data would give them."""
    load, turn = registry.load("selplug.subjects", "timm"), iter(["data", "other", "data", "data"])

    def of_different_data(model, options):
        return load(model, options | {"data_dir": str(there / next(turn))})

    loaders = {"selplug.subjects": of_different_data}
    of_different_data.add_arguments = load.add_arguments
    original = registry.load
    monkeypatch.setattr(subject_flags, "load", lambda group, name: loaders.get(group) or original(group, name))
    assert similarity("--quiet") == 2
    assert "both models have to see the same images, but source is" in capsys.readouterr().err
    assert similarity("--quiet") == 0


def made_report(name: str = "layer") -> SimilarityReport:
    layers = {
        key: tuple(Layer(f"{name}{i}", "m", 1, "ReLU", 3, (1,), 1, False) for i in range(count))
        for key, count in (("a", 5), ("b", 3))
    }
    rng = np.random.default_rng(0)
    between = rng.random((5, 3))
    between[2] = np.nan
    maps = {("cka", "a", "b"): between, ("cka", "a", "a"): np.eye(5), ("cka", "b", "b"): np.full((3, 3), np.nan)}
    blocks = {"a": BlockStructure(0.5, ((1, 3),)), "b": BlockStructure(float("nan"), ())}
    result = SimilarityResult(layers, maps, blocks, 40)
    subjects = {"a": {"model": f"net {name}"}, "b": {"model": "net"}}
    settings = {"estimator": "debiased", "responses": "mean over positions"}
    return SimilarityReport(subjects, settings, {"torch": "2"}, result)


def test_the_page_holds_the_maps_and_loads_nothing():
    page = render(made_report())
    data = json.loads(re.search(r'id="report-data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["plots"].keys() == {"cka-a-b", "cka-a-a", "cka-b-b"}
    trace = data["plots"]["cka-a-b"]["base"]["data"][0]
    assert trace["z"][2] == [None, None, None]
    assert trace["y"][4] == "5 · layer4"
    assert "debiased" in trace["meta"][0]
    assert "layer2" in data["plots"]["cka-a-b"]["base"]["layout"]["meta"]["note"]
    shapes = data["plots"]["cka-a-a"]["base"]["layout"]["shapes"]
    assert [(s["x0"], s["y1"]) for s in shapes] == [(0.5, 3.5)]
    html = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!#|https://arxiv\.org/abs/|data:)[^"]*"', html)


def test_frames_and_figures_for_a_notebook():
    pytest.importorskip("pandas")
    report = made_report()
    for measure, rows, columns in report.result.maps:
        frame = report.frame(measure, rows, columns)
        figure = report.plot.map(measure, rows, columns)
        np.testing.assert_array_equal(frame.to_numpy(), report.result.maps[measure, rows, columns])
        np.testing.assert_array_equal(np.array(figure.data[0].z, dtype=float), frame.to_numpy())
        assert list(frame.index) == [layer.name for layer in report.result.layers[rows]]
        assert list(frame.columns) == [layer.name for layer in report.result.layers[columns]]
    assert report.plot.map().layout.title.text == "Linear CKA, debiased, between a and b"
    assert len(report.plot.map("cka", "a", "a").layout.shapes) == 1
    for ask in (report.frame, report.plot.map):
        with pytest.raises(InputError, match=r"of this comparison \(cka a b, cka a a, cka b b\), got procrustes a b"):
            ask("procrustes")


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "\x1b[31m", "%{x}", "é" * 80])
def test_hostile_names_stay_text(name):
    page = render(made_report(name))
    assert "<script>alert" not in page
    assert "\x1b" not in page
    json.dumps(made_report(name).to_dict(), allow_nan=False)


def test_best_matches_skip_what_is_not_defined():
    tables = summary_tables(made_report())
    assert tables[0].rows[2] == ("layer2", "–", "–")
    best = int(np.argmax(made_report().result.maps["cka", "a", "b"][0]))
    assert tables[0].rows[0][1] == f"layer{best}"
    assert tables[-1].rows == (("a", "0.500"), ("b", "–"))


def test_many_layers_have_few_ticks():
    names = [f"stage.{i}" for i in range(150)]
    figure = heat_map(np.eye(150).tolist(), names, names, "CKA")
    assert len(figure["layout"]["xaxis"]["tickvals"]) <= 40
    assert len(figure["data"][0]["x"]) == len(set(figure["data"][0]["x"])) == 150
