from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import contracts
from ..errors import PerturbationError, PluginError
from .blame import blamed
from .reading import Attributes, check_call, check_spelling

if TYPE_CHECKING:
    from torch import Tensor

    from ..subject import Samples, Subject


@dataclass(frozen=True)
class FactoryMembers:
    """The optional members of a factory, read and checked; see :class:`contracts.PerturbationMembers`."""

    kind: contracts.Kind = "attack"
    level: str | None = None
    positional: str | None = None
    expand: Callable[[Mapping[str, Any]], Sequence[str] | None] | None = None
    label: Callable[[Mapping[str, Any]], str] | None = None
    describe: Callable[[Mapping[str, Any], int], Mapping[str, Any]] | None = None
    threat: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None


def factory_members(factory: Any, plugin: str) -> FactoryMembers:
    """Raises PluginError, under the name ``plugin``, if the factory breaks its contract."""
    check_call(factory, plugin, "model", options=True)
    check_spelling(factory, contracts.names(contracts.PerturbationMembers), plugin)
    read = Attributes(factory, plugin)
    members = FactoryMembers(
        kind=read.text("kind", contracts.KINDS) or "attack",  # type: ignore[arg-type]
        level=read.text("level"),
        positional=read.text("positional"),
        expand=read.function("expand"),
        label=read.function("label"),
        describe=read.function("describe"),
        threat=read.function("threat"),
    )
    for name, option in (("level", members.level), ("positional", members.positional)):
        if option is not None and not _takes(factory, option):
            raise PluginError(f"{plugin}: {name} is {option!r}, which is none of its options: {_options(factory)}")
    return members


class BuiltPerturbation:
    """What a factory made for a model, its optional members read and checked; see :class:`contracts.PerturbMembers`.

    Args:
        perturb: ``(images, labels) -> images``, or with a third argument if it is ``by_sample``.
        plugin: what errors call it; with an empty text its own errors are left as they are.
        condition: the condition that it makes.

    Raises:
        PluginError: it breaks its contract; from the methods, whatever it raises that is no error of selplug.
    """

    def __init__(self, perturb: Any, plugin: str = "", condition: str = "") -> None:
        self._perturb, self._plugin, self._condition = perturb, plugin, condition
        known = contracts.names(contracts.PerturbMembers)
        what = plugin or "perturbation"
        if not callable(perturb) and Attributes(perturb, what).value("prepare") is None:
            raise PluginError(f"{what}: expected something to call for (images, labels), got {type(perturb).__name__}")
        check_spelling(perturb, known, what, state=False)  # what an attack keeps in itself is its own affair
        self._read = Attributes(perturb, what)
        self.kind = self._read.text("kind", contracts.KINDS) or "attack"
        self.by_sample = self._read.flag("by_sample")
        self._check, self._prepare = self._read.function("check"), self._read.function("prepare")

    @classmethod
    def of(cls, perturb: Any) -> BuiltPerturbation:
        """As it is if it was built already."""
        return perturb if isinstance(perturb, cls) else cls(perturb)

    def __call__(self, images: Tensor, labels: Tensor, samples: Samples) -> Tensor:
        with blamed(self._plugin, self._condition):
            found: Tensor = self._perturb(images, labels, *((samples,) if self.by_sample else ()))
        return found

    def check(self, images: Tensor) -> None:
        if self._check is not None:
            with blamed(self._plugin, self._condition):
                self._check(images)

    def prepare(self, subject: Subject) -> Subject | None:
        if self._prepare is None:
            return None
        with blamed(self._plugin, self._condition):
            other: Subject | None = self._prepare(subject)
        return other

    @property
    def targets(self) -> Tensor | None:
        """Of the last batch (N,)."""
        from torch import Tensor

        found = self._read.value("targets")
        if found is None or (isinstance(found, Tensor) and found.ndim == 1):
            return found
        came = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise PerturbationError(
            f"{self._plugin or self._condition or 'perturbation'}: expected targets (N,), got {came}"
        )

    @property
    def facts(self) -> Mapping[str, Any] | None:
        """As they are now."""
        found = self._read.value("facts")
        if found is None or isinstance(found, Mapping):
            return found
        raise PluginError(
            f"{self._plugin or 'perturbation'}: expected the attribute facts to be a mapping, got "
            f"{type(found).__name__}"
        )


def _takes(factory: Any, option: str) -> bool:
    parameters = inspect.signature(factory).parameters
    return option in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _options(factory: Any) -> str:
    return ", ".join(list(inspect.signature(factory).parameters)[1:]) or "it has none"
