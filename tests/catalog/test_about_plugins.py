"""What is told of every plugin: what it is, how to ask for it, and every option with default and meaning."""

from __future__ import annotations

import inspect
import json
import sys

import pytest
from fake_plugins import distribution

from selplug import registry, specs
from selplug.catalog.about import about, named
from selplug.catalog.check import check_all
from selplug.catalog.options import shown
from selplug.core.errors import PluginError
from selplug.registry import suggestion

ALL = [plugin for group in registry.GROUPS for plugin in registry.plugins(group).values()]


def installed(plugin: registry.Plugin) -> registry.Plugin:
    if plugin.missing:
        pytest.skip(f"needs {plugin.missing}")
    return plugin


@pytest.mark.parametrize("plugin", ALL, ids=lambda plugin: f"{plugin.group}:{plugin.name}")
def test_every_option_of_ours_has_a_meaning(plugin):
    told = about(installed(plugin))
    assert told.summary
    assert told.example
    assert [option.name for option in told.options if not option.meaning] == []
    data = told.to_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["kind"] in ("attack", "noise", "corruption", "shift") or plugin.group != "selplug.perturbations"


@pytest.mark.parametrize("name", sorted(registry.plugins("selplug.perturbations")))
def test_options_are_those_that_a_spec_takes(name):
    plugin = installed(registry.find("selplug.perturbations", name))
    told = about(plugin)
    parameters = list(inspect.signature(plugin.load()).parameters.values())[1:]
    assert [option.name.lstrip("*") for option in told.options] == [p.name for p in parameters]
    for option, parameter in zip(told.options, parameters, strict=True):
        assert option.required == (parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD)
        assert option.required or option.default == (
            None if parameter.kind is parameter.VAR_KEYWORD else parameter.default
        )
    spec = told.example.removeprefix("--perturb ")
    assert spec != told.example
    if not any(option.required for option in told.options):
        given = specs.perturbations(spec)  # the example runs
        assert given
        if not (":" not in spec or "@" in spec or len(given) > 1):
            assert given[0].options == specs.perturbation(name).options, "options of the example are the defaults"


def test_a_few_by_hand():
    noise = about(named("gaussian-noise")[0])
    assert (noise.kind, noise.example) == ("noise", "--perturb gaussian-noise:std=0.1")
    assert [(o.name, o.default, o.shown_default(), o.required) for o in noise.options] == [("std", 0.1, "0.1", False)]
    assert noise.options[0].meaning == "its standard deviation, >= 0, in pixel units of [0, 1]."
    assert about(named("fog@3")[0]).example == "--perturb fog@1"
    assert about(named("cifar10c")[0]).example == "--perturb cifar10c:DIR"
    cka = about(named("cka")[0])
    assert cka.kind.startswith("measure, of clean and perturbed responses as pairs, of all layers at once, too")
    assert cka.example == "--measure cka"
    assert [o.name for o in about(named("dimensionality")[0]).options] == ["first", "last"]


def test_pgd():
    (plugin,) = named("pgd:eps=4/255")
    told = about(installed(plugin))
    assert told.kind == "attack"
    assert told.summary.startswith("PGD in the paper")
    assert told.example == "--perturb pgd:eps=8/255,alpha=2/255"
    assert [(o.name, o.shown_default()) for o in told.options] == [
        ("eps", "8/255"), ("alpha", "2/255"), ("steps", "10"), ("random_start", "true"), ("target", "none"),
    ]  # fmt: skip
    assert told.options[2].meaning == "number of steps."


def test_a_training_hook_has_its_flags():
    hook = next(each for each in named("selectivity") if each.group == "selplug.training")
    told = about(installed(hook))
    options = {option.name: option for option in told.options}
    assert options["--selectivity-alpha"].default == 0
    assert "alpha > 0 promotes selectivity" in options["--selectivity-alpha"].meaning
    assert "default" not in options["--selectivity-alpha"].meaning


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8 / 255, "8/255"), (0.3, "0.3"), (1.0, "1"), (0.0, "0"), (1e-6, "1e-06"), (True, "true"), (None, "none"),
        ("", '""'), ("Linf", "Linf"), (20, "20"), ((2, 10), "(2, 10)"), (len, "len"),
    ],
)  # fmt: skip
def test_defaults_are_shown_as_a_spec_has_them(value, text):
    assert shown(value) == text
    if isinstance(value, (bool, int, float)):
        assert specs.parse_value(text) == pytest.approx(value)


