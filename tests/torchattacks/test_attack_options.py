"""Which attacks there are, which options they take, and what is refused before anything runs."""

from __future__ import annotations

import importlib.metadata
import inspect
import math
import subprocess
import sys

import pytest
import selplug_torchattacks
import torchattacks
from hypothesis import given
from hypothesis import strategies as st
from selplug_torchattacks.options import RULES, check, signature

from selplug.core.errors import InputError, PluginError
from selplug.registry import load, plugins
from selplug.specs.perturbing import perturbation

NAMES = sorted(name.lower() for name in torchattacks.__all__ if name not in torchattacks.__wrapper__)


def ours() -> dict[str, str]:
    found = plugins("selplug.perturbations")
    return {name: plugin.target for name, plugin in found.items() if plugin.target.startswith("selplug_torchattacks:")}


def test_every_exported_attack_is_an_entry_point_and_no_other():
    expected = {name: f"selplug_torchattacks:{name}" for name in NAMES}
    assert ours() == expected | {"torchattacks": "selplug_torchattacks:any_attack"}
    assert all(plugins("selplug.perturbations")[name].extra == "torchattacks" for name in expected)


@pytest.mark.parametrize("name", NAMES)
def test_factories_show_the_options_a_user_may_set(name):
    factory = load("selplug.perturbations", name)
    parameters = inspect.signature(factory).parameters
    assert next(iter(parameters)) == "model"
    assert not {"seed", "verbose", "n_classes", "self"} & set(parameters)
    assert all(p.default is not p.empty for p in list(parameters.values())[1:])
    assert factory.kind == ("noise" if name in ("gn", "vanila") else "attack")
    assert perturbation(name).kind == factory.kind
    defaults = perturbation(name).options
    assert check(name, signature(factory.attack), defaults) == defaults, "the defaults pass the checks, unchanged"


def test_a_spec_reaches_the_attack(tiny):
    found = perturbation("pgd:eps=8/255,alpha=2/255,steps=20")
    assert found.options == {"eps": 8 / 255, "alpha": 2 / 255, "steps": 20, "random_start": True, "target": None}
    attack = found.factory(tiny(), **found.options)._attack
    assert (attack.eps, attack.alpha, attack.steps) == (8 / 255, 2 / 255, 20)


def test_any_attack_by_its_name_as_an_option(tiny):
    found = perturbation("torchattacks:attack=PGD,eps=0.25,steps=3")
    attack = found.factory(tiny(), **found.options)._attack
    assert (type(attack), attack.eps, attack.steps) == (torchattacks.PGD, 0.25, 3)
    assert found.factory.describe(found.options, 10) == {
        "eps": 0.25,
        "alpha": 2 / 255,
        "steps": 3,
        "random_start": True,
    }
    with pytest.raises(InputError, match=r"torchattacks has no attack 'pdg'; there are: apgd, "):
        found.factory(tiny(), attack="pdg")
    with pytest.raises(InputError, match=r"torchattacks needs the option attack"):
        perturbation("torchattacks:eps=0.1")


def ball(norm, eps, option="eps", **steps):
    return {"norm": norm, "eps": pytest.approx(eps), "option": option, **steps}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("pgd:eps=2/255,steps=7", ball("Linf", 2 / 255, steps=7)),
        ("fgsm", ball("Linf", 8 / 255, steps=1)),
        ("pgdl2:eps=3", ball("L2", 3, steps=10)),
        ("apgd:norm=L2,eps=0.5", ball("L2", 0.5, steps=10)),
        ("square", ball("Linf", 8 / 255)),
        ("autoattack", ball("Linf", 8 / 255)),
        ("pifgsm", ball("Linf", 16 / 255, "max_epsilon")),
        ("torchattacks:attack=FGSM,eps=0.1", ball("Linf", 0.1, steps=1)),
        ("cw:steps=5", {"steps": 5}),
        ("onepixel", {}),
        ("jsma", {}),
    ],
)
def test_what_an_attack_may_do(spec, expected):
    assert perturbation(spec).threat == expected


def test_unknown_attributes_are_attribute_errors():
    assert not hasattr(selplug_torchattacks, "nosuch")
    assert not hasattr(selplug_torchattacks, "__nosuch__")


def test_importing_the_plugin_neither_imports_torchattacks_nor_prints():
    code = "import sys, selplug_torchattacks; sys.exit('torchattacks' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_torchattacks_the_message_names_the_extra(monkeypatch):
    version = importlib.metadata.version

    def absent(package: str) -> str:
        if package == "torchattacks":
            raise importlib.metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setitem(sys.modules, "torchattacks", None)
    monkeypatch.delitem(vars(selplug_torchattacks), "pgd", raising=False)
    with pytest.raises(ImportError):
        selplug_torchattacks.pgd  # noqa: B018
    monkeypatch.setattr("importlib.metadata.version", absent)
    with pytest.raises(PluginError, match=r'pgd needs torchattacks, which is not installed: pip .*"selplug\[torchatt'):
        load("selplug.perturbations", "pgd")


