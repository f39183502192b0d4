"""The registry's perturbations under Captum's robustness tools: numbers by hand, Captum's own beside, and no trace."""

from __future__ import annotations

import contextlib
import copy

import pytest
import torch
from torch import nn

pytest.importorskip("captum")
pytest.importorskip("torchattacks")

from captum.robust import FGSM, AttackComparator, MinParamPerturbation
from selplug_captum.robust import RegistryPerturbation

from selplug.core.errors import InputError, PluginError
from selplug.core.model.unit_range import UnitRangeModel
from selplug.core.perturb import batch_seed, run_perturbation
from selplug.specs.perturbing import perturbation

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


@pytest.fixture
def model():
    """Linear, two classes, all logits below zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    network[1].bias.data -= 9
    return network.eval()


@pytest.fixture
def images():
    """Far enough from 0 and 1 that no attack here is clipped."""
    return 0.5 + 0.2 * (torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(1)) - 0.5)


def normalize(images: torch.Tensor) -> torch.Tensor:
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def smallest_eps(model: nn.Module, image: torch.Tensor, normalized: bool = False) -> float:
    """Where FGSM flips a linear model of two classes: margin / L1 norm of the difference of the weights."""
    weight = (model[1].weight[0] - model[1].weight[1]).view_as(image)
    if normalized:
        image, weight = normalize(image), weight / torch.tensor(STD).view(3, 1, 1)
    logits = model(image[None]).detach()[0]
    return float((logits[0] - logits[1]).abs() / weight.abs().sum().detach())


@pytest.mark.parametrize("mode", ["linear", "binary"])
def test_the_smallest_eps_that_flips_an_image(model, images, mode):
    labels = model(images).argmax(1)
    for image, label in zip(images, labels, strict=True):
        search = MinParamPerturbation(
            model, RegistryPerturbation(model, "fgsm"), "eps", arg_min=0.0, arg_max=0.5, arg_step=0.001, mode=mode
        )
        adversarial, eps = search.evaluate(image[None], target=label, attack_kwargs={"target": label})
        expected = smallest_eps(model, image)
        assert expected <= eps + 1e-6
        assert eps <= expected + 0.0011
        assert int(model(adversarial).argmax()) != int(label)
        assert torch.allclose((adversarial - image).abs(), torch.full_like(image, eps), atol=1e-6)


@pytest.mark.parametrize("before", [True, False])
def test_before_and_after_the_preprocessing_the_answer_is_the_same(model, images, before):
    label = model(normalize(images[:1])).argmax(1)
    search = MinParamPerturbation(
        model,
        RegistryPerturbation(model, "fgsm", normalize=(MEAN, STD), normalized_inputs=not before),
        "eps",
        arg_min=0.0,
        arg_max=0.5,
        arg_step=0.001,
        preproc_fn=normalize,
        apply_before_preproc=before,
    )
    _, eps = search.evaluate(images[:1], target=label, attack_kwargs={"target": label})
    assert eps == pytest.approx(smallest_eps(model, images[0], normalized=True), abs=0.0011)


def test_on_negative_logits_ours_raises_the_loss_and_captums_lowers_it(model, images):
    labels = model(images).argmax(1)

    def loss(inputs: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(model(inputs), labels, reduction="none")

    theirs = FGSM(model, lower_bound=0, upper_bound=1).perturb(images.clone().requires_grad_(), 0.02, labels)
    ours = RegistryPerturbation(model, "fgsm:eps=0.02").perturb(images, labels)
    assert (loss(theirs) < loss(images)).all()
    assert (loss(ours) > loss(images)).all()
    # with a loss of ours they agree, so the direction is all that differs
    right = FGSM(model, nn.CrossEntropyLoss(reduction="none"), lower_bound=0, upper_bound=1)
    torch.testing.assert_close(ours, right.perturb(images.clone().requires_grad_(), 0.02, labels).detach())


def test_a_comparator_counts_what_audits_count(model, images):
    labels = model(images).argmax(1)
    compare = AttackComparator(model, lambda logits, target: (logits.argmax(1) == target).float())
    for name, spec, attempts in (("pgd", "pgd:eps=0.1,steps=3", 1), ("noise", "gaussian-noise:std=0.3", 3)):
        arguments = {"additional_attack_arg_names": ["target"]} if name == "pgd" else {}
        compare.add_attack(RegistryPerturbation(model, spec, seed=5), name, num_attempts=attempts, **arguments)
    found = compare.evaluate(images, target=labels, perturbations_per_eval=2)
    wrapped = UnitRangeModel(model, None, 2)

    def right(spec: str, call: int) -> torch.Tensor:
        asked = perturbation(spec)
        attack = asked.factory(wrapped, **asked.options)
        done = run_perturbation(wrapped, attack, images, labels, seed=batch_seed(5, call))
        return (model(done.images).argmax(1) == labels).float()

    assert torch.equal(found["pgd"]["mean"], right("pgd:eps=0.1,steps=3", 0))
    attempts = torch.stack([right("gaussian-noise:std=0.3", call) for call in range(3)])
    assert not torch.equal(attempts[0], attempts[1])  # attempts differ
    torch.testing.assert_close(found["noise"]["mean"], attempts.mean(0))
    assert torch.equal(found["noise"]["min"], attempts.amin(0))


def test_a_tuple_comes_back_as_a_tuple(model, images):
    attack = RegistryPerturbation(model, "fgsm")
    (perturbed,) = attack((images,), target=0)
    torch.testing.assert_close(perturbed, attack(images, target=torch.zeros(4, dtype=torch.long)))


def test_no_trace(model, images):
    network = nn.Sequential(model[0], nn.Linear(12, 12), nn.BatchNorm1d(12), model[1]).train()
    network[2].eval()
    network[1].weight.grad = torch.ones(12, 12)
    before, flags = copy.deepcopy(network.state_dict()), [m.training for m in network.modules()]
    state = torch.get_rng_state()
    attack = RegistryPerturbation(network, "pgd:steps=2")
    for wanted, target in ((None, 0), (InputError, None), (InputError, 2)):
        with pytest.raises(wanted) if wanted else contextlib.nullcontext():
            attack(images, target)
        assert [m.training for m in network.modules()] == flags
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
        assert torch.equal(network[1].weight.grad, torch.ones(12, 12))
        assert all(p.requires_grad for p in network.parameters())
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: RegistryPerturbation(m, "fgsm")(x), "needs the true classes.*additional_attack_arg_names"),
        (lambda m, x: RegistryPerturbation(m, "fgsm")(x, 0, epsilon=0.1), "no option 'epsilon'"),
        (lambda m, x: RegistryPerturbation(m, "fgsm")(x, [0, 1]), r"\(4,\) of them"),
        (lambda m, x: RegistryPerturbation(m, "fgsm")(x, 0.5), "class number"),
        (lambda m, x: RegistryPerturbation(m, "fgsm")(x, 2), "from 0 to 1, got 2 to 2"),
        (lambda m, x: RegistryPerturbation(m, "fgsm")((x, x), 0), "2 inputs"),
        (lambda m, x: RegistryPerturbation(m, "fgsm")(3 * x, 0), r"in \[0, 1\]"),
        (lambda m, x: RegistryPerturbation(m, "fgsm", normalize=(MEAN, STD), normalized_inputs=True)(9 * x, 0), "0, 1"),
        (lambda m, x: RegistryPerturbation(m, "fgsm", normalized_inputs=True), "give normalize"),
        (lambda m, x: RegistryPerturbation(lambda y: y, "fgsm"), "nn.Module, got function"),
    ],
)
def test_mistakes_are_told(model, images, call, message):
    with pytest.raises(InputError, match=message):
        call(model, images)


def test_an_unknown_name_is_told(model):
    with pytest.raises(PluginError, match="did you mean fgsm"):
        RegistryPerturbation(model, "fgms")
