"""Specs of corruptions and of groups, what is said of bad ones, and a whole audit."""

from __future__ import annotations

import pytest
import torch
from selplug_corruptions.factory import BENCHMARK, EXTRA, Corruption
from torch import nn
from typer.testing import CliRunner

import selplug
from selplug import specs
from selplug.audits.api import audit_subject
from selplug.cli.commands import app
from selplug.core.errors import InputError, PluginError
from selplug.core.types import Subject


def names(spec):
    return [perturbation.name for perturbation in specs.perturbations(spec)]


def test_one_corruption():
    (found,) = specs.perturbations(" fog@3 ")
    assert (found.name, found.kind) == ("fog@3", "corruption")
    assert found.options == {"severity": 3, "strengths": "auto"}
    assert specs.perturbation("fog:severity=3,strengths=cifar").options == {"severity": 3, "strengths": "cifar"}


def test_names_that_stand_for_several():
    assert names("fog") == [f"fog@{severity}" for severity in range(1, 6)]
    assert names("fog@2-3:strengths=cifar") == ["fog@2:strengths=cifar", "fog@3:strengths=cifar"]
    assert names("corruptions") == [f"{name}@{severity}" for name in BENCHMARK for severity in range(1, 6)]
    assert names("corruptions-extra:severities=5") == [f"{name}@5" for name in EXTRA]
    assert len(names("corruptions:severities=1-3")) == 45
    with pytest.raises(InputError, match="expected one perturbation, got 'fog', which stands for 5"):
        specs.perturbation("fog")


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("fogg@3", PluginError, "unknown perturbation 'fogg'; did you mean fog"),
        ("corruption", PluginError, "did you mean corruptions"),
        ("fog@6", InputError, "fog: expected a severity from 1 to 5, or several as 1-5, got 6"),
        ("fog@0", InputError, "got 0"),
        ("fog@", InputError, "fog: expected a severity"),
        ("fog@x", InputError, "got x"),
        ("fog@-1", InputError, "got -1"),
        ("fog@1.5", InputError, "got 1.5"),
        ("fog@true", InputError, "got True"),
        ("fog@3-2", InputError, "got 3-2"),
        ("fog@3:severity=2", InputError, "'fog@3:severity=2': fog gives severity twice"),
        ("fog:severty=3", InputError, r"fog has no option 'severty'; did you mean severity\?"),
        ("fog@3:strengths=mnist", InputError, "fog: expected strengths of auto, imagenet, tiny-imagenet, cifar, got"),
        ("fog@1-2:strengths=mnist", InputError, "expected strengths of auto"),
        (
            "corruptions:severities=0-7",
            InputError,
            "corruptions: expected a severity from 1 to 5, or several .* got 0-7",
        ),
        ("corruptions:strengths=mnist", InputError, "corruptions: expected strengths of"),
        ("corruptions@3", InputError, "'corruptions@3': corruptions takes no @"),
        ("gaussian-noise@3", InputError, "gaussian-noise takes no @"),
    ],
)
def test_bad_specs(spec, error, message):
    with pytest.raises(error, match=message):
        specs.perturbations(spec)


@pytest.mark.parametrize("spec", ["fogg@3", "fog@6", "corruptions:severities=0-7"])
def test_bad_specs_end_the_command(spec, tmp_path):
    result = CliRunner().invoke(app, ["audit", "resnet18", "--perturb", spec, "--output", str(tmp_path / "r")])
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)).eval()


def loader(batch_size, order=None):
    images = torch.rand(9, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    images, labels = (images, torch.arange(9) % 3) if order is None else (images[order], torch.arange(9)[order] % 3)
    return [(images[i : i + batch_size], labels[i : i + batch_size]) for i in range(0, 9, batch_size)]


def test_an_audit_of_a_group():
    specs = ["corruptions:severities=1-2", "gaussian-noise"]
    with torch.random.fork_rng():
        model = network()
        report = selplug.audit(model, loader(4), specs, progress=False)
        again = selplug.audit(model, loader(9), specs, progress=False)
    assert len(report.result.conditions) == 1 + 30 + 1
    assert report.result.worst_case is None
    settings = {entry["name"]: entry for entry in report.settings["perturbations"]}
    assert settings["fog@2"] == {
        "name": "fog@2",
        "kind": "corruption",
        "options": {"corruption": "fog", "severity": 2, "strengths": "cifar"},
    }
    for one, two in zip(report.result.conditions[:-1], again.result.conditions[:-1], strict=True):
        assert one.l2_mean == pytest.approx(two.l2_mean, rel=1e-6)


def test_a_corruption_made_in_python():
    with torch.random.fork_rng():
        model = network()
    report = selplug.audit(model, loader(9), [Corruption("fog", 3), Corruption("snow", 1, "imagenet")], progress=False)
    assert [condition.name for condition in report.result.conditions] == ["clean", "fog@3", "snow@1"]
    assert set(report.corruptions["accuracy"]) == {"fog (cifar)", "snow (imagenet)"}
    with pytest.raises(InputError, match="fog: expected one severity from 1 to 5, got '3'"):
        Corruption("fog", "3")


def test_indices_of_the_data_decide_not_places_in_the_loader():
    order = [8, 3, 1, 0, 2, 4, 5, 6, 7]
    with torch.random.fork_rng():
        model = network()
    results = []
    for loaded, indices in ((loader(9), None), (loader(9, order), order), (loader(9, order), None)):
        subject = Subject(model, loaded, indices=indices)
        report = audit_subject(subject, ["gaussian_noise@5"], [], progress=False)
        results.append(report.result.conditions[1].l2_mean)
    assert results[1] == pytest.approx(results[0], rel=1e-6)
    assert results[2] != pytest.approx(results[0], rel=1e-6)
    wrong = Subject(model, loader(9), indices=[1, 2])
    with pytest.raises(InputError, match=r"expected an index per sample, \(9,\), got \(2,\)"):
        audit_subject(wrong, [], [], progress=False)