FAKE = """
def right(model, *, size: int = 3):
    '''Does it.

    Args:
        size: in pixels.
    '''
def typo(model, *, size: int = 3, dir): pass
typo.knid = "noise"
def undocumented(model, *, size): pass
class Subject:
    '''Random images.'''
    def add_arguments(self, group): group.add_argument("--width", type=int, default=8, help="units (default: 8)")
    def __call__(self, model, options): pass
subject = Subject()
def plain(model, options):
    '''Nothing.

    Options:
        depth: how deep. (default: 2)
    '''
class Hook:
    def __init__(self): raise KeyError("no")
"""
POINTS = """
[selplug.perturbations]
smoke = smoke:right
typo = smoke:typo
bare = smoke:undocumented
absent = smoke:nothing
[selplug.subjects]
narrow = smoke:subject
plain = smoke:plain
"""


@pytest.fixture
def weather(tmp_path, monkeypatch):
    folder = distribution(tmp_path, "weather", POINTS, {"smoke": FAKE})
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.delitem(sys.modules, "smoke", raising=False)
    yield
    sys.modules.pop("smoke", None)


def test_the_check_names_what_is_broken_and_why(weather):
    found = {each.what: each for each in check_all()}
    broken = {what: each.reason for what, each in found.items() if each.state == "broken"}
    assert set(broken) == {"perturbation typo of weather", "perturbation absent of weather"}
    assert broken["perturbation typo of weather"].startswith("unknown attribute 'knid'; did you mean kind?")
    assert "cannot be loaded: AttributeError" in broken["perturbation absent of weather"]
    assert found["perturbation smoke of weather"].remarks == ()
    remarks = ("has no docstring", "no meaning of size", "no default of size")
    assert found["perturbation bare of weather"].remarks == remarks
    assert found["perturbation bare of weather"].state == "works"


def test_flags_and_options_of_subjects(weather):
    (option,) = about(named("narrow")[0]).options
    assert (option.name, option.default, option.meaning) == ("--width", 8, "units")
    (option,) = about(named("plain")[0]).options
    assert (option.name, option.default, option.meaning) == ("depth", "2", "how deep.")


def test_a_clash_is_told_and_the_other_groups_are_checked(tmp_path, monkeypatch):
    folder = distribution(tmp_path, "rival", "[selplug.measures]\nselectivity = rival:M\n")
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    broken = [each for each in check_all() if each.state == "broken"]
    assert [each.what for each in broken] == ["selplug.measures"]
    assert "one of rival, one of selplug" in broken[0].reason


def test_near_names_in_whatever_case():
    with pytest.raises(PluginError, match=r"^unknown plugin 'PGD'; did you mean pgd\?$"):
        named("PGD")
    with pytest.raises(PluginError, match=r"^unknown perturbation 'PGD'; did you mean pgd\?$"):
        registry.load("selplug.perturbations", "PGD")
    with pytest.raises(
        PluginError, match=r"^unknown measure 'Selectivity'; did you mean selectivity\? There are: cka, "
    ):
        registry.load("selplug.measures", "Selectivity")
    with pytest.raises(PluginError, match=r"^unknown perturbation 'zzzz'; there are \d+: see `selplug plugins`$"):
        registry.load("selplug.perturbations", "zzzz")
    with pytest.raises(PluginError, match=r"^unknown plugin 'zzzz'; `selplug plugins` lists all$"):
        named("zzzz")
    assert suggestion("x", []) == "there are: none"
    assert suggestion("Gaussian-Noise", ["gaussian-noise", "gaussian_noise"], "list").startswith(
        "did you mean gaussian-noise? There are"
    )
