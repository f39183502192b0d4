"""`selplug plugins`: the list, one plugin, the check; and what the command line says when a plugin fails."""

from __future__ import annotations

import json
import logging
import sys

import pytest
from fake_plugins import distribution

from selplug import registry
from selplug.cli import main

FAKE = """
from selplug.core.types import Subject
def smoke(model, *, density: float = 0.1):
    '''Smoke over the images.

    Args:
        density: from 0 to 1.
    '''
    def perturb(images, labels):
        raise ValueError("no fire")
    return perturb
smoke.kind = "corruption"
def tiny(model, options):
    '''A small network.'''
    import torch
    from torch import nn
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    return Subject(network, [(torch.rand(6, 1, 2, 2), torch.arange(6) % 2)])
def typo(model): pass
typo.knid = "noise"
"""
POINTS = """
[selplug.perturbations]
smoke = smoke_plugin:smoke
dear = smoke_plugin:smoke [needy]
{more}
[selplug.subjects]
tiny = smoke_plugin:tiny
"""


@pytest.fixture(autouse=True)
def quiet_again():
    logger = logging.getLogger("selplug")
    before = logger.level, list(logger.handlers)
    yield
    logger.setLevel(before[0])
    logger.handlers[:] = before[1]


@pytest.fixture
def weather(tmp_path, monkeypatch):
    def install(more: str = "") -> None:
        folder = distribution(tmp_path, "weather", POINTS.format(more=more), {"smoke_plugin": FAKE})
        requires = 'Requires-Dist: no-such-package; extra == "needy"\n'
        metadata = folder / "weather-1.0.dist-info" / "METADATA"
        metadata.write_text(metadata.read_text() + requires)
        monkeypatch.setattr(sys, "path", [str(folder), *sys.path])

    sys.modules.pop("smoke_plugin", None)
    yield install
    sys.modules.pop("smoke_plugin", None)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def test_one_plugin(weather, capsys, monkeypatch):
    weather()
    monkeypatch.setenv("COLUMNS", "80")
    assert run("plugins", "smoke") == 0
    assert capsys.readouterr().out == (
        "smoke: corruption (selplug.perturbations)\n"
        "  weather 1.0, smoke_plugin:smoke\n"
        "\n"
        "  Smoke over the images.\n"
        "\n"
        "  --perturb smoke:density=0.1\n"
        "\n"
        "  option   default  meaning\n"
        "  density  0.1      from 0 to 1.\n"
    )
    assert run("plugins", "smoke", "--json") == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told == {
        "group": "selplug.perturbations",
        "name": "smoke",
        "target": "smoke_plugin:smoke",
        "distribution": "weather",
        "version": "1.0",
        "extra": None,
        "missing": [],
        "kind": "corruption",
        "summary": "Smoke over the images.",
        "example": "--perturb smoke:density=0.1",
        "options": [{"name": "density", "default": 0.1, "required": False, "meaning": "from 0 to 1."}],
    }


def test_a_name_in_several_groups(capsys):
    assert run("plugins", "selectivity") == 0
    shown = capsys.readouterr().out
    assert "selectivity: measure (selplug.measures)" in shown
    if not registry.find("selplug.training", "selectivity").missing:
        assert "selectivity: training hook (selplug.training)" in shown
        assert "--selectivity-alpha" in shown


def test_long_meanings_are_wrapped(capsys, monkeypatch):
    if registry.find("selplug.perturbations", "pgd").missing:
        pytest.skip("needs torchattacks")
    monkeypatch.setenv("COLUMNS", "72")
    assert run("plugins", "pgd") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 72
    assert any(line.startswith("  eps           8/255    largest change") for line in lines)


def test_a_plugin_whose_extra_is_missing(weather, capsys):
    weather()
    assert run("plugins", "dear") == 0
    shown = capsys.readouterr().out
    assert 'needs no-such-package, which is not installed: pip install "weather[needy]"' in shown
    assert run("plugins", "dear", "--json") == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["missing"], told["options"]) == (["no-such-package"], None)


def test_unknown_names(capsys):
    assert run("plugins", "PGD") == 2
    assert capsys.readouterr().err == "error: unknown plugin 'PGD'; did you mean pgd?\n"


def test_the_check(weather, capsys):
    weather()
    assert run("plugins", "--check") == 0
    shown = capsys.readouterr().out.splitlines()
    assert 'missing: perturbation dear of weather: needs no-such-package: pip install "weather[needy]"' in shown
    assert not any(line.startswith("broken") for line in shown)
    assert "0 broken" in shown[-1]


def test_the_check_of_a_broken_plugin(weather, capsys):
    weather("typo = smoke_plugin:typo\ngone = no_such_module:gone\n")
    assert run("plugins", "--check") == 1
    broken = [line for line in capsys.readouterr().out.splitlines() if line.startswith("broken: ")]
    assert len(broken) == 2
    assert any(line.startswith("broken: perturbation typo of weather: unknown attribute 'knid'") for line in broken)
    assert any("perturbation gone of weather" in line and "ModuleNotFoundError" in line for line in broken)
    assert run("plugins", "smoke", "--check") == 0
    assert capsys.readouterr().out == "1 of 1 plugins work, 0 broken, 0 lack what they need\n"
    assert run("plugins", "--check", "--json") == 1
    rows = {row["what"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["perturbation typo of weather"]["state"] == "broken"
    assert rows["perturbation smoke of weather"] == {
        "what": "perturbation smoke of weather", "state": "works", "reason": "", "remarks": [],
    }  # fmt: skip
    assert run("plugins", "typo") == 2
    assert "perturbation typo of weather: unknown attribute 'knid'; did you mean kind?" in capsys.readouterr().err


def test_a_plugin_that_fails_in_a_run(weather, tmp_path, capsys):
    weather()
    command = ["audit", "any", "--subject", "tiny", "--perturb", "smoke:density=0.3", "--output", tmp_path / "out"]
    message = "error: perturbation smoke of weather failed under the condition smoke:density=0.3: ValueError: no fire"
    assert run(*command, "--quiet") == 2
    shown = capsys.readouterr().err
    assert shown.splitlines()[-1] == message + " (`selplug --verbose ...` shows the traceback)"
    assert "Traceback" not in shown
    assert run("--verbose", *command, "--quiet") == 2
    shown = capsys.readouterr().err
    assert shown.splitlines()[-1] == message
    assert "Traceback" in shown
    assert 'raise ValueError("no fire")' in shown
    assert not (tmp_path / "out").exists()
