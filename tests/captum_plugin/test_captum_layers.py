"""Every method on every kind of layer and input."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from captum.attr import LayerActivation
from captum_nets import CLASSES, METHODS, make, method, responses, stored
from selplug_captum.activations import Activations
from torch import nn

from selplug.core.errors import CaptureError, InputError
from selplug.core.model.capture import Capture, find_layers

LayerClassSelectivity, ClassSelectivity = method("layer-class-selectivity"), method("class-selectivity")
LayerDimensionality, InputUnitGradient = method("layer-dimensionality"), method("input-unit-gradient")


@pytest.mark.parametrize("name", METHODS)
def test_a_list_of_layers_is_one_forward_pass(net, images, loader, name):
    layers = [net.relu, net.gelu, net.relu]
    together = make(name, net, layers, loader)
    run = METHODS[name]
    run(together, images)  # the first call looks for the units
    forwards = []
    handle = net.register_forward_hook(lambda *_: forwards.append(1))
    results = run(together, images)
    handle.remove()
    assert len(forwards) == 1
    assert isinstance(results, list)
    for layer, result in zip(layers, results, strict=True):
        torch.testing.assert_close(result, run(make(name, net, layer, loader), images))


def test_every_call_of_a_module_counts(net, images, loader):
    """LayerActivation gives the last call only, silently."""
    found = LayerClassSelectivity(net, net.twice).fit(loader)
    first, second = stored(net, net.twice, images)
    attributions = found.attribute(images, 2)
    assert isinstance(attributions, tuple)
    for attribution, activation, scores in zip(attributions, (first, second), found.unit_scores(2), strict=True):
        torch.testing.assert_close(attribution.double(), torch.as_tensor(activation) * scores.view(1, -1, 1, 1))
    last = LayerActivation(net, net.twice).attribute(images)
    torch.testing.assert_close(last.double(), torch.as_tensor(second))
    # The pixels that drive any of the calls: both add up.
    whole = ClassSelectivity(net, net.twice).fit(loader)
    alone = [torch.zeros_like(means) for means in whole.class_means]
    parts = []
    for call in (0, 1):
        means = list(alone)
        means[call] = whole.class_means[call]
        parts.append(ClassSelectivity(net, net.twice, class_means=means).attribute(images, 2))
    torch.testing.assert_close(whole.attribute(images, 2), parts[0] + parts[1])


def test_the_input_of_a_layer(net, images, labels, loader):
    """What bn is given is what conv puts out; what conv2 is given has units like relu."""
    for name, run in METHODS.items():
        made = method(name)(net, net.bn)
        if name != "input-unit-gradient":
            made.fit(loader, attribute_to_layer_input=True)
            with pytest.raises(InputError, match=r"fit\(loader, attribute_to_layer_input=False\)"):
                run(made, images)
        arguments = [2] if "class" in name else []
        ours = made.attribute(images, *arguments, attribute_to_layer_input=True)
        torch.testing.assert_close(ours, run(make(name, net, net.conv, loader), images))
    # What a ReLU is given can be negative, and is rectified for the means.
    given = LayerClassSelectivity(net, net.relu).fit(loader, attribute_to_layer_input=True)
    (activation,) = stored(net, net.relu, images, given=True)
    assert activation.min() < 0
    means, _ = reference.class_means(responses(activation), labels.numpy(), CLASSES)
    np.testing.assert_allclose(given.class_means, means, rtol=1e-5, atol=1e-7)
    given = LayerClassSelectivity(net, net.gelu).fit(loader, attribute_to_layer_input=True)
    torch.testing.assert_close(
        given.attribute(images, 2, attribute_to_layer_input=True),
        LayerClassSelectivity(net, net.tokens).fit(loader).attribute(images, 2),
    )


def test_the_unit_axis_is_found_and_not_guessed(images):
    """36 tokens of 36 units, and maps as high as they have channels: sizes do not tell."""
    torch.manual_seed(0)
    square = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(2), nn.Linear(36, 6), nn.ReLU(), nn.Linear(6, 4))
    square.add_module("last", nn.Flatten())
    loader = [(images, torch.arange(24) % 24)]
    for layer, axis in ((square[1], 1), (square[4], 2)):
        found = LayerClassSelectivity(square, layer).fit(loader, num_classes=24)
        (activation,) = stored(square, layer, images)
        scores = found.unit_scores(5).view([-1 if a == axis else 1 for a in range(activation.ndim)])
        torch.testing.assert_close(found.attribute(images, 5).double(), torch.as_tensor(activation) * scores)


def test_units_on_two_axes():
    """The linear attention of EfficientViT: heads (axis 1) times their dimensions (axis 3)."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project, self.kernel_func, self.out = nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)

        def forward(self, x):
            heads = self.kernel_func(self.project(x).unflatten(2, (2, 4)).transpose(1, 2))
            return self.out(heads.transpose(1, 2).flatten(2).mean(1))

    torch.manual_seed(0)
    model = nn.Sequential(Attention()).eval()
    x, labels = torch.randn(12, 5, 6), torch.arange(12) % 3
    found = LayerClassSelectivity(model, model[0].kernel_func).fit([(x, labels)])
    activation = torch.as_tensor(stored(model, model[0].kernel_func, x)[0])
    assert activation.shape == (12, 2, 5, 4)
    scores = found.unit_scores(1).view(1, 2, 1, 4)
    torch.testing.assert_close(found.attribute(x, 1).double(), activation * scores)
    attribution, delta = (
        LayerDimensionality(model, model[0].kernel_func, 0.8).fit([x]).attribute(x, return_convergence_delta=True)
    )
    assert attribution.shape == activation.shape
    assert float(delta.abs().max()) < 1e-5 * float(attribution.flatten(1).sum(1).max())


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet", "test_nfnet", "test_mambaout"])
def test_the_units_of_timm_models_are_those_of_an_audit(name):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=3).eval()
    x = torch.rand(4, *model.pretrained_cfg["input_size"])
    layers = find_layers(model, x)
    with torch.no_grad(), Capture(model, layers) as capture:
        model(x)
    modules = dict.fromkeys(layer.module for layer in layers)
    with torch.no_grad():
        _, found = Activations(model, [model.get_submodule(module) for module in modules], None)(x)
    ours = {call.layer.name: call.responses() for calls in found for call in calls}
    assert ours.keys() == capture.responses.keys()
    for layer, theirs in capture.responses.items():
        torch.testing.assert_close(ours[layer], theirs)


