from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import contracts
from .blame import blamed
from .reading import Attributes, check_call, check_spelling

if TYPE_CHECKING:
    from torchmetrics import Metric

_BUILT_WITH = ("num_units", "num_classes", "seed")


@dataclass(frozen=True)
class Measure:
    """A measure's factory with its optional members, read and checked; see :class:`contracts.MeasureMembers`.

    ``plugin`` is what errors call it, "measure sparsity of selplug-example".
    """

    factory: contracts.MeasureFactory
    plugin: str
    on_differences: bool = False
    on_pairs: bool = False
    on_gradients: bool = False
    between_layers: contracts.BetweenLayersFactory | None = None
    min_samples: int = 1
    min_classes: int = 1

    def __call__(self, **options: Any) -> Metric:
        """A metric; options are those of :class:`contracts.MeasureFactory`."""
        with blamed(self.plugin):
            return self.factory(**options)


def measure(factory: Any, plugin: str) -> Measure:
    """Raises PluginError, under the name ``plugin``, if the factory breaks its contract."""
    if isinstance(factory, Measure):
        return factory
    check_call(factory, plugin, keywords=_BUILT_WITH)
    check_spelling(factory, contracts.names(contracts.MeasureMembers), plugin)
    read = Attributes(factory, plugin)
    between: Any = read.function("between_layers")
    if between is not None:
        check_call(between, f"{plugin}: between_layers", keywords=_BUILT_WITH)
    return Measure(
        factory,
        plugin,
        on_differences=read.flag("on_differences"),
        on_pairs=read.flag("on_pairs"),
        on_gradients=read.flag("on_gradients"),
        between_layers=between,
        min_samples=read.count("min_samples"),
        min_classes=read.count("min_classes"),
    )


def measures(factories: Mapping[str, Any]) -> dict[str, Measure]:
    """:func:`measure` of each; one that has no name yet is called after its key."""
    return {name: measure(factory, f"measure {name}") for name, factory in factories.items()}


@functools.cache
def takes_shuffled(kind: type[Metric]) -> bool:
    """Whether metrics of this class take ``shuffled_targets``."""
    return "shuffled_targets" in inspect.signature(kind.update).parameters
