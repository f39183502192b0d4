"""Attribution maps against the methods called by hand, layers and shapes of all kinds, and no trace."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from selplug.core.errors import CaptureError, InputError, PluginError, SelplugError
from selplug.core.noise import gaussian_noise
from selplug.core.perturb import batch_seed
from selplug.core.types import Attribution, Perturbation, Subject
from selplug.explanations.run import ADVERSARIAL, CLEAN, Map, Picture, run_explain

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
NOISE = Perturbation("noise", gaussian_noise, {"std": 0.1}, "noise")


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [
            ("conv1", nn.Conv2d(3, 6, 3, padding=1)),
            ("act1", nn.ReLU()),
            ("conv2", nn.Conv2d(6, 8, 3, stride=2, padding=1)),
            ("act2", nn.ReLU()),
            ("pool", nn.AdaptiveAvgPool2d(1)),
            ("flat", nn.Flatten()),
            ("fc", nn.Linear(8, 4)),
            ("act3", nn.ReLU()),
            ("head", nn.Linear(4, 3)),
        ]
        return nn.Sequential(OrderedDict(layers)).eval()


def pictures(count: int = 2, size: tuple[int, int] = (8, 12)) -> list[Picture]:
    images = torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(1))
    return [Picture(f"folder/{place}.png", image, label=place % 3) for place, image in enumerate(images)]


def subject(model: nn.Module, loader: object = ()) -> Subject:
    return Subject(model, loader, normalize=(MEAN, STD))  # type: ignore[arg-type]


def by_hand(model: nn.Module) -> nn.Module:
    class Normalized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
            return self.inner((images - mean) / std)

    return Normalized()


class Activation:
    """A method in Captum's manner on the side of the layer, from hooks of its own."""

    def __init__(self, forward_func, layer, scale: float = 1.0):
        self.forward_func, self.layer, self.scale = forward_func, layer, scale

    def attribute(self, inputs, target=None):
        kept = []
        handle = self.layer.register_forward_hook(lambda module, given, output: kept.append(output))
        try:
            self.forward_func(inputs)
        finally:
            handle.remove()
        return kept[-1] * self.scale


def test_maps_are_those_of_captum_by_hand():
    attr = pytest.importorskip("captum.attr")
    model = network()
    methods = [Attribution("saliency", attr.Saliency, {}, {"abs": False}), Attribution("cam", attr.LayerGradCam)]
    found = run_explain(subject(model), pictures(), methods, NOISE, layers=["act1", "act2"], target=1)
    hand = by_hand(model)
    for image, picture in zip(found, pictures(), strict=True):
        clean = picture.image[None]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(batch_seed(0, 0))
            noisy = (clean + 0.1 * torch.randn_like(clean)).clamp(0, 1)
        for condition, pixels in ((CLEAN, clean), (ADVERSARIAL, noisy)):
            np.testing.assert_allclose(image.images[condition], pixels[0].numpy(), atol=1e-7)
            logits = hand(pixels).detach()[0]
            np.testing.assert_allclose(image.probabilities[condition], logits.softmax(0).numpy(), rtol=1e-5)
            inputs = pixels.clone().requires_grad_()
            expected = {("saliency", None): attr.Saliency(hand).attribute(inputs, 1, abs=False).sum(1)[0]}
            for name in ("act1", "act2"):
                cam = attr.LayerGradCam(hand, getattr(model, name))
                expected["cam", name] = cam.attribute(inputs, 1)[0, 0]
            assert [(one.method, one.layer) for one in image.maps] == list(expected)
            for one in image.maps:
                values = expected[one.method, one.layer].detach().numpy()
                np.testing.assert_allclose(one.values[condition], values, rtol=1e-4, atol=1e-6)
                assert np.abs(values).max() > 1e-4
        change = (noisy - clean).flatten()
        assert image.l2 == pytest.approx(float(change.norm()), rel=1e-5)
        assert image.linf == pytest.approx(float(change.abs().max()), rel=1e-5)
        assert (image.target, image.attacked) == (1, picture.label)


def test_an_image_does_not_depend_on_the_others():
    method = [Attribution("act", Activation)]
    alone = run_explain(subject(network()), pictures()[1:], method, NOISE)
    both = run_explain(subject(network()), pictures(), method, NOISE)
    np.testing.assert_array_equal(alone[0].images[ADVERSARIAL], both[1].images[ADVERSARIAL])
    np.testing.assert_array_equal(alone[0].maps[0].values[ADVERSARIAL], both[1].maps[0].values[ADVERSARIAL])


