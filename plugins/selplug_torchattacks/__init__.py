"""Every attack of torchattacks as a perturbation, under its name in lower case: ``pgd``, ``apgd``, ``autoattack`` ...

``selplug_torchattacks.pgd(model, eps=8/255, steps=20)`` gives ``(images, labels) -> images``; see
:mod:`.factory` for what all attacks share, :mod:`.repairs` for what is set right in single attacks, and
:mod:`.ensemble` for the settings of AutoAttack.

Without a ``target`` (see :mod:`.targets`) the attacks are untargeted: each one tries to leave the class given by the
label, whichever class it ends in.
torchattacks is imported when the first attack is asked for, and not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from selplug.core.errors import InputError

if TYPE_CHECKING:
    from selplug.core.types import Perturb

    from .factory import AttackFactory


def any_attack(model: nn.Module, *, attack: str, **options: Any) -> Perturb:
    """The attack called ``attack``, for those of a newer torchattacks that have no entry point of their own.

    Args:
        attack: its name in torchattacks, in any case.
        options: those of that attack.

    Raises:
        InputError: no such attack, or its options are wrong.
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
    """PEP 562: the factory of an attack, made when it is first asked for. Without torchattacks, an ImportError."""
    if not name.startswith("_"):
        try:
            factory = _named(name)
        except InputError as error:
            raise AttributeError(str(error)) from None
        globals()[name] = factory
        return factory
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
