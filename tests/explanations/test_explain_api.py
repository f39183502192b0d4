"""``selplug.explain``: images as tensors and files, and numbers that are those of the methods by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import selplug
from selplug.core.errors import InputError, PluginError
from selplug.core.noise import gaussian_noise
from selplug.core.types import Attribution, Perturbation, Subject
from selplug.explanations.run import ADVERSARIAL, CLEAN

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
NOISE = "gaussian-noise:std=0.1"


class Gradient:
    """A method in Captum's manner."""

    def __init__(self, forward_func):
        self.forward_func = forward_func

    def attribute(self, inputs, target):
        score = self.forward_func(inputs)[:, target].sum()
        return torch.autograd.grad(score, inputs)[0]


class Fitted(Gradient):
    """Weighs the gradient by the mean image of the class."""

    def fit(self, loader):
        images, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
        self.means = [images[labels == k].mean(0, keepdim=True) for k in range(3)]

    def attribute(self, inputs, target):
        return super().attribute(inputs, target) * self.means[target]


GRADIENT, FITTED = Attribution("gradient", Gradient), Attribution("fitted", Fitted)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = (nn.Conv2d(3, 6, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
        return nn.Sequential(*parts).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(4, 3, 8, 10, generator=torch.Generator().manual_seed(1))


def explain(model, images, methods=(GRADIENT,), perturbation=NOISE, **options) -> selplug.Explanation:
    return selplug.explain(model, images, methods, perturbation, progress=False, **options)


def by_hand(model: nn.Module, image: torch.Tensor, target: int) -> np.ndarray:
    inputs = image[None].clone().requires_grad_()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    model((inputs - mean) / std)[0, target].backward()
    return inputs.grad.sum(1)[0].double().numpy()


def test_tensors_and_the_numbers_of_the_method(model, images):
    names = ["cat", "ant", "bee"]
    found = explain(
        model, images, target="bee", normalize=(MEAN, STD), labels=[0, 1, None, 2], class_names=names, name="mine"
    )
    assert [image.label for image in found.images] == [0, 1, None, 2]
    assert [image.target for image in found.images] == [2] * 4
    assert [image.name for image in found.images] == ["image 1", "image 2", "image 3", "image 4"]
    for image, given in zip(found.images, images, strict=True):
        np.testing.assert_array_equal(image.images[CLEAN], given.numpy())
        for condition in (CLEAN, ADVERSARIAL):
            expected = by_hand(model, torch.from_numpy(image.images[condition]), 2)
            np.testing.assert_allclose(image.maps[0].values[condition], expected, rtol=1e-4, atol=1e-7)
    assert found.subject["model"] == "mine"
    assert found.subject["class_names"] == names
    assert found.settings["images_found"] == 4
    assert found.settings["perturbation"] == NOISE


def test_one_image_is_explained_as_among_others(model, images):
    alone = explain(model, images[2], target=1)
    among = explain(model, list(images), target=1)
    np.testing.assert_array_equal(
        alone.images[0].maps[0].values[ADVERSARIAL], among.images[2].maps[0].values[ADVERSARIAL]
    )
    assert alone.settings["target"] == 1


def test_a_subject_brings_its_own(model, images):
    subject = Subject(model, (), normalize=(MEAN, STD), name="mine")
    one = explain(subject, images[:1])
    other = explain(model, images[:1], normalize=(MEAN, STD), name="mine")
    assert one.to_dict()["images"] == other.to_dict()["images"]
    assert one.subject == other.subject
    with pytest.raises(InputError, match="normalize, loader: a Subject brings its own"):
        explain(subject, images, normalize=(MEAN, STD), loader=[(images, torch.arange(4))])


def test_a_method_that_is_fitted_sees_the_loader(model, images):
    loader = [(images, torch.tensor([0, 1, 2, 0]))]
    found = explain(model, images[:1], [GRADIENT, FITTED], target=0, loader=loader)
    _, fitted = found.images[0].maps
    weights = images[[0, 3]].mean(0)
    inputs = images[:1].clone().requires_grad_()
    model(inputs)[0, 0].backward()
    np.testing.assert_allclose(fitted.values[CLEAN], (inputs.grad[0] * weights).sum(0), rtol=1e-4, atol=1e-7)
    assert found.settings["fitted"] == ["fitted"]
    with pytest.raises(
        InputError, match=r"fitted has to see labelled images of all classes first.*from Python loader="
    ):
        explain(model, images, [FITTED])


def test_perturbations_of_all_kinds(model, images):
    def darker(images, labels):
        return images * 0.5

    by_spec = explain(model, images[:1], perturbation=NOISE)
    by_object = explain(model, images[:1], perturbation=Perturbation(NOISE, gaussian_noise, {"std": 0.1}, "noise"))
    assert by_spec.to_dict()["images"] == by_object.to_dict()["images"]
    by_call = explain(model, images[:1], perturbation=darker)
    np.testing.assert_array_equal(by_call.images[0].images[ADVERSARIAL], images[0].numpy() * np.float32(0.5))
    assert by_call.settings["perturbation"] == "darker"
    again = explain(model, images[:1], seed=1)
    assert again.to_dict()["images"] != by_spec.to_dict()["images"]


@pytest.fixture
def folder(tmp_path) -> Path:
    pil = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        pil.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)).save(path)
    return tmp_path


