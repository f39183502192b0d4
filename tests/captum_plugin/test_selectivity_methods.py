"""Class selectivity as attributions, against numpy on stored activations."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from captum.attr import GradientAttribution, LayerAttribution
from captum_nets import CLASSES, method, responses, stored

from selplug.core.errors import InputError

LayerClassSelectivity, ClassSelectivity = method("layer-class-selectivity"), method("class-selectivity")


def expected_index(activation, labels, axis=1, target=None):
    means, weights = reference.class_means(responses(activation, axis), labels.numpy(), CLASSES)
    if target is None:
        return reference.class_selectivity(means, weights)
    return reference.class_wise_selectivity(means, weights)[target]


@pytest.mark.parametrize(("name", "axis"), [("relu", 1), ("bn", 1), ("conv3", 1), ("gelu", 2), ("mix", 2), ("out", 1)])
@pytest.mark.parametrize("target", [None, 3])
def test_activation_times_index(net, images, labels, loader, name, axis, target):
    layer = net.get_submodule(name)
    (activation,) = stored(net, layer, images)
    index = expected_index(activation, labels, axis, target)
    found = LayerClassSelectivity(net, layer).fit(loader)
    np.testing.assert_allclose(found.unit_scores(target), index, rtol=1e-5, atol=1e-6)
    shape = [-1 if a == axis else 1 for a in range(activation.ndim)]
    attribution = found.attribute(images, target)
    assert attribution.shape == activation.shape
    assert attribution.dtype == torch.float32
    np.testing.assert_allclose(attribution, activation * index.reshape(shape), rtol=1e-5, atol=1e-6)


def test_negative_activations_stay_and_responses_are_rectified(net, images, loader):
    (activation,) = stored(net, net.gelu, images)
    assert activation.min() < 0
    found = LayerClassSelectivity(net, net.gelu).fit(loader)
    scores = found.unit_scores(1)
    assert float(scores.abs().max()) <= 1
    np.testing.assert_allclose(found.attribute(images, 1), activation * scores.numpy(), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.unit_scores().max(), max(found.unit_scores(c).max() for c in range(CLASSES)))


@pytest.mark.parametrize("kind", ["list", "tensor", "tuples"])
def test_a_target_per_sample(net, images, labels, loader, kind):
    found = LayerClassSelectivity(net, net.relu).fit(loader)
    target = {"list": labels.tolist(), "tensor": labels, "tuples": [(c,) for c in labels.tolist()]}[kind]
    attribution = found.attribute(images, target)
    for n, label in enumerate(labels.tolist()):
        torch.testing.assert_close(attribution[n], found.attribute(images, label)[n])
        torch.testing.assert_close(attribution[n], found.attribute(images, torch.tensor([label]))[n])


@pytest.mark.parametrize("name", ["relu", "gelu"])
@pytest.mark.parametrize("target", [None, 3])
def test_gradient_times_input_of_the_weighted_response(net, images, labels, loader, name, target):
    """The gradient by central differences of the weighted response, in float64."""
    net.double()
    x = images[:2].double()
    layer, axis = net.get_submodule(name), 1 if name == "relu" else 2
    index = expected_index(stored(net, layer, images.double())[0], labels, axis, target)
    found = ClassSelectivity(net, layer).fit([(a.double(), b) for a, b in loader])
    attribution = found.attribute(x, target)
    assert attribution.shape == x.shape
    for place in [(0, 0, 2, 3), (0, 2, 5, 5), (1, 1, 4, 0), (1, 0, 7, 7)]:
        step = torch.zeros_like(x)
        step[place] = 1e-5
        up, down = (responses(stored(net, layer, x + s)[0], axis)[place[0]] @ index for s in (step, -step))
        assert float(attribution[place]) == pytest.approx(float(x[place]) * (up - down) / 2e-5, rel=1e-4, abs=1e-9)


def test_gradients_of_a_target_per_sample_are_those_of_single_samples(net, images, labels, loader):
    found = ClassSelectivity(net, net.gelu).fit(loader)
    attribution = found.attribute(images[:6], labels[:6].tolist())
    for n in range(6):
        torch.testing.assert_close(
            attribution[n : n + 1], found.attribute(images[n : n + 1], int(labels[n])), atol=1e-7, rtol=1e-4
        )


def test_class_means_can_be_given(net, images, labels, loader):
    fitted = LayerClassSelectivity(net, [net.relu, net.gelu]).fit(loader)
    expected = reference.class_means(responses(stored(net, net.relu, images)[0]), labels.numpy(), CLASSES)[0]
    np.testing.assert_allclose(fitted.class_means[0], expected, rtol=1e-5, atol=1e-7)
    for given in (
        LayerClassSelectivity(net, [net.relu, net.gelu], class_means=fitted.class_means),
        LayerClassSelectivity(net, [net.relu, net.gelu], None, [m.float() for m in fitted.class_means]),
    ):
        for ours, theirs in zip(given.attribute(images, 2), fitted.attribute(images, 2), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    twin = ClassSelectivity(net, net.gelu, class_means=fitted.class_means[1])
    torch.testing.assert_close(
        twin.attribute(images, 2), ClassSelectivity(net, net.gelu).fit(loader).attribute(images, 2)
    )


def test_batches_soft_targets_and_order_do_not_matter(net, images, labels, loader):
    one = LayerClassSelectivity(net, net.relu).fit([(images, labels)])
    two = LayerClassSelectivity(net, net.relu).fit(iter(loader[::-1]))
    soft = LayerClassSelectivity(net, net.relu).fit([(images, torch.nn.functional.one_hot(labels, CLASSES).float())])
    for other in (two, soft):
        torch.testing.assert_close(one.class_means, other.class_means, rtol=1e-5, atol=1e-7)


def test_classes_without_samples(net, images, labels, loader):
    some = labels != 3
    found = LayerClassSelectivity(net, net.relu).fit([(images[some], labels[some])])
    assert found.class_means[3].isnan().all()
    (activation,) = stored(net, net.relu, images)
    np.testing.assert_allclose(
        found.unit_scores(1),
        expected_index(activation[some.numpy()], labels[some], target=1),
        rtol=1e-5,
        atol=1e-6,
    )
    with pytest.raises(InputError, match=r"classes \[3\] had no sample in fit"):
        found.attribute(images, labels)
    torch.testing.assert_close(
        LayerClassSelectivity(net, net.relu, class_means=found.class_means).attribute(images, 1),
        found.attribute(images, 1),
    )


def test_scalar_outputs_need_the_number_of_classes(net, images, labels, loader):
    def probability(x):
        return net(x).softmax(1)[:, 0]

    with pytest.raises(InputError, match=r"give fit\(num_classes=C\)"):
        LayerClassSelectivity(probability, net.relu).fit(loader)
    found = LayerClassSelectivity(probability, net.relu).fit(loader, num_classes=CLASSES)
    torch.testing.assert_close(
        found.attribute(images, 1), LayerClassSelectivity(net, net.relu).fit(loader).attribute(images, 1)
    )


def test_a_fit_that_fails_keeps_what_was_known(net, images, labels, loader):
    found = LayerClassSelectivity(net, net.relu).fit(loader)
    before = found.attribute(images, 1)
    for bad, message in [
        ([], "at least one batch"),
        ([(images, labels * 0)], "at least two classes, got 1"),
        ([(images, labels + 3)], r"labels in \[0, 5\)"),
        ([(images, labels[:3])], r"targets \(N,\)=\(24,\)"),
        ([images], "batches without labels"),
        ([{"image": images}], "got batches of dict"),
        ([("image", labels)], "begin with str"),
        ([(images, labels), (images, None)], "without labels"),
    ]:
        with pytest.raises(InputError, match=message):
            found.fit(bad)
    torch.testing.assert_close(found.attribute(images, 1), before)


@pytest.mark.parametrize("make", [LayerClassSelectivity, ClassSelectivity])
@pytest.mark.parametrize(
    ("target", "message"),
    [
        (5, r"classes in \[0, 5\) as target, got 5 to 5"),
        (-1, "got -1 to -1"),
        ([0, 1], "24 classes as target, one per sample, got 2"),
        (torch.tensor([0, 1]), r"one per sample, got \(2,\)"),
        ((1, 2), r"24 classes as target, one per sample, got \(2,\)"),
        (1.5, "as target, got 1.5"),
        (True, "as target, got True"),
        ("cat", "as target, got 'cat'"),
    ],
)
def test_bad_targets(net, images, loader, make, target, message):
    with pytest.raises(InputError, match=message):
        make(net, net.relu).fit(loader).attribute(images, target)


@pytest.mark.parametrize("make", [LayerClassSelectivity, ClassSelectivity])
def test_missing_or_wrong_means(net, images, loader, make):
    for call in (lambda m: m.attribute(images, 1), lambda m: m.unit_scores(1), lambda m: m.class_means):
        with pytest.raises(InputError, match=r"has no class means yet: call fit\(loader\) first"):
            call(make(net, net.relu))
    for means, message in [
        (torch.rand(5), r"class means \(C, U\), floating point, got \(5,\)"),
        (torch.ones(1, 6), "at least two classes, got 1"),
        ("means", "got str"),
    ]:
        with pytest.raises(InputError, match=message):
            make(net, net.relu, class_means=means)
    with pytest.raises(InputError, match="class_means as a list of 2"):
        make(net, [net.relu, net.gelu], class_means=torch.rand(5, 6))
    with pytest.raises(InputError, match=r"relu has U=6 units, its class means \(C, U\) \(5, 7\)"):
        make(net, net.relu, class_means=torch.rand(5, 7)).attribute(images, 1)
    with pytest.raises(InputError, match="twice runs 2 times, but has class means for 1 call"):
        make(net, net.twice, class_means=torch.rand(5, 6)).attribute(images, 1)


def test_they_are_what_captum_takes_them_for(net):
    layer, gradient = LayerClassSelectivity(net, net.relu), ClassSelectivity(net, net.relu)
    assert isinstance(layer, LayerAttribution)
    assert not isinstance(layer, GradientAttribution)
    assert isinstance(gradient, GradientAttribution)
    assert not isinstance(gradient, LayerAttribution)
    assert layer.multiplies_by_inputs
    assert gradient.multiplies_by_inputs
    assert not layer.has_convergence_delta()
    assert LayerClassSelectivity.get_name() == "Layer Class Selectivity"
