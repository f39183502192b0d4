"""Finding plugins, reading specs, and what is said when something is missing or clashes."""

from __future__ import annotations

import subprocess
import sys

import pytest
from fake_plugins import distribution
from hypothesis import given
from hypothesis import strategies as st

from selplug import registry, specs
from selplug.core.errors import InputError, PluginError
from selplug.core.noise import gaussian_noise


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8/255", 8 / 255), ("20", 20), ("-3", -3), ("1e-3", 1e-3), (".5", 0.5), ("true", True), ("False", False),
        ("Linf", "Linf"), ("a/b", "a/b"), ("1/2", 0.5),
    ],
)  # fmt: skip
def test_values(text, value):
    found = specs.parse_value(text)
    assert found == value
    assert type(found) is type(value)


@given(
    st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True),
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.integers() | st.floats(allow_nan=False), max_size=4
    ),
)
def test_specs_survive_the_round_trip(name, options):
    spec = name + (":" if options else "") + ",".join(f"{key}={value!r}" for key, value in options.items())
    assert specs.parse_spec(f"  {spec} ") == (name, options)


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        ("n:/a/b", {"dir": "/a/b"}),
        ("n@3: /a,b/c=d ,k=1/2", {"@": 3, "dir": "/a,b/c=d", "k": 0.5}),
        ("n:C:\\data, x", {"dir": "C:\\data, x"}),
        ("n:12", {"dir": "12"}),
        ("n:dir=true", {"dir": "true"}),
        ("n:k=2,dir=/a,b", {"k": 2, "dir": "/a,b"}),
        ("n:", {}),
        ("n", {}),
    ],
)
def test_a_path_behind_the_colon(spec, options):
    assert specs.parse_spec(spec, "dir") == ("n", options)


@pytest.mark.parametrize("spec", ["n:a,dir=b", "n:dir=", "n:a,k="])
def test_a_path_that_is_wrong(spec):
    with pytest.raises(InputError):
        specs.parse_spec(spec, "dir")


@given(st.text(max_size=30))
def test_any_text_parses_or_is_refused_clearly(text):
    try:
        name, options = specs.parse_spec(text)
    except InputError:
        return
    assert name
    assert all(key.isidentifier() or key == specs.LEVEL for key in options)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gaussian-noise:std", "expected name:key=value,key=value, got 'std'"),
        ("gaussian-noise:std=0.1,std=0.2", "std is given twice"),
        ("gaussian-noise:std=abc", "option std: expected a number such as 0.03 or 8/255, got 'abc'"),
        ("gaussian-noise:std=true", "expected a number"),
        ("gaussian-noise:std=inf", "finite number"),
        ("gaussian-noise:sdt=0.1", r"no option 'sdt'; did you mean std\? There are: std"),
        (":std=1", "got the name ''"),
        ("gaussian noise", "got the name 'gaussian noise'"),
    ],
)
def test_bad_specs_are_named(spec, message):
    with pytest.raises(InputError, match=message):
        specs.perturbation(spec)


def test_options_in_force_are_those_given_and_the_defaults():
    perturbation = specs.perturbation(" gaussian-noise ")
    assert (perturbation.name, perturbation.options, perturbation.kind) == ("gaussian-noise", {"std": 0.1}, "noise")
    assert perturbation.factory is gaussian_noise
    assert specs.perturbation("gaussian-noise:std=1").options == {"std": 1.0}

    def needs(model, size: int, *, flag: bool = False, word: str = "a"):
        """A factory with a required option."""

    with pytest.raises(InputError, match="needs the option size, as in x:size="):
        specs.check_options("x", needs, {})
    assert specs.check_options("x", needs, {"size": 3}) == {"size": 3, "flag": False, "word": "a"}
    for options, message in (({"size": 1, "flag": 3}, "true or false"), ({"size": 1, "word": 3}, "a word")):
        with pytest.raises(InputError, match=message):
            specs.check_options("x", needs, options)


