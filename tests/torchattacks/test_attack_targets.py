"""Targeted runs: which class, whether it is reached, and what is left alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchattacks
from selplug_torchattacks.repairs import REPAIRS
from selplug_torchattacks.targets import TARGETED, choose_targets

import selplug
from selplug.core.model.state import seeded
from selplug.core.perturb import run_perturbation
from selplug.specs.perturbing import perturbation

#: Options with which the attack reaches some target on the tiny model.
STRONG = {
    "cw": "steps=200,lr=0.1,c=10",
    "eaden": "binary_search_steps=3,max_iterations=30,initial_const=1,lr=0.1",
    "eadl1": "binary_search_steps=3,max_iterations=30,initial_const=1,lr=0.1",
    "jsma": "gamma=0.1",
    "onepixel": "pixels=40,steps=4,popsize=10",
    "pgdl2": "eps=3,alpha=0.5,steps=20",
    "pgdrsl2": "eps=3,noise_sd=0.01,steps=10",
    "pgdrs": "eps=0.1,alpha=0.02,noise_sd=0.01,steps=10",
    "pifgsmpp": "max_epsilon=0.2",
    "pixle": "restarts=20,max_iterations=20",
    "spsa": "eps=0.2,nb_iter=20,lr=0.05,nb_sample=64",
    "square": "eps=0.2,n_queries=300",
}


def spec_of(name: str, target: object) -> str:
    return f"{name}:{STRONG.get(name, 'eps=0.15')},target={target}"


def test_every_attack_with_a_targeted_mode_has_the_option(tiny):
    names = {name.lower(): name for name in torchattacks.__all__ if name not in torchattacks.__wrapper__}
    modes = {name: getattr(torchattacks, attack)(tiny()).supported_mode for name, attack in names.items()}
    assert {name for name, mode in modes.items() if "targeted" in mode} - {"fab"} == TARGETED


@pytest.mark.parametrize("name", sorted(TARGETED))
def test_targets_are_reached_and_their_own_samples_left_alone(name, tiny, images, label, capfd):
    model = tiny()
    labels = label(model, images)
    target = int(label(model, torch.full_like(images[:1], 0.9)))
    labels[0] = target
    found = perturbation(spec_of(name, target))
    perturb = found.factory(model, **found.options)
    result = run_perturbation(model, perturb, images, labels, seed=3, name=name)
    assert result.targets.tolist() == [target] * 5
    assert torch.equal(result.images[0], images[0])
    with torch.no_grad():
        before, after = (model(x)[1:].softmax(1)[:, target] for x in (images, result.images))
    assert after.mean() > before.mean()
    assert capfd.readouterr() == ("", "")


REACHES = ["bim", "cw", "eaden", "eadl1", "fgsm", "jsma", "mifgsm", "pgd", "pgdl2", "square", "upgd:loss=margin"]


@pytest.mark.parametrize("spec", REACHES)
def test_a_strong_attack_arrives(spec, tiny, images, label):
    model = tiny()
    labels = label(model, images)
    name, _, more = spec.partition(":")
    found = perturbation(spec_of(name, "least-likely") + (f",{more}" if more else ""))
    result = run_perturbation(model, found.factory(model, **found.options), images, labels, seed=3)
    with torch.no_grad():
        hits = model(result.images).argmax(1) == result.targets
        assert torch.equal(result.targets, model(images).argmin(1))
    assert hits.float().mean() >= (0.2 if name in ("fgsm", "jsma") else 0.8)


BY_HAND = [
    "pgd:steps=3",
    "fgsm",
    "mifgsm:steps=3",
    "difgsm:steps=3",
    "pgdl2:steps=3",
    "spsa:nb_sample=8",
    "jitter:steps=3",
]


@pytest.mark.parametrize("spec", BY_HAND)
def test_unrepaired_attacks_equal_the_targeted_mode_of_torchattacks(spec, tiny, images, label):
    model = tiny()
    labels = label(model, images)
    target = next(c for c in range(10) if c not in labels)
    joined = f"{spec}{',' if ':' in spec else ':'}target={target}"
    found = perturbation(joined)
    name = joined.partition(":")[0]
    assert name not in REPAIRS
    ours = run_perturbation(model, found.factory(model, **found.options), images, labels, seed=7).images
    by_name = {each.lower(): each for each in torchattacks.__all__}
    options = {k: int(v) if k == "steps" else v for k, v in found.options.items() if k != "target"}
    raw = getattr(torchattacks, by_name[name])(tiny(), **options)
    raw.set_mode_targeted_by_label(quiet=True)
    with seeded(7, images.device):
        theirs = raw(images, torch.full_like(labels, target)).clamp(0, 1)
    assert torch.equal(ours, theirs)


def test_the_least_likely_class_is_that_of_a_loop(tiny, images, label):
    model = tiny()
    labels = label(model, images)
    labels[1] = int(model(images)[1].argmin())  # the least likely one is the label itself
    found = choose_targets(model, images, labels, "least-likely")
    logits = model(images).detach().numpy()
    for n, given in enumerate(labels.tolist()):
        assert found[n] == min((c for c in range(10) if c != given), key=lambda c: logits[n, c])


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_random_classes_are_others_and_equally_likely(num_classes, tiny):
    pixels = torch.rand(1, 3, 16, 16).expand(2000, -1, -1, -1)
    labels = torch.arange(2000) % num_classes
    with seeded(0, labels.device):
        found = choose_targets(tiny(num_classes), pixels, labels, "random")
    assert (found != labels).all()
    shift = np.bincount(((found - labels) % num_classes).numpy(), minlength=num_classes)
    assert shift[0] == 0
    expected = 2000 / (num_classes - 1)
    assert (np.abs(shift[1:] - expected) < 5 * np.sqrt(expected)).all()


def test_random_targets_are_those_of_the_seed(tiny, images, label):
    model = tiny()
    found = perturbation("pgd:target=random,steps=2")
    perturb = found.factory(model, **found.options)
    runs = [run_perturbation(model, perturb, images, label(model, images), seed=s).targets.tolist() for s in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_the_report_says_how_often_the_target_was_hit(tiny, images, label):
    labels = label(tiny(), images)
    spec = "pgd:eps=0.15,steps=20,target=least-likely"
    report = selplug.audit(tiny().model, [(images, labels)], ["pgd", spec], ["selectivity"], progress=False)
    plain, aimed = report.to_dict()["conditions"][1:]
    assert plain["targeted"] is None
    assert aimed["targeted"]["samples"] == 5
    assert aimed["targeted"]["success"] > 0
    assert aimed["accuracy"] <= 1 - aimed["targeted"]["success"]
    assert report.to_dict()["settings"]["perturbations"][1]["options"]["target"] == "least-likely"
    assert "target" not in report.to_dict()["settings"]["perturbations"][0]["options"]
    assert "target hit" in report.summary()
