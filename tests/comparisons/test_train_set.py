"""Audits of training images find the network that they are of, or it is said why not."""

from __future__ import annotations

import dataclasses

import pytest
from sample_comparison import trained_report, with_settings, with_subject

from selplug.comparisons.api import compare
from selplug.core.errors import InputError

OTHER = "e" * 64


def networks(**given):
    return {f"s{s}": trained_report(seed=s, adversarial="pgd", **given) for s in range(2)}


def weights(report, sha256, file="other.pth.tar"):
    return with_subject(report, checkpoint={"file": file, "sha256": sha256, "epoch": 2})


def gaps(comparison):
    return [network.measured.train_gap for network in comparison.networks]


def test_training_less_test_per_layer():
    found = compare(networks(closeness=0.7), train_set=list(networks(closeness=0.9, digest=OTHER).values())[:1])
    assert gaps(found) == [pytest.approx([0.2] * 6), None]
    assert found.to_dict()["train_set"][0]["split"] is None
    assert any("audited of 1 of 2 networks" in note for note in found.notes)
    assert any("not audited of s1" in note for note in found.notes)


def test_by_the_hash_of_the_weights_whatever_the_file_is_called():
    test = {name: weights(report, name[1] * 64) for name, report in networks().items()}
    train = [weights(trained_report(digest=OTHER, closeness=0.9), "1" * 64, "moved.pth.tar")]
    assert gaps(compare(test, train_set=train)) == [None, pytest.approx([0.1] * 6)]
    again = [weights(trained_report(digest=OTHER), "5" * 64, "other.pth.tar")]
    with pytest.raises(InputError, match="of a checkpoint that is not among the reports; there are s0, s1"):
        compare(test, train_set=again)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([trained_report(adversarial="pgd")], "is of the same samples as s0"),
        ([trained_report(seed=7, adversarial="pgd", digest=OTHER)], "is of a checkpoint that is not among the reports"),
        ([trained_report(adversarial="pgd", digest=None)], "does not tell that its samples are others"),
        ([trained_report(adversarial="pgd", digest=OTHER)] * 2, "is the second audit of s0"),
        (
            [
                trained_report(adversarial="pgd", digest=OTHER),
                with_settings(trained_report(seed=1, adversarial="pgd", digest=OTHER), seed=5),
            ],
            "cannot be used with the others",
        ),
    ],
)
def test_what_does_not_fit(train, message):
    with pytest.raises(InputError, match=rf"--train-set: .*{message}"):
        compare(networks(), train_set=train)


def test_without_digests_the_splits_tell():
    def split(report, name):
        return with_subject(report, data={**report.subject["data"], "split": name})

    test = {name: split(report, "test") for name, report in networks(digest=None).items()}
    train = [split(trained_report(adversarial="pgd", digest=None, closeness=0.9), "train")]
    found = compare(test, train_set=train)
    assert gaps(found)[0] == pytest.approx([0.1] * 6)
    assert found.train_set[0]["split"] == "train"


def test_attacks_that_training_images_did_not_see_are_left_out_and_named():
    train = trained_report(adversarial="pgd", digest=OTHER, closeness=0.9)
    kept = tuple(c for c in train.result.conditions if c.name != "fgsm:eps=4/255")
    train = dataclasses.replace(train, result=dataclasses.replace(train.result, conditions=kept))
    found = compare(networks(), train_set=train)
    assert gaps(found)[0] == pytest.approx([0.1] * 6)
    assert "training images were not seen under fgsm:eps=4/255" in found.notes
