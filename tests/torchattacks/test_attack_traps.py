"""Traps of torchattacks 3.5.1. Where it is cheap, a test first shows the library's own behaviour."""

from __future__ import annotations

import gc
import inspect
import weakref

import pytest
import selplug_torchattacks as ours
import torch
import torchattacks
from selplug_torchattacks.repairs import margins
from torch import Tensor, nn

from selplug.core.errors import InputError, PerturbationError
from selplug.core.model.unit_range import UnitRangeModel
from selplug.core.perturb import run_perturbation


def right(model: nn.Module, pixels: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((model(pixels).argmax(1) == labels).float().mean())


@pytest.fixture
def model(tiny):
    return tiny()


@pytest.fixture
def labels(model, images, label):
    return label(model, images)


class FailsLater(nn.Module):
    """Raises on its second call and after."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.calls = net, 0

    def forward(self, pixels: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > 1:
            raise RuntimeError("out of memory")
        return self.net(pixels)


def with_frozen_batchnorm(net: nn.Module) -> nn.Module:
    net.train()
    next(m for m in net.modules() if isinstance(m, nn.BatchNorm2d)).eval()
    return net


def modes(net: nn.Module) -> list[bool]:
    return [module.training for module in net.modules()]


def test_an_error_in_the_middle_leaves_no_trace(model, images, labels):
    raw = FailsLater(with_frozen_batchnorm(model))
    with pytest.raises(RuntimeError, match="out of memory"):
        torchattacks.PGD(raw)(images, labels)
    assert not raw.net.training, "torchattacks left it in eval mode"

    net = FailsLater(with_frozen_batchnorm(model))
    before, generator = modes(net), torch.get_rng_state()
    wrapped = UnitRangeModel(net, None, 10)
    with pytest.raises(RuntimeError, match="out of memory"):
        run_perturbation(wrapped, ours.apgd(wrapped), images, labels)
    assert modes(net) == before
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def test_a_frozen_batchnorm_stays_frozen_without_the_runner_too(model, images, labels):
    net = with_frozen_batchnorm(model)
    before = modes(net)
    torchattacks.FGSM(net)(images, labels)
    assert modes(net) != before, "torchattacks woke the batch norm"
    net = with_frozen_batchnorm(model)
    ours.fgsm(net)(images, labels)
    assert modes(net) == before


@pytest.mark.parametrize("name", ["eadl1", "fab", "pifgsm", "jsma", "deepfool", "cw"])
def test_no_gradients_pile_up_in_the_parameters(name, model, images, labels):
    if name == "eadl1":
        torchattacks.EADL1(model, max_iterations=10, binary_search_steps=1)(images, labels)
        assert any(p.grad is not None for p in model.parameters()), "torchattacks left gradients"
        model.zero_grad(set_to_none=True)
    options = {"eadl1": {"binary_search_steps": 1, "max_iterations": 2}, "jsma": {"gamma": 0.01}}.get(name, {})
    getattr(ours, name)(model, **options)(images[:2], labels[:2])
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", ["apgd", "square", "autoattack"])
def test_batches_differ_in_their_noise_and_repeat_with_their_seed(name, model, images, labels, monkeypatch):
    monkeypatch.setattr(ours.ensemble, "STEPS", 3)
    monkeypatch.setattr(ours.ensemble, "QUERIES", 10)
    if name == "apgd":
        raw = torchattacks.APGD(model, eps=0.2, steps=2)
        with torch.random.fork_rng():
            found = [raw(images, labels) for seed in (1, 2) if torch.manual_seed(seed)]
            state = torch.get_rng_state()
            torch.manual_seed(2)
            assert torch.equal(found[0], found[1]), "torchattacks gave both batches the same noise"
            assert not torch.equal(state, torch.get_rng_state()), "and reseeded the global generator"
    options = {"square": {"n_queries": 10}, "apgd": {"steps": 2}}.get(name, {})
    perturb = getattr(ours, name)(model, eps=0.2, **options)
    generator = torch.get_rng_state()
    runs = [run_perturbation(model, perturb, images, labels, seed=seed).images for seed in (1, 2, 1)]
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(runs[0], runs[2])
    assert not torch.equal(runs[0], runs[1])


def test_without_the_runner_the_generator_moves_on_and_is_not_reset(model, images, labels):
    perturb = ours.square(model, n_queries=10, eps=0.3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        states = [torch.get_rng_state()]
        for _ in range(2):
            perturb(images, labels)
            states.append(torch.get_rng_state())
    assert not torch.equal(states[0], states[1])
    assert not torch.equal(states[1], states[2])


@pytest.mark.parametrize(("name", "options"), [("cw", {}), ("upgd", {"loss": "margin"})])
def test_negative_logits_are_attacked_like_any(name, options, tiny, images, label):
    model = tiny(shift=-1000.0)
    labels = label(model, images)
    raw = getattr(torchattacks, name.upper())(model, **options)
    assert right(model, raw(images, labels), labels) == 1.0, "torchattacks reports a robust model"
    result = run_perturbation(model, getattr(ours, name)(model, **options), images, labels)
    assert right(model, result.images, labels) == 0.0


@pytest.mark.parametrize("name", ["cw", "eadl1", "eaden"])
def test_only_differences_of_logits_matter(name, tiny, images, label):
    options = {} if name == "cw" else {"initial_const": 0.1, "max_iterations": 20, "binary_search_steps": 3}
    sizes = []
    for shift in (0.0, -64.0):
        model = tiny(shift=shift)
        labels = label(model, images)
        sizes.append(run_perturbation(model, getattr(ours, name)(model, **options), images, labels).l2)
        assert (sizes[-1] > 0).all()
    assert torch.allclose(*sizes, rtol=0.05)


def test_margins_of_any_sign():
    logits = torch.tensor([[3.0, 1.0, 2.0], [-3.0, -1.0, -2.0], [-1e9, 5.0, 4.0]])
    assert margins(logits, torch.tensor([0, 0, 1])).tolist() == [1.0, -2.0, 1.0]


def test_cw_moves_pixels_at_0_and_1(model):
    pixels = torch.zeros(2, 3, 16, 16)
    pixels[1] = 1
    with torch.no_grad():
        labels = model(pixels).argmax(1)
    assert torch.equal(torchattacks.CW(model, lr=0.5, c=10)(pixels, labels), pixels), "torchattacks moves none"
    result = run_perturbation(model, ours.cw(model, lr=0.5, c=10), pixels, labels)
    assert (result.linf > 0.001).all()


def test_cw_and_ead_leave_what_they_cannot_change_exactly_as_it_was(model, images, labels):
    for perturb in (
        ours.cw(model, c=1e-9, steps=3),
        ours.eadl1(model, initial_const=1e-9, max_iterations=2, binary_search_steps=1),
    ):
        assert torch.equal(run_perturbation(model, perturb, images, labels).images, images)


EAD = {"initial_const": 1, "max_iterations": 20, "binary_search_steps": 3, "kappa": 0.5}


@pytest.mark.parametrize(("name", "options"), [("cw", {}), ("eadl1", EAD), ("eaden", EAD)])
def test_a_sample_does_not_depend_on_its_batch(name, options, model, images, labels):
    def apart(attack):
        whole = attack(images, labels)
        alone = torch.cat([attack(images[i : i + 1], labels[i : i + 1]) for i in range(len(images))])
        return float((whole - alone).abs().max())

    assert apart(getattr(torchattacks, name.upper())(model, **options)) > 1e-2, "in torchattacks it does"
    assert apart(getattr(ours, name)(model, **options)) < 1e-3


@pytest.mark.parametrize("name", ["EADL1", "EADEN"])
def test_ead_stays_in_range_and_runs_with_few_iterations(name, model, images, labels):
    outside = getattr(torchattacks, name)(model, initial_const=1.0, max_iterations=20, binary_search_steps=2)
    assert outside(images, labels).min() < -1e-4, "torchattacks moves the clean images it measures from"
    options = {"initial_const": 1.0, "max_iterations": 20, "binary_search_steps": 2}
    result = getattr(ours, name.lower())(model, **options)(images, labels)
    assert float(result.min()) >= 0
    assert float(result.max()) <= 1

    with pytest.raises(ZeroDivisionError):
        getattr(torchattacks, name)(model, max_iterations=5)(images, labels)
    getattr(ours, name.lower())(model, max_iterations=5, binary_search_steps=1)(images, labels)


def test_deepfool_ends_beyond_the_boundary_and_not_on_it(model):
    pixels = torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(1)).mul(1.2).sub(0.1).clamp(0, 1)
    with torch.no_grad():
        labels = model(pixels).argmax(1)
    raw = torchattacks.DeepFool(model)(pixels, labels)
    assert right(model, raw, labels) > 0.2, "torchattacks: rounding decides"
    result = run_perturbation(model, ours.deepfool(model), pixels, labels)
    assert right(model, result.images, labels) == 0.0
    assert result.l2.mean() < 1.03 * (raw - pixels).flatten(1).norm(dim=1).mean()


@pytest.mark.parametrize("name", ["deepfool", "apgd", "fab", "square", "sparsefool"])
def test_wrongly_classified_images_are_left_alone(name, model, images, labels):
    wrong = (labels + 1) % 10
    assert torch.equal(run_perturbation(model, getattr(ours, name)(model), images, wrong).images, images)


def test_jsma_aims_at_a_class_that_exists(tiny, images, label):
    model = tiny(3)
    labels = torch.full_like(label(model, images), 2)
    with pytest.raises(IndexError):
        torchattacks.JSMA(model, gamma=0.01)(images, labels)
    run_perturbation(model, ours.jsma(model, gamma=0.01), images, labels)


def test_targets_are_as_many_as_the_model_allows(tiny):
    for num_classes, expected in ((4, 3), (10, 9), (100, 9)):
        model = UnitRangeModel(nn.Sequential(nn.Flatten(), nn.Linear(768, num_classes)), None, num_classes)
        assert ours.apgdt(model)._attack.n_target_classes == expected
        assert ours.fab(model, multi_targeted=True)._attack.n_target_classes == expected
        assert ours.apgdt.describe({}, num_classes)["targets"] == expected
    assert torchattacks.APGDT(tiny(), n_classes=100).n_target_classes == 99


def test_norms_that_the_library_names_and_fails_on(model, images, labels):
    with pytest.raises(UnboundLocalError):
        torchattacks.FAB(model, norm="L1", eps=5.0, steps=2)(images, labels)
    with pytest.raises(InputError, match="expected one of Linf, L2"):
        ours.fab(model, norm="L1")


def test_gaussian_is_spelt_as_it_is(model, images, labels):
    with pytest.raises(UnboundLocalError):
        torchattacks.PGDRS(model, noise_type="gaussian")(images, labels)
    assert inspect.signature(ours.pgdrs).parameters["noise_type"].default == "gaussian"
    run_perturbation(model, ours.pgdrs(model, noise_type="gaussian", steps=2), images, labels)


class Plain(nn.Module):
    """No parameters, no buffers, no num_classes."""

    def forward(self, pixels: Tensor) -> Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(pixels, 2).flatten(1)
        return torch.stack([pooled[:, 0::2].sum(1), pooled[:, 1::2].sum(1), pooled[:, :3].sum(1)], 1)


def test_a_model_without_parameters_prints_nothing(images, label, capsys):
    model = Plain()
    labels = label(model, images)
    torchattacks.FGSM(model)
    assert "Failed to set device" in capsys.readouterr().out
    for perturb in (ours.fgsm(model), ours.fab(model, steps=2), ours.apgd(model, steps=2)):
        run_perturbation(model, perturb, images, labels)
    assert capsys.readouterr() == ("", "")


def test_classes_are_counted_on_the_first_batch_where_the_model_does_not_say(images):
    labels = torch.zeros(len(images), dtype=torch.int64)
    with pytest.raises(InputError, match="apgdt: expected a model of at least 4 classes, got 3"):
        ours.apgdt(Plain())(images, labels)
    assert ours.fab(Plain(), multi_targeted=True, steps=2)(images, labels).shape == images.shape


class RobModel(nn.Module):
    """torchattacks takes any class of this name to want its own normalization."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.mean, self.std = torch.full((3,), 0.5), torch.full((3,), 0.5)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.net(pixels)


def test_no_normalization_is_ever_added(model, images, labels):
    assert torchattacks.FGSM(RobModel(model)).normalization_used is not None
    assert torch.equal(ours.fgsm(RobModel(model))(images, labels), ours.fgsm(model)(images, labels))


def test_the_range_is_checked_where_torchattacks_clips_silently(model, images, labels):
    raw = torchattacks.FGSM(model, eps=0.03)(images * 3, labels)
    assert (raw - images * 3).abs().max() > 1
    with pytest.raises(InputError, match=r"expected images in \[0, 1\]"):
        run_perturbation(model, ours.fgsm(model), images * 3, labels)


class Flat(nn.Module):
    """Logits that do not depend on the image, with a gradient of zero."""

    num_classes = 3

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.tensor([2.0, 1.0, 0.0]) + 0 * pixels.flatten(1)[:, :3]


def test_values_that_are_not_finite_are_replaced_with_a_warning(images, caplog):
    labels = torch.zeros(len(images), dtype=torch.int64)
    assert torchattacks.DeepFool(Flat(), steps=2)(images, labels).isnan().any()
    result = run_perturbation(Flat(), ours.deepfool(Flat(), steps=2), images, labels)
    assert torch.equal(result.images, images)
    assert "deepfool returned values that are not finite for 5 of 5 images" in caplog.text


def test_long_runs_are_announced(caplog):
    model = UnitRangeModel(nn.Sequential(nn.Flatten(), nn.Linear(768, 100)), None, 100)
    ours.deepfool(model)
    assert "deepfool processes images one by one, with a backward pass for each of 100 classes" in caplog.text


SHAPES = [
    ("tifgsm", {}, (1, 16, 16), "tifgsm: expected images of 3 channels, got 1"),
    ("pifgsm", {}, (4, 16, 16), "pifgsm: expected images of 3 channels, got 4"),
    ("difgsm", {}, (3, 16, 20), "difgsm: expected square images, got 16 x 20"),
    ("pixle", {}, (3, 16, 20), "pixle: expected square images"),
    ("square", {"norm": "L2"}, (3, 16, 20), "square: expected square images"),
    ("square", {"norm": "L2"}, (3, 4, 4), "square with norm=L2: expected images of at least 5 x 5, got 4 x 4"),
    ("jsma", {}, (3, 224, 224), "jsma: expected at most 16384 values per image, got 150528: .* 91 GB per matrix"),
]


@pytest.mark.parametrize(("name", "options", "shape", "message"), SHAPES)
def test_images_that_an_attack_cannot_handle(name, options, shape, message):
    pixels = torch.rand(2, *shape)
    model = UnitRangeModel(nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.LazyLinear(3)), None, 3)
    model(pixels)
    with pytest.raises(InputError, match=message):
        run_perturbation(model, getattr(ours, name)(model, **options), pixels, torch.zeros(2, dtype=torch.int64))


