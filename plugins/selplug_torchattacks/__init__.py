"""Every attack of torchattacks as a perturbation, under its name in lower case: ``pgd``, ``apgd``, ``autoattack`` ...

``selplug_torchattacks.pgd(model, eps=8/255, steps=20)`` returns ``(images, labels) -> images``. :mod:`.factory`
describes what all attacks share, :mod:`.repairs` what is corrected in single attacks, and :mod:`.ensemble` the settings
of AutoAttack.

Without a ``target`` (see :mod:`.targets`) the attacks are untargeted: any class other than the label is a success.
torchattacks is imported when the first attack is requested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from selplug.core.errors import InputError

if TYPE_CHECKING:
    from selplug.core.types import Perturb

    from .factory import AttackFactory


def any_attack(model: nn.Module, *, attack: str, **options: Any) -> Perturb:
    """The attack called ``attack``, for attacks of a newer torchattacks that have no entry point here.

    Args:
        attack: its name in torchattacks, in any case.
        options: those of that attack.

    Raises:
        InputError: there is no such attack, or its options are wrong.
    """
    return _named(attack)(model, **options)


def _describe_any(options: dict[str, Any], num_classes: int) -> dict[str, Any]:
    return _named(options["attack"]).describe({k: v for k, v in options.items() if k != "attack"}, num_classes)


def _threat_of_any(options: dict[str, Any]) -> dict[str, Any]:
    return _named(options["attack"]).threat({k: v for k, v in options.items() if k != "attack"})


any_attack.kind = "attack"  # type: ignore[attr-defined]
any_attack.describe = _describe_any  # type: ignore[attr-defined]
any_attack.threat = _threat_of_any  # type: ignore[attr-defined]


def _named(name: str) -> AttackFactory:
    from .factory import AttackFactory, exported

    attacks = exported()
    if name.lower() not in attacks:
        raise InputError(f"torchattacks has no attack {name!r}; there are: {', '.join(sorted(attacks))}")
    return AttackFactory(name.lower(), attacks[name.lower()])


def __getattr__(name: str) -> AttackFactory:
    """The factory of an attack, made when it is first requested (PEP 562). Without torchattacks, an ImportError."""
    if not name.startswith("_"):
        try:
            factory = _named(name)
        except InputError as error:
            raise AttributeError(str(error)) from None
        globals()[name] = factory
        return factory
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
