"""What a plugin raises while it runs names the plugin, its distribution and the condition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchmetrics import Metric

import selplug
from selplug.core.errors import InputError, PluginError, PluginFailedError
from selplug.core.plugins.blame import blamed, reason
from selplug.core.plugins.measure import measure
from selplug.core.types import Perturbation

BATCH = (torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 2)
WHAT = "perturbation smoke of weather"


def audit(perturbations: Any = (), **options: Any) -> Any:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    return selplug.audit(model, [BATCH], perturbations, progress=False, **options)


def smoke(step: str, error: Exception) -> Perturbation:
    """Fails at one step of a run."""

    def fail(at: str) -> None:
        if at == step:
            raise error

    class Smoke:
        def check(self, images: Tensor) -> None:
            fail("check")

        def prepare(self, subject: Any) -> None:
            fail("prepare")

        def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
            fail("call")
            return images

    def factory(model: nn.Module, *, density: float = 0.1) -> Smoke:
        fail("factory")
        return Smoke()

    def describe(options: Any, num_classes: int) -> Any:
        fail("describe")
        return options

    def threat(options: Any) -> dict[str, Any]:
        fail("threat")
        return {}

    factory.describe, factory.threat = describe, threat
    return Perturbation("smoke:density=0.1", factory, {"density": 0.1}, plugin=WHAT)


@pytest.mark.parametrize("step", ["factory", "check", "prepare", "call", "describe", "threat"])
def test_every_step_of_a_perturbation(step):
    error = ValueError("no fire\nmore of it")
    with pytest.raises(PluginFailedError) as told:
        audit([smoke(step, error)])
    assert str(told.value) == f"{WHAT} failed under the condition smoke:density=0.1: ValueError: no fire"
    assert told.value.__cause__ is error
    own = InputError("smoke: expected density from 0 to 1")
    with pytest.raises(InputError) as told:
        audit([smoke(step, own)])
    assert told.value is own
    audit([smoke("nowhere", error)])


def test_a_callable_from_python_has_no_distribution():
    def broken(images: Tensor, labels: Tensor) -> Tensor:
        return images.no_such_thing

    with pytest.raises(PluginError, match=r"^perturbation broken failed under the condition broken: AttributeError: "):
        audit([broken])


class Fails(Metric):
    full_state_update = False
    step = ""

    def __init__(self, num_units: int, num_classes: int, seed: int = 0) -> None:
        super().__init__()
        self.add_state("seen", torch.zeros(()))
        self._fail("build")

    def _fail(self, at: str) -> None:
        if at == self.step:
            raise KeyError(at)

    def update(self, responses: Tensor, targets: Tensor) -> None:
        self._fail("update")
        self.seen += len(responses)

    def compute(self) -> dict[str, Tensor]:
        self._fail("compute")
        return {"seen": self.seen}


class Pairs(Fails):
    on_pairs = True

    def __init__(self, num_units: Any, num_classes: int, seed: int = 0) -> None:
        super().__init__(num_units, num_classes, seed)

    def update(self, clean: Tensor, perturbed: Tensor) -> None:
        self._fail("update")


class Between(Fails):
    def __init__(self, num_units: Any, num_classes: int, seed: int = 0) -> None:
        super().__init__(num_units, num_classes, seed)

    def update(self, responses: list[Tensor]) -> None:
        self._fail("update")


class WithBetween(Fails):
    between_layers = Between


@pytest.mark.parametrize(
    ("kind", "failing", "step", "where"),
    [
        (Fails, Fails, "build", ""),
        (Fails, Fails, "update", " under the condition clean"),
        (Fails, Fails, "compute", " under the condition clean"),
        (Pairs, Pairs, "update", " under the condition still"),
        (Pairs, Pairs, "compute", " under the condition still"),
        (WithBetween, Between, "build", ""),
        (WithBetween, Between, "update", " under the condition clean"),
        (WithBetween, Between, "compute", " under the condition clean"),
    ],
)
def test_every_step_of_a_measure(kind, failing, step, where, monkeypatch):
    def still(images: Tensor, labels: Tensor) -> Tensor:
        return images

    monkeypatch.setattr(failing, "step", step)
    given = measure(kind, "measure level of weather")
    with pytest.raises(PluginFailedError) as told:
        audit([still], measures={"level": given})
    assert str(told.value) == f"measure level of weather failed{where}: KeyError: '{step}'"
    with pytest.raises(PluginFailedError, match=r"^measure level failed"):
        audit([still], measures={"level": kind})


def test_who_is_blamed():
    with pytest.raises(ZeroDivisionError), blamed(""):
        _ = 1 / 0
    with pytest.raises(OSError, match="disk"), blamed("writer", passing=(OSError,)):
        raise OSError("disk")
    with pytest.raises(PluginFailedError, match=r"^writer failed: OSError: disk$"), blamed("writer"):
        raise OSError("disk")
    with pytest.raises(KeyboardInterrupt), blamed("writer"):
        raise KeyboardInterrupt
    assert reason(ValueError()) == "ValueError"