REFUSED = [
    ("pgd:eps=8", r"pgd: expected eps from 0 to 1, got 8.0; epsilons are in pixel units of \[0, 1\]: write 8/255"),
    ("pgd:alpha=2", r"pgd: expected alpha from 0 to 1"),
    ("apgd:eps=8,norm=linf", r"apgd: expected eps from 0 to 1"),
    ("pifgsm:max_epsilon=16", r"pifgsm: expected max_epsilon from 0 to 1"),
    ("pgd:eps=-0.1", r"pgd: option eps: expected a number >= 0, got -0.1"),
    ("pgd:alpha=-0.1", r"option alpha: expected a number >= 0"),
    ("gn:std=-1", r"option std: expected a number >= 0"),
    ("pifgsm:max_epsilon=-1", r"option max_epsilon: expected a number >= 0"),
    ("pgd:eps=abc", r"option eps: expected a number such as 0.03 or 8/255, got 'abc'"),
    ("pgd:eps=nan", r"option eps: expected a finite number, got nan"),
    ("pgd:steps=0", r"option steps: expected a whole number >= 1, got 0"),
    ("bim:steps=-3", r"option steps: expected a whole number >= 1, got -3"),
    ("pgd:steps=2.5", r"option steps: expected a whole number >= 1, got 2.5"),
    ("pgd:steps=5/2", r"option steps: expected a whole number >= 1, got 2.5"),
    ("pgd:random_start=1", r"option random_start: expected true or false, got 1"),
    ("cw:c=0", r"option c: expected a number > 0, got 0"),
    ("jsma:theta=0", r"option theta: expected a number from -1 to 1 other than 0"),
    ("difgsm:resize_rate=1", r"option resize_rate: expected a number > 0 other than 1"),
    ("fab:norm=L1", r"fab: option norm: expected one of Linf, L2, got 'L1'"),
    ("square:norm=L3", r"square: option norm: expected one of Linf, L2, got 'L3'"),
    ("apgd:loss=margin", r"apgd: option loss: expected one of ce, dlr, got 'margin'"),
    ("upgd:loss=cw", r"upgd: option loss: expected one of ce, dlr, margin, got 'cw'"),
    ("square:loss=dlr", r"square: option loss: expected one of margin, ce, got 'dlr'"),
    ("autoattack:version=full", r"autoattack: option version: expected one of standard, plus, rand, got 'full'"),
    ("pgdrs:noise_type=normal", r"pgdrs: option noise_type: expected one of gaussian, uniform, got 'normal'"),
    ("tifgsm:kernel_name=box", r"option kernel_name: expected one of gaussian, linear, uniform, got 'box'"),
    ("pixle:pixel_mapping=near", r"option pixel_mapping: expected one of random, similarity, "),
    ("pixle:x_dimensions=-1", r"pixle: dimensions of first patch"),
    ("apgd:seed=1", r"apgd has no option 'seed'"),
    ("apgd:target=3", r"apgd has no option 'target'"),
    ("pgd:target=likely", r"pgd: option target: expected least-likely, random or a class, got 'likely'"),
    ("pgd:target=-1", r"pgd: option target: expected least-likely, random or a class, got -1"),
    ("pgd:target=0.5", r"option target: expected least-likely, random or a class, got 0.5"),
    ("pgd:target=true", r"option target: expected least-likely, random or a class, got True"),
    ("pgd:target=10", r"pgd: option target: expected a class from 0 to 9, got 10"),
    ("upgd:loss=dlr,target=1", r"upgd: a target works with loss=ce or loss=margin, got loss=dlr"),
]


@pytest.mark.parametrize(("spec", "message"), REFUSED, ids=[spec for spec, _ in REFUSED])
def test_wrong_options_are_refused_before_any_run(spec, message, tiny):
    def prepare() -> None:
        found = perturbation(spec)
        found.factory(tiny(), **found.options)

    with pytest.raises(InputError, match=message):
        prepare()


def test_options_given_directly_are_checked_too(tiny):
    with pytest.raises(InputError, match=r"pgd has no option 'epsilon'; there are: eps, .*, random_start, target"):
        selplug_torchattacks.pgd(tiny(), epsilon=0.1)
    with pytest.raises(InputError, match=r"option eps: expected a number >= 0, got 'abc'"):
        selplug_torchattacks.pgd(tiny(), eps="abc")
    with pytest.raises(InputError, match=r"option eps: expected a number >= 0, got inf"):
        selplug_torchattacks.pgd(tiny(), eps=math.inf)


def test_sizes_of_l2_may_exceed_1(tiny):
    for spec in ("pgdl2:eps=3,alpha=2", "pgdrsl2:eps=3", "apgd:norm=l2,eps=3", "autoattack:norm=L2,eps=3"):
        found = perturbation(spec)
        found.factory(tiny(), **found.options)


COUNTS = sorted(name for name, rule in RULES.items() if rule.expected.startswith("a whole number"))
PGD = signature(torchattacks.PGD)


@given(st.integers(1, 10**6))
def test_whole_numbers_are_counts_however_written(count):
    for written in (count, float(count)):
        steps = check("pgd", PGD, {"steps": written})["steps"]
        assert steps == count
        assert type(steps) is int
    options = perturbation(f"pgd:steps={count}.0").options
    assert check("pgd", PGD, options)["steps"] == count


@given(st.one_of(st.integers(max_value=0), st.floats().filter(lambda v: not v.is_integer() or v < 1)))
def test_nothing_else_is_a_count(value):
    with pytest.raises(InputError, match="option steps: expected a whole number >= 1"):
        check("pgd", PGD, {"steps": value})


@given(st.floats(0, 1), st.floats(0, 1))
def test_sizes_in_the_pixel_range_pass_unchanged(eps, alpha):
    checked = check("pgd", PGD, {"eps": eps, "alpha": alpha})
    assert (checked["eps"], checked["alpha"]) == (eps, alpha)


@given(st.floats().filter(lambda v: not 0 <= v <= 1))
def test_no_other_size_passes(eps):
    with pytest.raises(InputError, match="eps"):
        check("pgd", PGD, {"eps": eps})


def test_every_numeric_option_has_a_rule():
    for name in NAMES:
        for key, parameter in signature(load("selplug.perturbations", name).attack).parameters.items():
            if isinstance(parameter.default, (int, float)) and not isinstance(parameter.default, bool):
                assert key in RULES, f"{name}: {key}"