def test_without_a_choice_the_last_layer_of_each_resolution():
    (image,) = run_explain(subject(network()), pictures(1), [Attribution("act", Activation)], NOISE)
    assert [one.layer for one in image.maps] == ["act1", "act2"]
    assert [one.values[CLEAN].shape for one in image.maps] == [(8, 12), (4, 6)]


def test_targets():
    model, method = network(), [Attribution("act", Activation)]
    predicted = [int(by_hand(model)(picture.image[None]).argmax()) for picture in pictures(3)]
    unknown = [Picture(picture.name, picture.image) for picture in pictures(3)]
    told: list[int] = []

    def spy(model):
        return lambda images, labels: (told.extend(labels.tolist()), images)[1]

    for given, target, expected in (
        (pictures(3), "predicted", predicted),
        (pictures(3), "true", [0, 1, 2]),
        (pictures(3), 2, [2, 2, 2]),
        (unknown, "predicted", predicted),
    ):
        told.clear()
        found = run_explain(subject(model), given, method, Perturbation("spy", spy), target=target)
        assert [image.target for image in found] == expected
        attacked = predicted if given is unknown else [0, 1, 2]
        assert [image.attacked for image in found] == told == attacked
    with pytest.raises(InputError, match=r"folder/0.png is unknown.*--data-dir"):
        run_explain(subject(model), unknown, method, NOISE, target="true")
    for bad in (3, -1):
        with pytest.raises(InputError, match="class from 0 to 2"):
            run_explain(subject(model), unknown, method, NOISE, target=bad)


