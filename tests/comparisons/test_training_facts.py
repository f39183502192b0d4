"""Which networks differ in the seed alone, in the regularizer, in adversarial training, or in more."""

from __future__ import annotations

import pytest
from sample_comparison import trained_report, with_subject

from selplug.comparisons.sources import Source
from selplug.comparisons.training_facts import trainings
from selplug.core.errors import InputError


def of(*reports, groups=(), robust=()):
    labels = [*groups, *[""] * (len(reports) - len(groups))]
    return trainings([Source(f"r{i}", r, g) for i, (r, g) in enumerate(zip(reports, labels, strict=True))], robust)


def test_groups_are_seeds_and_families_differ_in_the_regularizer():
    found = of(
        trained_report(seed=0),
        trained_report(seed=1, flags={"output": "elsewhere", "workers": 9, "wandb_project": "x", "device": "cuda"}),
        trained_report(alpha=-1, seed=0, flags={"selectivity_ema": 0.9}),
        trained_report(seed=0, flags={"lr": 0.2}),
        trained_report(seed=0, adversarial="ffgsm:eps=4/255"),
    )
    groups = [training.group for training in found]
    assert groups == [
        "alpha 0, lr 0.1",
        "alpha 0, lr 0.1",
        "alpha -1, selectivity ema 0.9, lr 0.1",
        "alpha 0, lr 0.2",
        "alpha 0, adversarial ffgsm:eps=4/255, lr 0.1",
    ]
    assert found[0].family == found[1].family == found[2].family
    assert len({training.family for training in found}) == 3
    assert [training.alpha for training in found] == [0, 0, -1, 0, 0]
    assert [training.robust for training in found] == [False, False, False, False, True]
    assert [training.seed for training in found] == [0, 1, 0, 0, 0]
    assert found[0].but_for_robustness == found[4].but_for_robustness != found[2].but_for_robustness


def test_names_say_what_sets_groups_apart():
    found = of(trained_report(alpha=-1), trained_report(), trained_report(adversarial="pgd:eps=8/255"))
    assert [t.group for t in found] == ["alpha -1", "alpha 0", "alpha 0, adversarial pgd:eps=8/255"]


def test_the_name_of_a_report_where_flags_would_be_too_long():
    found = of(trained_report(flags={"note": "x" * 90}), trained_report(flags={"note": "y"}))
    assert [t.group for t in found] == ["r0", "note y"]


def test_training_on_noise_is_not_robust():
    assert of(trained_report(adversarial="gaussian-noise:std=0.1"))[0].robust is False
    assert of(trained_report(adversarial="trades:eps=8/255"))[0].robust is True
    assert of(trained_report(adversarial="an-attack-not-installed"))[0].robust is True


def test_unknown_trainings():
    reports = [trained_report(told=False), trained_report(told=False, seed=1)]
    found = of(*reports)
    assert [t.group for t in found] == ["r0", "r1"]
    assert found[0].family == found[1].family
    assert [(t.arguments, t.robust, t.alpha, t.seed) for t in found] == [(None, None, None, None)] * 2
    assert [t.robust for t in of(*reports, robust=["r1"])] == [False, True]
    assert [t.robust for t in of(*reports, groups=["a", "b"], robust=["b*"])] == [False, True]
    with pytest.raises(InputError, match=r"--robust nobody matches no report; there are r0, r1"):
        of(*reports, robust=["nobody"])


def test_a_schedule_has_no_single_alpha():
    assert of(trained_report(flags={"selectivity_schedule": "0:0,2:-1"}))[0].alpha is None


def test_earlier_epochs_of_a_run_are_not_seeds():
    found = of(trained_report(epoch=0), trained_report(epoch=2), trained_report(seed=1, epoch=1))
    assert [t.earlier for t in found] == [True, False, False]
    assert found[0].group == f"{found[1].group}, epoch 0"
    assert found[1].group == found[2].group
    assert found[0].run == found[1].run != found[2].run


def test_a_label_names_a_group_of_seeds():
    found = of(trained_report(), trained_report(seed=1), trained_report(alpha=1), groups=["low", "low", "high"])
    assert [t.group for t in found] == ["low", "low", "high"]
    with pytest.raises(InputError, match="the label low is given to r0 and r1, which differ in more than the seed"):
        of(trained_report(), trained_report(alpha=1), groups=["low", "low"])


def test_the_same_checkpoint_twice():
    checkpoint = {"file": "last.pth.tar", "sha256": "a" * 64, "epoch": 1}
    report = with_subject(trained_report(), checkpoint=checkpoint)
    with pytest.raises(InputError, match=r"r0 and r1 are audits of the same checkpoint \(aaaaaaaaaaaa\)"):
        of(report, report)
