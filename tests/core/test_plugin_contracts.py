"""Contracts of plugins: optional members are read with their types, and what looks misspelt is told."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchmetrics import Metric

import selplug
from selplug import registry
from selplug.core import contracts, types
from selplug.core.errors import PerturbationError, PluginError
from selplug.core.measures.similarity import CKA
from selplug.core.plugins.measure import Measure, measure
from selplug.core.plugins.others import check_attribution, check_hook, check_hook_factory, checked
from selplug.core.plugins.perturbation import BuiltPerturbation, FactoryMembers, factory_members
from selplug.core.plugins.reading import check_spelling
from selplug.core.plugins.subject import loaded_subject
from selplug.core.training import TrainingHook
from selplug.core.types import Perturbation, Subject

WHAT = "perturbation smoke of weather"


def plain(images: Tensor, labels: Tensor) -> Tensor:
    return images


def factory(**attributes: Any):
    def smoke(model: nn.Module, *, density: float = 0.1, folder: str = "") -> Any:
        return plain

    vars(smoke).update(attributes)
    return smoke


class Mean(Metric):
    full_state_update = False

    def __init__(self, num_units: int, num_classes: int, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros(num_units))

    def update(self, responses: Tensor, targets: Tensor) -> None:
        self.total += responses.sum(0)

    def compute(self) -> dict[str, Tensor]:
        return {"mean_total": self.total.mean()}


def measuring(**attributes: Any) -> type[Mean]:
    return type("Measuring", (Mean,), {"__module__": __name__, **attributes})


def test_members_of_the_protocols_are_the_fields_that_are_read():
    names = contracts.names
    assert set(names(contracts.PerturbationMembers)) == {f.name for f in dataclasses.fields(FactoryMembers)}
    fields = {f.name for f in dataclasses.fields(Measure)} - {"factory", "plugin"}
    assert set(names(contracts.MeasureMembers)) == fields
    assert set(names(contracts.PerturbMembers)) == {"kind", "by_sample", "targets", "facts", "check", "prepare"}
    own = {name for name in vars(TrainingHook) if not name.startswith("_")}
    assert set(names(contracts.TrainingHookMethods)) == own
    assert set(types.__all__) >= {
        "PerturbationFactory",
        "Perturb",
        "MeasureFactory",
        "Samples",
        "Subject",
        "Perturbation",
    }


def test_the_documentation_names_all_members():
    text = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
    told = {}
    for row in text.partition("## Contracts")[2].partition("When a plugin is loaded")[0].splitlines():
        if row.startswith("| `selplug."):
            group, _, members = (cell.strip() for cell in row.strip("|").split("|"))
            told[group.strip("`")] = set(re.findall(r"`(\w+)`", members))
    both = {*contracts.names(contracts.PerturbationMembers), *contracts.names(contracts.PerturbMembers)}
    assert set(told) == set(registry.GROUPS)
    assert told["selplug.perturbations"] == both
    assert told["selplug.measures"] == set(contracts.names(contracts.MeasureMembers))
    assert told["selplug.attributions"] == set(contracts.names(contracts.AttributionMembers))
    assert told["selplug.subjects"] == set(contracts.names(contracts.SubjectMembers))


def test_a_plain_function_needs_nothing_and_may_have_everything():
    assert factory_members(factory(), WHAT) == FactoryMembers()
    options = {"density": 0.1}
    read = factory_members(
        factory(
            kind="corruption",
            level="density",
            positional="folder",
            expand=lambda options: None,
            label=lambda options: "smoke/thick",
            describe=lambda options, num_classes: {**options, "classes": num_classes},
            threat=lambda options: {"norm": "L2"},
        ),
        WHAT,
    )
    assert (read.kind, read.level, read.positional) == ("corruption", "density", "folder")
    assert read.expand(options) is None
    assert read.label(options) == "smoke/thick"
    assert read.describe(options, 3) == {"density": 0.1, "classes": 3}
    assert read.threat(options) == {"norm": "L2"}


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"knid": "noise"}, "unknown attribute 'knid'; did you mean kind?"),
        ({"lable": str}, "unknown attribute 'lable'; did you mean label?"),
        ({"treat": dict}, "unknown attribute 'treat'; did you mean threat?"),
        ({"descibe": dict}, "unknown attribute 'descibe'; did you mean describe?"),
        ({"kind": "atack"}, "expected the attribute kind to be one of attack, noise, corruption, shift, got 'atack'"),
        ({"kind": 3}, "expected the attribute kind to be one of attack"),
        ({"threat": {"norm": "L2"}}, "expected the attribute threat to be a function, got {'norm': 'L2'}"),
        ({"expand": "all"}, "expected the attribute expand to be a function, got 'all'"),
        ({"level": 3}, "expected the attribute level to be a word, got 3"),
        ({"level": "densty"}, "level is 'densty', which is none of its options: density, folder"),
        ({"positional": "file"}, "positional is 'file', which is none of its options: density, folder"),
    ],
)
def test_a_factory_that_breaks_its_contract(attributes, message):
    for check in (
        lambda: factory_members(factory(**attributes), WHAT),
        lambda: checked("selplug.perturbations", factory(**attributes), WHAT),
        lambda: Perturbation("fog", factory(**attributes), plugin=WHAT),
    ):
        with pytest.raises(PluginError) as error:
            check()
        assert str(error.value).startswith(f"{WHAT}: {message}")


def test_attributes_that_resemble_nothing_or_stand_beside_the_right_one_are_allowed():
    factory_members(factory(author="me", find=3, wind=4, version="1", kind="noise", kinds=["noise"]), WHAT)
    measure(measuring(max_samples=3, unit="mV", _on_pair=True), WHAT)


def test_not_callable_and_without_a_place_for_the_model():
    with pytest.raises(PluginError, match=f"{WHAT}: expected something to call, got int"):
        factory_members(3, WHAT)
    with pytest.raises(PluginError, match=rf"{WHAT}: expected to be called with \(model\), but takes \(\*, size=3\)"):
        factory_members(lambda *, size=3: plain, WHAT)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"on_pair": True}, "unknown attribute 'on_pair'; did you mean on_pairs?"),
        ({"on_gradient": True}, "unknown attribute 'on_gradient'; did you mean on_gradients?"),
        ({"min_sampels": 3}, "unknown attribute 'min_sampels'; did you mean min_samples?"),
        ({"min_samples": "3"}, "expected the attribute min_samples to be a whole number >= 1, got '3'"),
        ({"min_samples": True}, "expected the attribute min_samples to be a whole number >= 1, got True"),
        ({"min_classes": 0}, "expected the attribute min_classes to be a whole number >= 1, got 0"),
        ({"on_pairs": "yes"}, "expected the attribute on_pairs to be True or False, got 'yes'"),
        ({"between_layers": 3}, "expected the attribute between_layers to be a function, got 3"),
    ],
)
def test_a_measure_that_breaks_its_contract(attributes, message):
    what = "measure level of weather"
    with pytest.raises(PluginError) as error:
        checked("selplug.measures", measuring(**attributes), what)
    assert str(error.value).startswith(f"{what}: {message}")


def test_a_measure_that_cannot_be_built():
    with pytest.raises(PluginError, match=r"measure m: expected to be called with \(num_units=, num_classes=, seed=\)"):
        measure(lambda units: None, "measure m")
    with pytest.raises(PluginError, match=r"measure m: between_layers: expected to be called with"):
        measure(measuring(between_layers=lambda: None), "measure m")


def test_what_a_measure_has_is_read_also_through_partial():
    for given in (CKA, functools.partial(CKA, dist_sync_on_step=False)):
        read = measure(given, "measure cka")
        assert (read.on_pairs, read.on_gradients, read.on_differences) == (True, False, False)
        assert (read.min_samples, read.min_classes) == (4, 1)
        assert read.between_layers is CKA.between_layers
        assert isinstance(read(num_units=3, num_classes=2, seed=0), CKA)
    assert measure(read, "another name") is read


def test_what_a_factory_makes():
    class Attack:
        by_sample = True

        def __init__(self) -> None:
            self.labels, self.target = [1], 3  # state of its own, however it is called
            self.facts = {"seen": 0}

        def __call__(self, images: Tensor, labels: Tensor, samples: Any) -> Tensor:
            self.facts, self.targets = {"seen": len(samples)}, labels + 1
            return images

    built = BuiltPerturbation(Attack(), WHAT, "smoke")
    assert (built.kind, built.by_sample, built.targets, built.facts) == ("attack", True, None, {"seen": 0})
    built(torch.zeros(2, 1, 1, 1), torch.tensor([0, 1]), [5, 6])
    assert built.facts == {"seen": 2}, "facts may be made anew"
    assert built.targets.tolist() == [1, 2]
    assert BuiltPerturbation.of(built) is built
    assert built.prepare(None) is None
    built.check(torch.zeros(1))

    @dataclasses.dataclass
    class Aimed:
        target: int = 3

        def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
            return images

    BuiltPerturbation(Aimed(), WHAT)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("by_sampel", True, "unknown attribute 'by_sampel'; did you mean by_sample?"),
        ("prepares", print, "unknown attribute 'prepares'; did you mean prepare?"),
        ("by_sample", 1, "expected the attribute by_sample to be True or False, got 1"),
        ("check", True, "expected the attribute check to be a function, got True"),
        ("kind", "shfit", "expected the attribute kind to be one of attack, noise, corruption, shift, got 'shfit'"),
    ],
)
def test_what_a_factory_makes_breaks_its_contract(name, value, message):
    def perturb(images: Tensor, labels: Tensor) -> Tensor:
        return images

    class Perturb:
        __call__ = staticmethod(perturb)

    setattr(perturb, name, value)
    setattr(Perturb, name, value)
    for made in (perturb, Perturb()):
        with pytest.raises(PluginError) as error:
            BuiltPerturbation(made, WHAT)
        assert str(error.value).startswith(f"{WHAT}: {message}")
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU())
    batch = (torch.rand(4, 1, 2, 2), torch.arange(4) % 2)
    with pytest.raises(PluginError, match="perturbation perturb: "):
        selplug.audit(model, [batch], [perturb], progress=False)


def test_members_that_are_wrong_only_later():
    made = BuiltPerturbation(plain, WHAT, "smoke")
    plain.targets, plain.facts = 3, [1]
    try:
        with pytest.raises(PerturbationError, match=rf"{WHAT}: expected targets \(N,\), got int"):
            _ = made.targets
        with pytest.raises(PluginError, match=f"{WHAT}: expected the attribute facts to be a mapping, got list"):
            _ = made.facts
    finally:
        del plain.targets, plain.facts
    with pytest.raises(PluginError, match=f"{WHAT}: expected something to call for .images, labels., got int"):
        BuiltPerturbation(3, WHAT)


def test_attributions():
    class Right:
        def __init__(self, forward_func: Any, layer: Any) -> None: ...

        def attribute(self, inputs: Tensor) -> Tensor:
            return inputs

    check_attribution(Right, "attribution a")
    with pytest.raises(PluginError, match="attribution a: expected a class with a method attribute"):
        check_attribution(lambda model: None, "attribution a")
    Right.fits = lambda self, loader: self
    with pytest.raises(PluginError, match=r"unknown attribute 'fits'; did you mean fit\?"):
        check_attribution(Right, "attribution a")


def test_training_hooks():
    class Right(TrainingHook):
        def active_layers(self) -> list[str]:
            return []

    check_hook_factory(Right, "training hook h")
    check_hook_factory(functools.partial(Right), "training hook h")
    hook = Right()
    hook.closed = True  # state of its own
    check_hook(hook, "training hook h")

    class Misspelt(TrainingHook):
        def extra_los(self, output: Tensor, target: Tensor) -> None: ...

    with pytest.raises(PluginError, match=r"training hook h: unknown attribute 'extra_los'; did you mean extra_loss\?"):
        check_hook_factory(Misspelt, "training hook h")

    class Alone:
        def active(self, args: Any) -> bool:
            return True

    with pytest.raises(
        PluginError, match=r"expected a subclass of .*TrainingHook, got Alone, which has no method add_arg"
    ):
        check_hook_factory(Alone, "training hook h")
    with pytest.raises(PluginError, match=r"training hook h: expected to be called with \(\), but takes \(name\)"):
        check_hook_factory(lambda name: Right(), "training hook h")


def test_subjects():
    class Narrow:
        aside = ("workers",)

        def add_arguments(self, group: Any) -> None:
            group.add_argument("--width")

        def __call__(self, model: str, options: Any) -> Any:
            return Subject(nn.Identity(), []) if model == "right" else {}

    read = loaded_subject(Narrow(), "subject narrow")
    assert read.aside == ("workers",)
    assert read.add_arguments is not None
    assert isinstance(read("right", {}), Subject)
    with pytest.raises(PluginError, match=r"subject narrow: expected to get a selplug\.Subject, got dict"):
        read("wrong", {})
    plain_function = loaded_subject(lambda model, options: None, "subject plain")
    assert (plain_function.add_arguments, plain_function.aside) == (None, ())
    Narrow.asides = ("x",)
    loaded_subject(Narrow(), "subject narrow")  # beside the right one
    del Narrow.aside
    with pytest.raises(PluginError, match=r"unknown attribute 'asides'; did you mean aside\?"):
        loaded_subject(Narrow(), "subject narrow")
    with pytest.raises(
        PluginError, match=r"subject s: expected to be called with \(model, options\), but takes \(model\)"
    ):
        loaded_subject(lambda model: None, "subject s")


@pytest.mark.parametrize("group", ["selplug.reports", "selplug.launchers", "selplug.demos"])
def test_what_is_only_called(group):
    def fails(first: Any, second: Any) -> Any:
        """Does something."""
        raise first

    found = checked(group, fails, "report writer csv of sheets")
    assert found.__doc__ == "Does something."
    with pytest.raises(PluginError, match=r"^report writer csv of sheets failed: KeyError: 'x'$") as error:
        found(KeyError("x"), None)
    assert isinstance(error.value.__cause__, KeyError)
    with pytest.raises(FileNotFoundError):  # names its file
        found(FileNotFoundError(2, "No such file", "x"), None)
    with pytest.raises(PluginError, match=r"expected to be called with \(.*\), but takes \(\)"):
        checked(group, lambda: None, "x")


def test_names_of_host_libraries_are_not_looked_at():
    class Model(nn.Module):
        kindd = 3

    with pytest.raises(PluginError):
        check_spelling(Model(), ["kind"], "x")
    check_spelling(nn.Linear(2, 2), ["trainin", "weight_", "kind"], "x", state=False)
    inherited = type("Own", (nn.Linear,), {"__module__": __name__})
    check_spelling(inherited(2, 2), ["in_feature"], "x", state=False)


def test_all_that_is_installed_keeps_its_contract():
    for group in registry.GROUPS:
        for plugin in registry.plugins(group).values():
            if not plugin.missing:
                plugin.load()