def test_labels_of_another_integer_type(model, images, labels):
    perturb = ours.pgd(model, random_start=False)
    assert torch.equal(perturb(images, labels.to(torch.int32)), perturb(images, labels))


@pytest.mark.parametrize("name", ["pgd", "cw", "eadl1", "upgd", "jsma", "deepfool", "autoattack", "sparsefool"])
def test_nothing_holds_the_model_afterwards(name, images):
    model = UnitRangeModel(nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 4)), None, 4)
    reference = weakref.ref(model)
    perturb = getattr(ours, name)(model)
    if name in ("pgd", "deepfool"):
        run_perturbation(model, perturb, images, torch.zeros(5, dtype=torch.int64))
    del model, perturb
    gc.collect()
    assert reference() is None


def test_the_attack_is_built_once(model, images, labels):
    perturb = ours.pgd(model)
    attack = perturb._attack
    perturb(images, labels)
    assert perturb._attack is attack is not None


def test_what_a_broken_attack_gives_is_refused(model, images, labels):
    class Widens(torchattacks.VANILA):
        def forward(self, pixels: Tensor, labels: Tensor | None = None) -> Tensor:
            return pixels * 2

    perturb = ours.factory.AttackFactory("widens", Widens)(model)
    with pytest.raises(PerturbationError, match=r"widens: expected finite pixels in \[0, 1\]"):
        run_perturbation(model, perturb, images, labels, name="widens")
