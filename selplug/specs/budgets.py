"""The attacks of a worst case, with a default budget for attacks that specify none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..core.errors import InputError
from .language import parse_spec, split_specs
from .perturbing import perturbations as perturbations_of

if TYPE_CHECKING:
    from ..core.types import Perturbation


def worst_case_attacks(
    specs: str | Sequence[str | Perturbation], perturbations: Iterable[Perturbation] = ()
) -> list[Perturbation]:
    """The attacks of ``specs``, each with a budget.

    If an attack in a ball does not specify its eps, it gets the eps of other attacks with the same norm: first of those
    that specify one in ``specs``, then of the attacks in ``perturbations``, specified or default. If there are none, it
    keeps its own default.

    Args:
        specs: a list, or one text such as ``"apgd:eps=2/255,fab,square"``.

    Raises:
        InputError: these attacks have different eps, so the choice is unclear; or a spec is wrong.
    """
    found: list[tuple[Perturbation, bool]] = []
    for spec in split_specs(specs) if isinstance(specs, str) else specs:
        if isinstance(spec, str):
            for each in perturbations_of(spec):
                found.append((each, each.threat.get("option") in parse_spec(each.name)[1]))
        else:
            found.append((spec, True))
    specified = [attack for attack, own in found if own]
    others = [attack for attack in perturbations if attack.kind == "attack"]
    attacks = [attack if own else _with_budget(attack, specified, others) for attack, own in found]
    names = [attack.name for attack in attacks]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"the worst case contains {', '.join(repeated)} twice")
    return attacks


def _with_budget(attack: Perturbation, *sources: Sequence[Perturbation]) -> Perturbation:
    threat = attack.threat
    if "eps" not in threat:
        return attack
    for source in sources:
        sizes = {float(t["eps"]) for p in source if (t := p.threat).get("norm") == threat["norm"] and "eps" in t}
        if len(sizes) > 1:
            shown = ", ".join(_text(eps, threat["norm"]) for eps in sorted(sizes))
            raise InputError(
                f"{attack.name} in the worst case has no budget, and the other attacks have several ({shown}); "
                f"specify one, as in {attack.name.partition(':')[0]}:{threat['option']}=8/255"
            )
        if sizes:
            eps = sizes.pop()
            option = f"{threat['option']}={_text(eps, threat['norm'])}"
            name = f"{attack.name}{',' if ':' in attack.name else ':'}{option}"
            return replace(attack, name=name, options={**attack.options, threat["option"]: eps})
    return attack


def _text(eps: float, norm: str) -> str:
    steps = round(eps * 255 * 4)
    return f"{steps / 4:g}/255" if norm == "Linf" and abs(eps * 255 * 4 - steps) < 1e-6 else f"{eps:g}"