def test_files_and_folders(model, folder):
    pil = pytest.importorskip("PIL.Image")
    found = explain(model, folder, class_names=["ant", "cat", "bee"])
    assert [(image.name, image.label) for image in found.images] == [
        ("cat/1.png", 1), ("cat/2.png", 1), ("dog/1.png", None)
    ]  # fmt: skip
    pixels = np.asarray(pil.open(folder / "cat" / "1.png")).transpose(2, 0, 1)
    np.testing.assert_array_equal(found.images[0].images[CLEAN], pixels.astype(np.float32) / 255)
    two = explain(model, [folder / "cat", str(folder / "dog" / "1.png")], max_images=2)
    assert [image.name for image in two.images] == ["cat/1.png", "cat/2.png"]
    assert two.settings["images_found"] == 3
    read = explain(model, folder / "dog", read_image=lambda path: torch.full((3, 6, 6), 0.25))
    assert read.images[0].images[CLEAN].shape == (3, 6, 6)


def test_of_many_tensors_some_evenly_spaced(model, images):
    found = explain(model, images, labels=torch.tensor([0, 1, 2, 0]), max_images=2)
    assert [(image.name, image.label) for image in found.images] == [("image 1", 0), ("image 3", 2)]


def test_what_was_explained_is_saved_and_read(model, images, tmp_path):
    found = explain(model, images, layers=None)
    again = selplug.read(found.save(tmp_path), selplug.Explanation)
    assert again.to_dict() == found.to_dict() == json.loads((tmp_path / "explain.json").read_text())
    np.testing.assert_array_equal(again.images[3].probabilities[CLEAN], found.images[3].probabilities[CLEAN])


def test_the_model_is_left_as_it_was(model, images):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    explain(model, images)
    assert model.training
    model.eval()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ([], {}, r"expected images as tensors \(C, H, W\), or as paths of files and folders, got none"),
        ([torch.zeros(3, 8, 8), "a.png"], {}, "got Tensor, str"),
        ([np.zeros((3, 8, 8))], {}, "got ndarray"),
        ([torch.zeros(8, 8)], {}, r"image 1: expected \(C, H, W\), got \(8, 8\)"),
        (torch.zeros(3, 8, 8) + 2, {}, r"\[0, 1\]"),
        (torch.zeros(2, 3, 8, 8), {"labels": [0]}, "expected a label per image, 2, got 1"),
        (torch.zeros(2, 3, 8, 8), {"labels": [0, 7]}, r"labels in \[0, 3\)"),
        (torch.zeros(3, 8, 8), {"max_images": 0}, "max_images of at least 1, got 0"),
        (torch.zeros(3, 8, 8), {"seed": -1}, "a seed >= 0, got -1"),
        (torch.zeros(3, 8, 8), {"methods": "saliency"}, "expected a list of methods, got the text 'saliency'"),
        (torch.zeros(3, 8, 8), {"methods": []}, "no method"),
        (torch.zeros(3, 8, 8), {"methods": [GRADIENT, GRADIENT]}, "the method gradient comes twice"),
        (torch.zeros(3, 8, 8), {"perturbation": 7}, "expected a spec, a Perturbation or a callable, got int"),
        (torch.zeros(3, 8, 8), {"target": "cow"}, "expected a class name, its number, predicted or true"),
        (torch.zeros(3, 8, 8), {"target": 3}, "expected a class from 0 to 2, got 3"),
        (torch.zeros(3, 8, 8), {"target": "true"}, "the true class of image 1 is unknown"),
        ("nowhere.png", {}, r"no image file or folder nowhere\.png"),
    ],
)
def test_bad_input_is_named(model, given, options, message):
    with pytest.raises(InputError, match=message):
        explain(model, given, **options)


def test_labels_beside_files_and_files_that_are_no_images(model, folder):
    with pytest.raises(InputError, match=r"labels= is for images given as tensors"):
        explain(model, folder, labels=[0, 1, 2])
    (folder / "cat" / "1.png").write_bytes(b"hello")
    with pytest.raises(InputError, match=r"1\.png cannot be read as an image"):
        explain(model, folder)
    with pytest.raises(InputError, match="the subject mine reads no image files"):
        explain(Subject(model, (), name="mine"), folder)


def test_without_pillow(model, folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(PluginError, match="image files need Pillow, which is not installed"):
        explain(model, folder)


def test_unknown_methods_bring_the_near_ones(model, images):
    with pytest.raises(PluginError, match="salience"):
        explain(model, images, ["salience"])
