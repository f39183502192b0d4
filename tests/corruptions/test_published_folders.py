"""ImageNet-C's folders and naturally shifted ones: which file belongs to which sample, and what does not fit."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from importlib.resources import files

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator
from PIL import Image
from selplug_timm.subject import load

from selplug import specs
from selplug.audits.api import audit, audit_subject
from selplug.audits.baseline import ALEXNET
from selplug.audits.engine.results import Condition
from selplug.audits.facts.corruptions import summarize
from selplug.core.draw import balanced_draw
from selplug.core.errors import InputError
from selplug.core.types import Samples

CLASSES = ("ant", "bee", "cat")
EACH = 4


def write(path, size, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def data(tmp_path):
    """Clean images of 48 pixels, cropped to 32; the corrupted ones of 32, with a comma in the path."""
    for c, name in enumerate(CLASSES):
        for k in range(EACH):
            write(tmp_path / f"clean/{name}/{k}.png", (48, 48), [c, k])
            for s in (2, 3):
                for place in (f"fog/{s}", f"frost/{s}", f"speckle_noise/{s}"):
                    write(tmp_path / f"set,c/{place}/{name}/{k}.png", (32, 32), [c, k, s, *place.encode()])
    (tmp_path / "set,c/LICENSE").write_text("")
    for k in range(3):
        write(tmp_path / f"shifted/bee/{k}.jpg", (40, 60), [9, k])
        write(tmp_path / f"shifted/cat/deeper/{k}.PNG", (70, 40), [8, k])
    return tmp_path


def subject(data, **options):
    given = {"pretrained": False, "num_classes": 3, "img_size": 32, "crop_pct": 0.875, "batch_size": 5, "workers": 0}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return load("resnet20_cifar", {**given, "data_dir": str(data / "clean"), **options})


def pixels(path):
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1).float() / 255


def logits(subject, images):
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in subject.normalize)
    with torch.no_grad():
        return subject.model((images - mean) / std)


def test_what_a_folder_stands_for(data):
    found = specs.perturbations(f"imagenetc:{data}/set,c")
    names = [f"imagenetc/{name}@{s}" for name in ("frost", "fog", "speckle_noise") for s in (2, 3)]
    assert [each.name for each in found] == names
    assert [each.name for each in specs.perturbations(f"imagenetc@3:{data}/set,c")] == names[1::2]
    assert [each.name for each in specs.perturbations(f"imagenetc:{data}/set,c,corruption=fog")] == names[2:4]
    (one,) = specs.perturbations(f"imagenetc@3:corruption=fog,dir={data}/set,c")
    assert specs.perturbations(found[3].spec) == [found[3]]
    assert (one.name, one.options) == (found[3].name, found[3].options)


def test_the_archives_unpacked_each_into_a_folder_of_its_own(data):
    """As in blur/defocus_blur/1/n01440764/ILSVRC2012_val_00000293.JPEG."""
    homes = {"fog": "weather", "frost": "weather", "speckle_noise": "extra"}
    flat = [each.name for each in specs.perturbations(f"imagenetc:{data}/set,c")]
    for name, category in homes.items():
        (data / "set,c" / category).mkdir(exist_ok=True)
        shutil.move(data / "set,c" / name, data / "set,c" / category / name)
    found = specs.perturbations(f"imagenetc:{data}/set,c")
    assert [each.name for each in found] == flat
    for each in found:
        assert each.options["dir"] == str(data / "set,c" / homes[each.options["corruption"]])
        assert specs.perturbations(each.spec) == [each]
    (one,) = specs.perturbations(f"imagenetc@3:{data}/set,c,corruption=fog")
    assert (one.name, one.options) == (found[3].name, found[3].options)
    category = specs.perturbations(f"imagenetc:{data}/set,c/weather")
    assert [each.name for each in category] == flat[:4]
    with pytest.raises(InputError, match="has no snow/2;"):
        specs.perturbations(f"imagenetc@2:{data}/set,c,corruption=snow")
    chosen = subject(data)
    report = audit_subject(chosen, [one], progress=False)
    images = torch.cat([images for images, _ in chosen.loader])
    expected = torch.stack([pixels(data / "set,c/weather/fog/3" / name) for name in chosen.names])
    size = float((expected - images).flatten(1).norm(dim=1).mean())
    assert report.result.conditions[1].l2_mean == pytest.approx(size, rel=1e-5)


def test_each_sample_gets_its_own_file(data):
    chosen = subject(data, num_samples=7, seed=3)
    report = audit_subject(chosen, [f"imagenetc@2:{data}/set,c"], progress=False)
    images, labels = (torch.cat(parts) for parts in zip(*chosen.loader, strict=True))
    expected = torch.stack([pixels(data / "set,c/fog/2" / name) for name in chosen.names])
    assert [CLASSES.index(name.split("/")[0]) for name in chosen.names] == labels.tolist()
    right = (logits(chosen, expected).argmax(1) == labels).float().mean()
    condition = next(c for c in report.result.conditions if c.name == "imagenetc/fog@2")
    assert condition.accuracy == pytest.approx(float(right))
    assert condition.l2_mean == pytest.approx(float((expected - images).flatten(1).norm(dim=1).mean()), rel=1e-5)
    assert condition.spec == f"imagenetc@2:corruption=fog,dir={data}/set,c"
    assert report.corruptions["accuracy"]["fog"] == {"2": condition.accuracy}
    assert report.corruptions["strengths"] == "the ImageNet-C files"
    assert "imagenetc/fog@2" in report.result.layers[0].differences


def test_files_of_another_size_are_prepared_as_the_data(data):
    for path in (data / "set,c/fog/2").rglob("*.png"):
        write(path, (60, 50), [1])
    chosen = subject(data)
    (found,) = specs.perturbations(f"imagenetc@2:{data}/set,c,corruption=fog")
    made = found.factory(None, **found.options)
    made.prepare(chosen)
    images = made(torch.zeros(2, 3, 32, 32), torch.tensor([2, 0]), Samples([9, 1], 0, ["cat/1.png", "ant/1.png"]))
    assert torch.equal(images[0], chosen.read_image(str(data / "set,c/fog/2/cat/1.png")))


def test_mce_against_alexnet():
    options = {"corruption": "fog", "severity": 1, "strengths": "the ImageNet-C files"}
    names = [f"imagenetc/fog@{s}" for s in range(1, 6)]
    clean = Condition("clean", "clean", 0.7, (0.6, 0.8), 100, 0.0, 0.0, kind="clean")
    fog = Condition("", "", 0.5, (0.4, 0.6), 100, 1.0, 0.5, kind="corruption")
    each = (dataclasses.replace(fog, name=name, options={**options, "severity": s}) for s, name in enumerate(names, 1))
    found = summarize([clean, *each], ALEXNET)
    assert found["mce"] == pytest.approx(0.5 / 0.819324)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("imagenetc:{0}/nowhere", "the folder .*nowhere cannot be read: No such file"),
        ("imagenetc:{0}/clean", r"clean has no <corruption>/<severity>; expected <corruption>/<severity>/<class>"),
        ("imagenetc@3-4:{0}/set,c", "has no frost/4, fog/4, speckle_noise/4;"),
        ("imagenetc@2:{0}/set,c,corruption=snow", "has no snow/2;"),
        ("imagenetc@2:{0}/set,c,corrupton=fog", "no option 'corrupton'; did you mean corruption"),
        ("imagenetc:dri={0}", "no option 'dri'; did you mean dir"),
        ("imagenetc:{0},dir={0}", "option dir is given twice"),
        ("imagenetc", "imagenetc needs the option dir"),
        ("shift", "shift needs the option dir"),
        ("shift@3:{0}", "shift takes no @"),
    ],
)
def test_specs_that_do_not_fit(data, spec, message):
    with pytest.raises(InputError, match=message):
        specs.perturbations(spec.format(data))


def test_a_severity_that_one_corruption_lacks(data):
    shutil.rmtree(data / "set,c/fog/3")
    with pytest.raises(InputError, match="has no fog/3;"):
        specs.perturbations(f"imagenetc:{data}/set,c")
    assert len(specs.perturbations(f"imagenetc@2:{data}/set,c")) == 3


@pytest.mark.parametrize("what", ["missing", "broken", "no names", "skip bad"])
def test_samples_without_a_file(data, what):
    chosen = subject(data, skip_bad=what == "skip bad")
    path = data / "set,c/fog/2/bee/1.png"
    message = "the names of the samples are unknown"
    if what == "missing":
        path.unlink()
        message = re.escape("fog/2 has no file for 1 of the 12 samples, such as bee/1.png; expected <class>/<file>")
    elif what == "broken":
        path.write_bytes(b"no")
        message = "the image bee/1.png cannot be read: not an image"
    if what == "no names":
        chosen = dataclasses.replace(chosen, names=None)
    with pytest.raises(InputError, match=message):
        audit_subject(chosen, [f"imagenetc@2:{data}/set,c,corruption=fog"], progress=False)


def test_outside_of_an_audit(data):
    for spec, message in (
        (f"imagenetc@2:{data}/set,c,corruption=fog", "imagenetc: works only in an audit"),
        (f"shift:{data}/shifted", "shift: works only in an audit"),
    ):
        found = specs.perturbation(spec)
        made = found.factory(None, **found.options)
        with pytest.raises(InputError, match=message):
            made(*(torch.zeros(1, 3, 8, 8), torch.zeros(1), Samples([0], 0))[: 3 if spec[0] == "i" else 2])


@pytest.mark.parametrize("classes", ["all", "present"])
def test_a_shift_is_measured_on_its_own_images(data, classes, tmp_path):
    chosen = subject(data)
    specs = [f"shift:{data}/shifted,classes={classes}", "gaussian-noise:std=0.1"]
    report = audit_subject(chosen, specs, progress=False)
    name = "shift/shifted" + ("" if classes == "all" else ":classes=present")
    assert [c.name for c in report.result.conditions] == ["clean", name, "gaussian-noise:std=0.1"]
    paths = sorted((data / "shifted").rglob("*.[jP]*"))
    images = torch.stack([chosen.read_image(str(path)) for path in paths])
    labels = torch.tensor([1, 1, 1, 2, 2, 2])
    scores = logits(chosen, images)
    predicted = scores.argmax(1) if classes == "all" else scores[:, 1:].argmax(1) + 1
    condition = report.result.conditions[1]
    assert condition.accuracy == pytest.approx(float((predicted == labels).float().mean()))
    assert (condition.samples, condition.l2_mean, condition.linf_max) == (6, None, None)
    alone = audit(
        chosen.model, [(images, labels)], normalize=chosen.normalize, progress=False
    )  # what a user would do by hand
    for layer, same in zip(report.result.layers, alone.result.layers, strict=True):
        assert layer.conditions[name]["selectivity"] == pytest.approx(same.conditions["clean"]["selectivity"])
        assert layer.conditions[name]["dimensionality"]["participation_ratio"] == pytest.approx(
            same.conditions["clean"]["dimensionality"]["participation_ratio"], rel=1e-4
        )
        assert name not in layer.differences
        assert list(layer.conditions) == ["clean", name, "gaussian-noise:std=0.1"]
        assert np.allclose(layer.arrays[name, "selectivity"], same.arrays["clean", "selectivity"], atol=1e-5)
    plain = audit_subject(chosen, specs[1:], progress=False)
    assert plain.result.conditions == (report.result.conditions[0], report.result.conditions[2])
    folder = tmp_path / "report"
    report.save(folder)
    saved = json.loads((folder / "report.json").read_text())
    Draft202012Validator(json.loads(files("selplug.audits").joinpath("report.schema.json").read_text())).validate(saved)
    assert saved["conditions"][1]["l2_mean"] is None
    assert name in report.summary()
    assert f"without clean counterparts: {name}." in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("option", "options", "expected"),
    [
        ("", {"num_samples": 4, "seed": 3}, 4),
        ("", {"num_samples": 4, "seed": 5}, 4),
        ("", {"num_samples": 12}, 6),
        ("", {}, 6),
        (",samples=4", {}, 4),
        (",samples=2", {"num_samples": 5}, 2),
        (",samples=all", {"num_samples": 5}, 6),
    ],
)
def test_a_choice_from_a_shifted_folder(data, option, options, expected):
    chosen = subject(data, **options)
    (found,) = specs.perturbations(f"shift:{data}/shifted{option}")
    assert found.name == "shift/shifted" + option.replace(",", ":")
    other = found.factory(None, **found.options).prepare(chosen)
    paths = sorted((data / "shifted").rglob("*.[jP]*"))
    labels = np.array([1, 1, 1, 2, 2, 2])
    places = balanced_draw(labels, expected, options.get("seed", 0))
    assert other.names == [str(paths[place].relative_to(data / "shifted")) for place in places]
    assert other.targets.tolist() == labels[places].tolist()
    assert np.bincount(other.targets).tolist() == [0, expected // 2, expected // 2]
    images, found_labels = (torch.cat(parts) for parts in zip(*other.loader, strict=True))
    assert found_labels.tolist() == other.targets.tolist()
    assert torch.equal(images, torch.stack([chosen.read_image(str(paths[place])) for place in places]))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ("7", "expected at least 7 images in .*shifted, got 6"),
        ("1", "a whole number >= 2 or all, got 1"),
        ("2.5", "a whole number >= 2 or all, got 2.5"),
        ("some", "a whole number >= 2 or all, got 'some'"),
        ("true", "a whole number >= 2 or all, got True"),
    ],
)
def test_choices_that_cannot_be_made(data, samples, message):
    with pytest.raises(InputError, match=message):
        audit_subject(subject(data), [f"shift:{data}/shifted,samples={samples}"], progress=False)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("unknown", "with the names of the model's classes, such as ant, got 1 unknown folder, such as dog"),
        ("empty", r"no \.jpg, \.jpeg, \.png files in the folders of"),
        ("flat", "such as ant, got none"),
        ("one", "shift/shifted: an audit needs at least two images, got 1"),
        ("classes", "selectivity needs images of at least 2 classes, got 1"),
        ("broken", "the image bee/0.jpg cannot be read: not an image"),
        ("word", "expected classes=all or classes=present, got 'some'"),
    ],
)
def test_folders_that_do_not_fit(data, damage, message):
    folder = data / "shifted"
    if damage == "unknown":
        write(folder / "dog/1.png", (32, 32), [1])
    elif damage == "broken":
        (folder / "bee/0.jpg").write_bytes(b"no")
    elif damage in ("empty", "one", "classes", "flat"):
        shutil.rmtree(folder)
        (folder / "" if damage == "flat" else folder / "bee").mkdir(parents=True)
        for k in range({"one": 1, "classes": 2}.get(damage, 0)):
            write(folder / f"bee/{k}.png", (32, 32), [k])
    spec = f"shift:{folder}" + (",classes=some" if damage == "word" else "")
    with pytest.raises(InputError, match=message):
        audit_subject(subject(data), [spec], progress=False)


def test_a_subject_without_classes_or_files(data):
    chosen = subject(data)
    with pytest.raises(InputError, match="a subject with class names that can read image files"):
        audit(chosen.model, list(chosen.loader), [f"shift:{data}/shifted"], progress=False)


def test_two_folders_of_one_name(data):
    shutil.copytree(data / "shifted", data / "other/shifted")
    with pytest.raises(InputError, match="shift/shifted comes twice"):
        audit_subject(subject(data), [f"shift:{data}/shifted", f"shift:{data}/other/shifted"], progress=False)
