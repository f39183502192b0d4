"""AutoAttack runs with its authors' settings, and says which."""

from __future__ import annotations

import json

import pytest
import selplug_torchattacks as ours
import torch
import torchattacks
from selplug_torchattacks import ensemble

from selplug.core.perturb import run_perturbation


def built(model, **options):
    """``(class name, object)`` of every part, in order."""
    attack = ours.autoattack(model, **options)._attack
    return [(type(part).__name__, part) for part in getattr(attack, "attacks", [attack])]


def test_standard_settings(tiny):
    parts = built(tiny(), eps=0.1, norm="L2")
    assert [name for name, _ in parts] == ["APGD", "APGDT", "FAB", "Square"]
    apgd, apgd_t, fab, square = (part for _, part in parts)
    assert (apgd.loss, apgd.steps, apgd.n_restarts, apgd.thr_decr, apgd.eot_iter) == ("ce", 100, 1, 0.75, 1)
    assert (apgd_t.steps, apgd_t.n_target_classes, apgd_t.n_restarts) == (100, 9, 1)
    assert (fab.steps, fab.n_target_classes, fab.multi_targeted, fab.n_restarts) == (100, 9, True, 1)
    assert (square.n_queries, square.p_init, square.loss, square.rescale_schedule) == (5000, 0.8, "margin", False)
    assert all((part.eps, part.norm, part.verbose) == (0.1, "L2", False) for _, part in parts)

    theirs = torchattacks.AutoAttack(tiny())._autoattack.attacks
    assert [part.steps for part in theirs[:3]] == [10, 10, 10], "torchattacks: a tenth of the steps"
    assert theirs[3].rescale_schedule


def test_plus_and_rand_settings(tiny):
    plus = built(tiny(), version="plus")
    assert [name for name, _ in plus] == ["APGD", "APGD", "FAB", "Square", "APGDT", "FAB"]
    assert [part.n_restarts for _, part in plus] == [5, 5, 5, 1, 1, 1]
    assert [part.multi_targeted for name, part in plus if name == "FAB"] == [False, True]
    rand = built(tiny(), version="rand")
    assert [(name, part.loss, part.eot_iter, part.n_restarts) for name, part in rand] == [
        ("APGD", "ce", 20, 1),
        ("APGD", "dlr", 20, 1),
    ]


LEFT_OUT = [
    ("standard", 2, ["apgd-t (needs 4 classes)"]),
    ("standard", 3, ["apgd-t (needs 4 classes)"]),
    ("standard", 4, []),
    ("plus", 2, ["apgd-dlr (needs 3 classes)", "apgd-t (needs 4 classes)"]),
    ("rand", 2, ["apgd-dlr (needs 3 classes)"]),
    ("rand", 3, []),
]


@pytest.mark.parametrize(("version", "num_classes", "left_out"), LEFT_OUT)
def test_parts_that_need_more_classes_are_left_out_and_named(version, num_classes, left_out, tiny):
    described = ours.autoattack.describe({"version": version}, num_classes)
    assert described["left_out"] == left_out
    assert len(described["parts"]) == len(built(tiny(num_classes), version=version))
    fab = [part for part in described["parts"] if part["name"] == "fab-t"]
    assert all(part["targets"] == min(9, num_classes - 1) for part in fab)


def test_few_classes_fail_in_torchattacks_and_work_here(tiny, images, label, monkeypatch):
    monkeypatch.setattr(ensemble, "STEPS", 3)
    monkeypatch.setattr(ensemble, "QUERIES", 10)
    for num_classes in (2, 3):
        model = tiny(num_classes)
        labels = label(model, images)
        with pytest.raises(IndexError):
            torchattacks.AutoAttack(model, n_classes=num_classes, eps=1e-4)(images, labels)
        run_perturbation(model, ours.autoattack(model, eps=1e-4), images, labels)


def test_the_settings_in_force_are_described_ready_for_json():
    described = ours.autoattack.describe({"eps": 0.1}, 100)
    assert json.loads(json.dumps(described)) == {
        "norm": "Linf",
        "eps": 0.1,
        "version": "standard",
        "parts": [
            {"name": "apgd-ce", "loss": "ce", "steps": 100, "n_restarts": 1, "eot_iter": 1},
            {"name": "apgd-t", "steps": 100, "n_restarts": 1, "targets": 9},
            {"name": "fab-t", "steps": 100, "n_restarts": 1, "targets": 9},
            {"name": "square", "n_queries": 5000, "n_restarts": 1, "resc_schedule": False},
        ],
        "left_out": [],
    }


def test_other_attacks_describe_what_is_no_option():
    assert ours.pgd.describe({"steps": 20.0}, 10) == {
        "eps": 8 / 255,
        "alpha": 2 / 255,
        "steps": 20,
        "random_start": True,
    }
    assert ours.cw.describe({}, 10)["early_stop"] is False
    assert ours.jsma.describe({}, 3)["target"] == "(label + 1) modulo 3"
    assert "targets" not in ours.fab.describe({}, 10)


def test_parts_get_seeds_of_their_own(tiny, images, label):
    model = tiny()
    perturb = ours.autoattack(model, version="rand", eps=1e-4)
    perturb._attack.attacks[0].steps = perturb._attack.attacks[1].steps = 1
    run_perturbation(model, perturb, images, label(model, images))
    seeds = {part.seed for part in perturb._attack.attacks}
    assert len(seeds) == 2
    assert all(isinstance(seed, int) for seed in seeds)


def test_it_is_no_weaker_than_pgd(tiny, images, label, monkeypatch):
    monkeypatch.setattr(ensemble, "QUERIES", 100)
    model = tiny()
    labels = label(model, images)
    survivors = {}
    for name, options in (("pgd", {"steps": 20, "eps": 0.002, "alpha": 0.0005}), ("autoattack", {"eps": 0.002})):
        result = run_perturbation(model, getattr(ours, name)(model, **options), images, labels)
        with torch.no_grad():
            survivors[name] = int((model(result.images).argmax(1) == labels).sum())
    assert 0 < survivors["autoattack"] <= survivors["pgd"]