class Windows(nn.Module):
    """The windows of each image in turn, the samples major; or of all images, the windows major."""

    def __init__(self, sample_major: bool) -> None:
        super().__init__()
        self.sample_major = sample_major
        self.conv, self.act, self.out = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Linear(6, 3)

    def forward(self, x):
        count = len(x)
        parts = x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).flatten(1, 2)
        parts = parts if self.sample_major else parts.transpose(0, 1)
        x = self.act(self.conv(parts.flatten(0, 1))).mean((2, 3))
        x = x.reshape(count, -1, 6).mean(1) if self.sample_major else x.reshape(-1, count, 6).mean(0)
        return self.out(x)


def test_windows_belong_to_their_sample(images, labels):
    torch.manual_seed(0)
    model = Windows(sample_major=True).eval()
    loader = [(images, labels % 3)]
    found = LayerClassSelectivity(model, model.act).fit(loader)
    attribution = found.attribute(images, (labels % 3).tolist())
    activation = torch.as_tensor(stored(model, model.act, images)[0])
    assert attribution.shape == activation.shape == (96, 6, 2, 2)
    for row, window in enumerate(activation):
        scores = found.unit_scores(int(labels[row // 4] % 3)).view(-1, 1, 1)
        torch.testing.assert_close(attribution[row].double(), window * scores)
    dimensionality = LayerDimensionality(model, model.act, 0.7).fit(loader)
    shares, delta = dimensionality.attribute(images, return_convergence_delta=True)
    assert shares.shape == activation.shape
    assert delta.shape == (24,)
    assert float(delta.abs().max()) < 1e-5 * float(shares.reshape(24, -1).sum(1).max())
    assert InputUnitGradient(model, model.act).attribute(images).shape == (24, 6)
    larger = torch.rand(5, 3, 12, 12)  # nine windows
    assert found.attribute(larger, 1).shape == (45, 6, 2, 2)
    assert dimensionality.attribute(larger, return_convergence_delta=True)[1].shape == (5,)
    mixed = Windows(sample_major=False).eval()
    with pytest.raises(CaptureError, match="with N=2 samples on the first axis"):  # one image alone would not tell
        LayerClassSelectivity(mixed, mixed.act).fit([(images[:1], labels[:1])])
    with pytest.raises(
        CaptureError, match=r"tensors \(N, ...\) with N=2 samples on the first axis, got \(8, 6, 2, 2\) from act"
    ):
        LayerClassSelectivity(mixed, mixed.act).fit(loader)


@pytest.mark.parametrize("name", METHODS)
def test_further_arguments_and_tuples(net, images, loader, name):
    made = make(name, net, net.relu, loader)
    arguments = (images, 2) if "class" in name else (images,)
    expected = made.attribute(*arguments)
    result = made.attribute((images,), *arguments[1:])
    assert isinstance(result, tuple)  # sensitivity_max calls so, and reads the result as one
    torch.testing.assert_close(result, (expected,))
    scaled = method(name)(net, net.out)
    if name != "input-unit-gradient":
        # The units of the layer do not depend on the scale, the arguments are passed all the same.
        scaled.fit(loader, additional_forward_args=2.0)
    for scale in (2.0, torch.full((24, 1), 2.0), (torch.full((24, 1), 2.0),)):
        scaled.attribute(*arguments, additional_forward_args=scale)
    with pytest.raises(RuntimeError, match="must match"):
        scaled.attribute(*arguments, additional_forward_args=torch.ones(23, 5))


class Pair(nn.Module):
    """Two inputs, one of them integers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.act, self.out = nn.Embedding(9, 6), nn.ReLU(), nn.Linear(6, 3)
        self.project = nn.Linear(4, 6)

    def forward(self, tokens, x=None):
        hidden = self.embed(tokens).mean(1)
        return self.out(self.act(hidden if x is None else hidden + self.project(x)))


def test_tuples_of_inputs_integers_among_them():
    torch.manual_seed(0)
    model = Pair().eval()
    tokens, x, labels = torch.randint(9, (12, 5)), torch.rand(12, 4), torch.arange(12) % 3
    both = LayerClassSelectivity(model, model.act).fit([((tokens, x), labels), ([tokens, x], labels)])
    activation = model.act(model.embed(tokens).mean(1) + model.project(x)).detach()
    torch.testing.assert_close(both.attribute((tokens, x), 1), activation * both.unit_scores(1).float())
    alone = LayerClassSelectivity(model, model.act).fit([(tokens, labels)])
    activation = model.act(model.embed(tokens).mean(1)).detach()
    torch.testing.assert_close(alone.attribute(tokens, 1), activation * alone.unit_scores(1).float())
    # Pixels beside tokens: gradients of the pixels, the tokens as a further argument.
    pixels = ClassSelectivity(lambda x, tokens: model(tokens, x), model.act, class_means=both.class_means)
    (attribution,) = pixels.attribute((x,), 1, additional_forward_args=tokens)
    on = (model.embed(tokens).mean(1) + model.project(x) > 0).float()
    gradient = (on * both.unit_scores(1).float()) @ model.project.weight
    torch.testing.assert_close(attribution, (x * gradient).detach())
    with pytest.raises(InputError, match=r"got torch\.int64; pass all others as additional_forward_args"):
        ClassSelectivity(model, model.act, class_means=both.class_means).attribute((tokens, x), 1)


@pytest.mark.parametrize("name", METHODS)
def test_one_sample_and_half_precision(net, images, loader, name):
    made = make(name, net, net.relu, loader)
    torch.testing.assert_close(METHODS[name](made, images[:1]), METHODS[name](made, images)[:1])
    fresh = method(name)(net, net.relu)
    if name != "input-unit-gradient":
        fresh.fit([(x[None], y[None]) for x, y in zip(*map(torch.cat, zip(*loader, strict=True)), strict=True)])
    torch.testing.assert_close(METHODS[name](fresh, images[:1]), METHODS[name](made, images[:1]), rtol=1e-4, atol=1e-7)
    half = net.bfloat16()
    low = METHODS[name](make(name, half, half.relu, [(x.bfloat16(), y) for x, y in loader]), images.bfloat16())
    assert low.isfinite().all()


def test_data_parallel_puts_the_parts_back_in_order(net, images, loader):
    """Without a GPU the wrapper is all that is tested; the order of the parts is tested on its own."""
    wrapped = nn.DataParallel(net)
    for name, run in METHODS.items():
        for options in ({}, {"device_ids": [0]}):
            torch.testing.assert_close(
                run(make(name, wrapped, net.relu, loader, **options), images),
                run(make(name, net, net.relu, loader), images),
            )
    zero, one = torch.device("cuda", 0), torch.device("cuda", 1)
    saved = {one: [torch.ones(2), torch.ones(3)], zero: [torch.zeros(1), torch.zeros(2)]}
    parts = Activations(net, [net.relu], [0, 1])._gather(saved)
    assert [part.tolist() for part in parts] == [[0, 1, 1], [0, 0, 1, 1, 1]]
    assert Activations(net, [net.relu], [1, 0])._gather(saved)[0].tolist() == [1, 1, 0]
    with pytest.raises(InputError, match="give their order in the batch as device_ids="):
        Activations(net, [net.relu], None)._gather(saved)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu(net, images, loader):
    expected = {name: run(make(name, net, net.gelu, loader), images) for name, run in METHODS.items()}
    net.cuda()
    for model in (net, nn.DataParallel(net)):
        for name, run in METHODS.items():
            made = make(name, model, net.gelu, loader)  # the loader's batches are on the CPU
            torch.testing.assert_close(run(made, images.cuda()).cpu(), expected[name], rtol=1e-3, atol=1e-5)


def test_layers_that_are_none(net, images, loader):
    for layer, message in [("relu", "a list of them as layer, got 'r'"), ([], "got an empty list")]:
        with pytest.raises(InputError, match=message):
            LayerClassSelectivity(net, layer)
    with pytest.raises(CaptureError, match=r"ReLU \(layer 0\) did not run"):
        LayerClassSelectivity(net, nn.ReLU()).fit(loader)

    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.out = nn.LSTM(24, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x):
            return self.out(self.lstm(x.flatten(2))[0].mean(1))

    several = Several().eval()
    with pytest.raises(CaptureError, match="expected a layer with one tensor, but lstm returns 2 values"):
        InputUnitGradient(several, several.lstm).attribute(images.reshape(24, 8, 24))


def test_a_number_of_calls_that_changes_is_an_error(images, labels):
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps, self.step, self.out = 2, nn.Linear(192, 192), nn.Linear(192, 3)
            self.act = nn.ReLU()

        def forward(self, x):
            x = x.flatten(1)
            for _ in range(self.steps):
                x = self.act(self.step(x))
            return self.out(x)

    model = Loop().eval()
    found = LayerClassSelectivity(model, model.act).fit([(images, labels % 3)])
    assert len(found.attribute(images, 1)) == 2
    model.steps = 3
    with pytest.raises(CaptureError, match="act ran 3 times, but 2 times in the first pass"):
        found.attribute(images, 1)


def test_the_model_itself_as_the_layer(net, images, loader):
    found = LayerClassSelectivity(net, net).fit(loader)
    with torch.no_grad():
        torch.testing.assert_close(found.attribute(images, 1), net(images) * found.unit_scores(1).float())


def test_larger_images_after_fit():
    """The units stay, positions may grow."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)).eval()
    found = LayerClassSelectivity(model, model[1]).fit([(torch.rand(9, 3, 8, 8), torch.arange(9) % 3)])
    assert found.attribute(torch.rand(4, 3, 16, 16), 1).shape == (4, 6, 14, 14)