def test_unknown_names_bring_the_near_ones():
    with pytest.raises(PluginError, match=r"unknown perturbation 'gausian-noise'; did you mean gaussian-noise"):
        specs.perturbation("gausian-noise")
    known = "cka, dimensionality, gradients, procrustes, selectivity"
    with pytest.raises(PluginError, match=f"unknown measure 'zzz'; there are: {known}"):
        registry.load("selplug.measures", "zzz")


def test_a_clash_names_both_distributions(tmp_path, monkeypatch):
    mine = distribution(tmp_path, "mine", "[selplug.measures]\nselectivity = mine:M\n")
    monkeypatch.setattr(sys, "path", [str(mine), *sys.path])
    with pytest.raises(PluginError, match=r"two plugins are called 'selectivity'.*one of mine, one of selplug"):
        registry.plugins("selplug.measures")


def test_an_unreadable_entry_point_file_is_told(tmp_path, monkeypatch):
    broken = distribution(tmp_path, "broken", "no section\n")
    monkeypatch.setattr(sys, "path", [str(broken), *sys.path])
    with pytest.raises(PluginError, match=r"entry_points\.txt that cannot be read"):
        registry.plugins("selplug.measures")


def test_a_plugin_that_does_not_import_is_named(tmp_path, monkeypatch):
    points = "[selplug.measures]\nbad = bad_module:M\nabsent = bad_module2:M\n"
    bad = distribution(tmp_path, "bad", points, {"bad_module": "1/0\n"})
    monkeypatch.setattr(sys, "path", [str(bad), *sys.path])
    with pytest.raises(PluginError, match=r"bad of bad \(bad_module:M\) cannot be loaded: ZeroDivisionError"):
        registry.load("selplug.measures", "bad")
    with pytest.raises(PluginError, match="absent of bad"):
        registry.load("selplug.measures", "absent")


#: Makes a module look as if it was never installed.
BLOCKED = """
import importlib.metadata as metadata, sys
gone = {names!r}
real = metadata.version
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in gone:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
def version(name):
    if name in gone:
        raise metadata.PackageNotFoundError(name)
    return real(name)
sys.meta_path.insert(0, Blocker())
metadata.version = version
"""
AUDIT = """
import torch, selplug
from torch import nn
model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
data = [(torch.rand(20, 3, 8, 8), torch.arange(20) % 2)]
report = selplug.audit(model, data, ["gaussian-noise:std=0.1"], progress=False)
report.save("out")
"""


def test_without_host_libraries_everything_else_works(tmp_path):
    hosts = ("timm", "torchattacks", "captum", "torchvision", "sklearn", "scikit-learn")

    def run(code: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", BLOCKED.format(names=hosts) + code]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)  # noqa: S603

    done = run(AUDIT)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "report.html").exists()
    for command, extra in ((["audit", "resnet18", "--data-dir", "."], "timm"), (["demo"], "demo")):
        done = run(f"from selplug.cli import main\nmain({command!r})")
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert f'which is not installed: pip install "selplug[{extra}]"' in done.stderr
    done = run("from selplug import specs\nspecs.perturbation('fgsm')")
    assert 'fgsm needs torchattacks, which is not installed: pip install "selplug[torchattacks]"' in done.stderr


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gaussian-noise@3", "gaussian-noise takes no @; .*; gaussian_noise is another perturbation, which takes this"),
        ("gaussian-noise:severity=3", "no option 'severity'; .*; gaussian_noise is another perturbation"),
        ("gaussian_noise:std=0.1", "no option 'std'; .*; gaussian-noise is another perturbation, which takes this"),
        ("gaussian_noise:sdt=0.1", "no option 'sdt'; there are: severity, strengths$"),
        ("gaussian-noise:std=much", "option std: .*[^t]$"),
        ("shot_noise:std=0.1", "no option 'std'; there are: severity, strengths$"),
    ],
)
def test_names_that_differ_by_a_dash_alone(spec, message):
    with pytest.raises(InputError, match=message):
        specs.perturbations(spec)
