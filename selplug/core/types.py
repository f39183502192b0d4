"""What the parts hand to each other: plain frozen dataclasses, hardly any behaviour."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import nn

from .contracts import (
    AttributionMembers,
    AttributionMethod,
    BetweenLayersFactory,
    Demo,
    Launcher,
    MeasureFactory,
    MeasureMembers,
    Perturb,
    PerturbationFactory,
    PerturbationMembers,
    PerturbMembers,
    ReportWriter,
    SubjectMembers,
    SubjectPlugin,
)
from .plugins.blame import blamed
from .plugins.others import needs_fit
from .plugins.perturbation import BuiltPerturbation, FactoryMembers, factory_members
from .subject import Samples, Subject

__all__ = [
    "STATE_BYTES",
    "Attribution",
    "AttributionMembers",
    "AttributionMethod",
    "BetweenLayersFactory",
    "Demo",
    "Launcher",
    "MeasureFactory",
    "MeasureMembers",
    "Perturb",
    "PerturbMembers",
    "Perturbation",
    "PerturbationFactory",
    "PerturbationMembers",
    "Progress",
    "ReportWriter",
    "Samples",
    "Subject",
    "SubjectMembers",
    "SubjectPlugin",
]


@dataclass(frozen=True)
class Attribution:
    """A method as asked for.

    Args:
        name: what to call it; the spec that it came from.
        factory: a class as Captum's are: ``factory(forward_func)`` or ``factory(forward_func, layer)``, with
            ``attribute(inputs, target=...)`` and, if it has to see labelled data first, ``fit(loader)``. One that has
            ``fit`` is made with a list of layers where it knows them, and then gives a list.
        init: options of the constructor.
        attribute: options of ``attribute``.
        plugin: what errors call it, "attribution saliency of selplug"; the name by default.
    """

    name: str
    factory: Any
    init: Mapping[str, Any] = field(default_factory=dict)
    attribute: Mapping[str, Any] = field(default_factory=dict)
    plugin: str = field(default="", compare=False)

    @property
    def title(self) -> str:
        """What errors call it."""
        return self.plugin or f"attribution {self.name}"

    @property
    def takes_layer(self) -> bool:
        """Whether it explains a layer, or the input alone."""
        return "layer" in inspect.signature(self.factory).parameters

    @property
    def needs_fit(self) -> bool:
        """Whether it has to see labelled data first."""
        return needs_fit(self.factory)


#: Sums of all conditions are kept at once up to this many bytes; beyond it the data is read in several passes.
STATE_BYTES = 2 * 2**30


#: ``(condition, samples done, samples in all)``, samples counted once per condition.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Perturbation:
    """A perturbation as asked for: a factory with its options, under the name that the report gives it.

    ``kind`` is "attack", "noise", "corruption" or "shift"; attacks take part in the worst-case accuracy.
    ``options`` are all options in force, defaults included, for the record. ``spec`` is the text that asks for it, if
    it is not the name. ``plugin`` is what errors call the plugin, "perturbation occlusion of selplug-example".

    Raises:
        PluginError: the factory breaks its contract, see :class:`PerturbationMembers`.
    """

    name: str
    factory: PerturbationFactory
    options: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "attack"
    spec: str = ""
    plugin: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        _ = self.members  # checked at once, not in the middle of a run

    @cached_property
    def members(self) -> FactoryMembers:
        """The optional members of the factory."""
        return factory_members(self.factory, self.title)

    @property
    def title(self) -> str:
        """What errors call it."""
        return self.plugin or f"perturbation {self.name}"

    @property
    def threat(self) -> Mapping[str, Any]:
        """What the factory's ``threat(options)`` says: ``norm``, ``eps``, ``option``, ``steps``; empty without one."""
        if self.members.threat is None:
            return {}
        with blamed(self.title, self.name):
            return self.members.threat(self.options)

    def build(self, model: nn.Module) -> BuiltPerturbation:
        """What perturbs batches of this model, checked.

        Raises:
            SelplugError: an option is wrong, or the perturbation does not work with the model.
            PluginError: the factory fails in another way, or what it makes breaks its contract.
        """
        with blamed(self.title, self.name):
            made = self.factory(model, **self.options)
        return BuiltPerturbation(made, self.title, self.name)

    def described(self, num_classes: int) -> Mapping[str, Any]:
        """The options as the factory's ``describe(options, num_classes)`` tells them; as they are without one."""
        if self.members.describe is None:
            return self.options
        with blamed(self.title, self.name):
            return self.members.describe(self.options, num_classes)
