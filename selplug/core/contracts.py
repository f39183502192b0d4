"""What a plugin has to be, group by group, and what it may have besides.

Each contract is a Protocol: a plain function or class that fits is a plugin, nothing has to be inherited. Members of a
``...Members`` protocol are optional, and a function has them as attributes. All are checked when a plugin is loaded: a
wrong type and a name that looks misspelt are a PluginError. See docs/plugins.md.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torchmetrics import Metric

    from .subject import Subject

Kind = Literal["attack", "noise", "corruption", "shift"]
KINDS: tuple[Kind, ...] = ("attack", "noise", "corruption", "shift")


class Perturb(Protocol):
    """What perturbs a batch. Its optional members are :class:`PerturbMembers`.

    Args:
        images: (N, C, H, W) float32 in [0, 1], a copy that may be changed.
        labels: (N,) int64.
        samples: a third argument, :class:`~selplug.core.subject.Samples`, for one that is ``by_sample``.

    Returns:
        Images of the same shape and dtype, finite and in [0, 1].
    """

    def __call__(self, images: Tensor, labels: Tensor, /, *args: Any, **kwargs: Any) -> Tensor: ...


class PerturbMembers(Protocol):
    """What a :class:`Perturb` may have besides."""

    kind: Kind
    """Of a callable that is handed to ``selplug.audit`` as it is; of one from a factory that of the factory counts."""
    by_sample: bool
    """Whether it takes the Samples of each batch as a third argument. False unless given."""
    targets: Tensor | None
    """After a call: the class (N,) that a targeted attack drove each sample to; None for an untargeted one."""
    facts: Mapping[str, Any]
    """After the run: JSON-ready facts that join the options in the report."""

    def check(self, images: Tensor) -> None:
        """Called with two images before the run starts; raises InputError for a shape that the attack cannot take."""

    def prepare(self, subject: Subject) -> Subject | None:
        """Called before anything is measured. A subject given back is measured in place of perturbed images."""


class PerturbationFactory(Protocol):
    """Group ``selplug.perturbations``. Its optional members are :class:`PerturbationMembers`.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K) float32; in eval mode; ``model.num_classes`` is K.
        options: keyword parameters; a default gives the type, and one without a default must be given.
    """

    def __call__(self, model: nn.Module, /, *args: Any, **options: Any) -> Perturb: ...


class PerturbationMembers(Protocol):
    """What a :class:`PerturbationFactory` may have besides; ``options`` are all options in force, defaults included."""

    kind: Kind
    """"attack" unless given. Attacks take part in the worst-case accuracy."""
    level: str
    """The option that ``name@value`` sets."""
    positional: str
    """The option that a text right behind the colon sets, as in ``cifar10c:FOLDER``."""

    def expand(self, options: Mapping[str, Any]) -> Sequence[str] | None:
        """The specs of all that the name stands for; None if the options mean a single perturbation."""

    def label(self, options: Mapping[str, Any]) -> str:
        """What the report calls the perturbation; its spec unless given."""

    def describe(self, options: Mapping[str, Any], num_classes: int) -> Mapping[str, Any]:
        """What the report says about the settings in force, JSON-ready; the options unless given."""

    def threat(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """What an attack may do, those that apply of: ``norm`` ("Linf" or "L2") and ``eps`` in pixel units of [0, 1],
        the ball it stays in; ``option``, which says eps; ``steps``, 1 for a single gradient step."""


class MeasureFactory(Protocol):
    """Group ``selplug.measures``: one metric per layer and condition. Optional: :class:`MeasureMembers`.

    The metric has ``update(responses, targets)``: responses (N, U), at least float32, not negative; targets (N,), the
    numbers in [0, num_classes) of the classes that have samples. A parameter ``shuffled_targets`` also gets these
    shuffled over the whole set. ``compute()`` returns a mapping of numbers, mappings and tensors.

    Args:
        num_units: U.
        num_classes: how many classes have samples.
        seed: of the run.
    """

    def __call__(self, *, num_units: int, num_classes: int, seed: int) -> Metric: ...


class BetweenLayersFactory(Protocol):
    """One metric for all layers of clean images: ``update([responses (N, U_1), ...])``."""

    def __call__(self, *, num_units: Sequence[int], num_classes: int, seed: int) -> Metric: ...


class MeasureMembers(Protocol):
    """What a :class:`MeasureFactory` may have besides."""

    on_differences: bool
    """Also measures perturbed less clean responses, which have both signs."""
    on_pairs: bool
    """``update(clean (N, U), perturbed (N, U))`` of every perturbation; nothing of clean images alone."""
    on_gradients: bool
    """``update(gradients, targets)`` with :class:`~selplug.core.measures.unit_gradients.UnitGradients`."""
    between_layers: BetweenLayersFactory
    """A second factory, for all layers at once."""
    min_samples: int
    """How many images there must be; 1 unless given."""
    min_classes: int
    """How many classes must have samples; 1 unless given."""


class AttributionMethod(Protocol):
    """Group ``selplug.attributions``: a class as Captum's, ``(forward_func)`` or ``(forward_func, layer)``.

    ``forward_func`` maps images (N, C, H, W) in [0, 1] to logits (N, K). All other parameters of the constructor and of
    ``attribute`` are options.
    """

    def attribute(self, inputs: Tensor, /, *args: Any, **options: Any) -> Any:
        """Inputs (1, C, H, W); ``target``, a class number, if there is such a parameter. A tensor of the shape of the
        layer's output or of the image, or a list of them for a list of layers."""


class AttributionMembers(Protocol):
    """What an attribution method may have besides."""

    def fit(self, loader: Iterable[tuple[Tensor, Tensor]]) -> Any:
        """Called once before all else, with (images in [0, 1], labels (N,)); the loader can be read again."""


class SubjectPlugin(Protocol):
    """Group ``selplug.subjects``: model and data from a text and options. Optional: :class:`SubjectMembers`."""

    def __call__(self, model: str, options: Mapping[str, Any], /) -> Subject: ...


class SubjectMembers(Protocol):
    """What a :class:`SubjectPlugin` may have besides."""

    aside: Sequence[str]
    """Options that change no number."""

    def add_arguments(self, group: argparse._ArgumentGroup) -> None:
        """Adds the flags that its options are the values of."""


class ReportWriter(Protocol):
    """Group ``selplug.reports``: writes files of a ``selplug.Report`` into an empty folder and returns one's path."""

    def __call__(self, report: Any, folder: Path, /) -> Path: ...


class Launcher(Protocol):
    """Group ``selplug.launchers``: runs a training script with training hooks in it."""

    def __call__(self, script: str, arguments: Sequence[str], /) -> None: ...


class Demo(Protocol):
    """Group ``selplug.demos``: what ``selplug demo NAME`` runs; writes into ``output``."""

    def __call__(self, output: Path, seed: int, /) -> Any: ...


class TrainingHookMethods(Protocol):
    """Group ``selplug.training``, ``() -> hook``: see :class:`selplug.core.training.TrainingHook`. Its subclasses have
    all of these."""

    add_arguments: Callable[[argparse._ArgumentGroup], None]
    active: Callable[[argparse.Namespace], bool]
    attach: Callable[..., None]
    on_epoch: Callable[[int], None]
    on_batch: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    extra_loss: Callable[[Tensor, Tensor], Tensor | None]
    scalars: Callable[[], Mapping[str, float]]
    close: Callable[[], None]


def names(members: type) -> tuple[str, ...]:
    """The public names of a protocol, in order."""
    found = dict.fromkeys([*inspect.get_annotations(members), *vars(members)])
    return tuple(name for name in found if not name.startswith("_"))