class Tokens(nn.Module):
    """8 x 12 images in patches of 4 x 4 behind ``prefix`` further tokens, channels last."""

    def __init__(self, prefix: int):
        super().__init__()
        self.num_prefix_tokens = prefix
        self.patches = nn.Conv2d(3, 5, 4, 4)
        self.act = nn.GELU()
        self.fc = nn.Linear(5, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([x.new_full((len(x), self.num_prefix_tokens, 5), 7.0), x], 1)
        return self.head(self.fc(self.act(x)).mean(1))


@pytest.mark.parametrize("prefix", [0, 1, 3])
def test_tokens_become_the_grid_of_their_patches(prefix):
    model = Tokens(prefix).eval()
    (image,) = run_explain(subject(model), pictures(1), [Attribution("act", Activation)], NOISE)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    expected = nn.functional.gelu(model.patches((pictures(1)[0].image[None] - mean) / std)).sum(1)[0]
    np.testing.assert_allclose(image.maps[0].values[CLEAN], expected.detach().numpy(), rtol=1e-4)


def test_what_is_no_map_is_an_error_that_names_method_and_layer():
    class Pooled(Activation):
        def attribute(self, inputs, target=None):
            return super().attribute(inputs).mean((2, 3))

    class Odd(Activation):
        def attribute(self, inputs, target=None):
            return "nothing"

    class Undefined(Activation):
        def attribute(self, inputs, target=None):
            return super().attribute(inputs) * math.nan

    class Breaks(Activation):
        def attribute(self, inputs, target=None):
            raise KeyError("inside")

    for factory, message in (
        (Pooled, r"m returned \(1, 8\) for act2 \(1, 8, 4, 6\), which is not a map"),
        (Odd, "m: expected a tensor from attribute, got str"),
        (Undefined, "m returned values that are not finite"),
        (Breaks, "attribution m failed under the condition clean: KeyError: 'inside'"),
    ):
        with pytest.raises(SelplugError, match=message):
            run_explain(subject(network()), pictures(1), [Attribution("m", factory)], NOISE, layers=["act2"])
    with pytest.raises(InputError, match=r"act returned \(1, 4\) for act3"):
        run_explain(subject(network()), pictures(1), [Attribution("act", Activation)], NOISE, layers=["act3"])
    with pytest.raises(CaptureError, match=r"'nope' matches no module; there are conv1, act1"):
        run_explain(subject(network()), pictures(1), [Attribution("act", Activation)], NOISE, layers=["nope"])


class Fitted(Activation):
    """Activation minus the mean over what it was fitted on; takes lists of layers."""

    passes = 0

    def fit(self, loader):
        type(self).passes += 1
        images, labels = zip(*loader, strict=True)
        assert sum(map(len, labels)) == 5
        self.base = [Activation(self.forward_func, layer).attribute(torch.cat(images)).mean(0) for layer in self.layer]

    def attribute(self, inputs, target=None):
        parts = zip(self.layer, self.base, strict=True)
        return [Activation(self.forward_func, layer).attribute(inputs) - base for layer, base in parts]


def test_fitting_reads_the_loader_once_for_all_layers_in_unit_range():
    model = network()
    data = torch.randint(0, 256, (5, 3, 8, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    loader = [(data[:3], torch.arange(3)), (data[3:], torch.arange(2))]
    Fitted.passes = 0
    seen = []
    (image,) = run_explain(
        subject(model, loader), pictures(1), [Attribution("fit", Fitted)], NOISE, on_progress=lambda *a: seen.append(a)
    )
    assert Fitted.passes == 1
    assert ("fit: fitting", 5, 5) in seen
    hand = by_hand(model)
    for one in image.maps:
        layer = getattr(model, one.layer)
        values = Activation(hand, layer).attribute(pictures(1)[0].image[None])[0]
        expected = values - Activation(hand, layer).attribute(data / 255).mean(0)
        np.testing.assert_allclose(one.values[CLEAN], expected.sum(0).detach().numpy(), rtol=1e-3, atol=1e-5)


class OneLayer(Activation):
    """Fitted, too, but on one layer at a time."""

    def fit(self, loader):
        self.base = torch.cat([Activation.attribute(self, images) for images, _ in loader]).mean(0)

    def attribute(self, inputs, target=None):
        return super().attribute(inputs) - self.base


@pytest.mark.parametrize("layers", [["act1"], ["act1", "act2"]])
def test_a_method_that_knows_no_lists_is_made_for_one_layer_after_the_other(layers):
    loader = [(torch.rand(5, 3, 8, 12, generator=torch.Generator().manual_seed(3)), torch.arange(5) % 3)]
    both = (Attribution("one", OneLayer), Attribution("all", Fitted))
    for method in both[: len(layers)]:
        (image,) = run_explain(subject(network(), loader), pictures(1), [method], NOISE, layers=layers)
        assert [one.layer for one in image.maps] == layers
        hand = by_hand(model := network())
        (expected,) = run_explain(
            subject(model, loader), pictures(1), [Attribution("a", Activation)], NOISE, layers=layers
        )
        for one, plain in zip(image.maps, expected.maps, strict=True):
            base = Activation(hand, getattr(model, one.layer)).attribute(loader[0][0]).mean(0).sum(0)
            np.testing.assert_allclose(one.values[CLEAN], plain.values[CLEAN] - base.detach().numpy(), atol=1e-5)


def test_a_failing_fit_is_told():
    class Broken(OneLayer):
        def fit(self, loader):
            raise KeyError("inside")

    with pytest.raises(PluginError, match="attribution m failed: KeyError: 'inside'"):
        run_explain(subject(network(), [0]), pictures(1), [Attribution("m", Broken)], NOISE)


@pytest.mark.parametrize("fails", [False, True])
def test_no_trace(fails):
    class Maybe(Activation):
        def attribute(self, inputs, target=None):
            torch.rand(3)
            if fails:
                raise ValueError
            return super().attribute(inputs)

    model = network().train()
    model.act1.eval()
    model.fc.weight.requires_grad_(False)
    model.head.weight.grad = torch.ones(3, 4)
    flags, needs = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    state, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    try:
        run_explain(subject(model), pictures(1), [Attribution("m", Maybe)], NOISE)
    except PluginError:
        assert fails
    assert [m.training for m in model.modules()] == flags
    assert [p.requires_grad for p in model.parameters()] == needs
    assert torch.equal(model.head.weight.grad, torch.ones(3, 4))
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), rng)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_similarity_is_the_cosine():
    one = Map("m", None, {CLEAN: np.array([[1.0, 0.0]]), ADVERSARIAL: np.array([[1.0, 1.0]])})
    assert one.similarity == pytest.approx(1 / math.sqrt(2))
    assert Map("m", None, {CLEAN: np.zeros((1, 2)), ADVERSARIAL: np.ones((1, 2))}).similarity is None
