"""The options of an attack, checked before anything runs."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from selplug.core.errors import InputError

from .targets import TARGETED, check_target

#: Options that we set ourselves: the seed (from the batch's generator), the number of classes (from the model), no
#: printing, and no early stop that depends on the whole batch (see repairs.py).
HIDDEN = frozenset({"self", "model", "seed", "verbose", "n_classes", "abort_early"})


@dataclass(frozen=True)
class Rule:
    """A condition on a number, in words and as a function."""

    expected: str
    holds: Callable[[float], bool]


AT_LEAST_0 = Rule("a number >= 0", lambda value: value >= 0)
ABOVE_0 = Rule("a number > 0", lambda value: value > 0)
SHARE = Rule("a number from 0 to 1", lambda value: 0 <= value <= 1)
SHARE_ABOVE_0 = Rule("a number above 0, at most 1", lambda value: 0 < value <= 1)
COUNT = Rule("a whole number >= 1", lambda value: value >= 1 and value == int(value))
RESIZE = Rule("a number > 0 other than 1", lambda value: value > 0 and value != 1)  # at 1 torch.randint has no range
STEP = Rule("a number from -1 to 1 other than 0", lambda value: 0 < abs(value) <= 1)

_NAMES = {
    AT_LEAST_0: "eps alpha std max_epsilon noise_sd kappa decay beta overshoot momentum amplification project_factor",
    ABOVE_0: "c lr delta lam scale eta nsig initial_const eps_for_division",
    SHARE: "diversity_prob prob rho",
    SHARE_ABOVE_0: "p_init gamma alpha_max",
    COUNT: "steps n_restarts eot_iter n_queries binary_search_steps max_iterations nb_iter nb_sample max_batch_size m "
    "N noise_batch_size batch_max len_kernel num_iter_set pixels popsize inf_batch restarts",
    RESIZE: "resize_rate",
    STEP: "theta",
}
RULES = {name: rule for rule, names in _NAMES.items() for name in names.split()}

_NORM = {"norm": ("Linf", "L2")}
_NOISE = {"noise_type": ("gaussian", "uniform")}
WORDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "apgd": {**_NORM, "loss": ("ce", "dlr")},
    "apgdt": _NORM,
    "autoattack": {**_NORM, "version": ("standard", "plus", "rand")},
    "fab": _NORM,  # torchattacks lists L1 too, but fails on it: its size is never computed
    "pgdrs": _NOISE,
    "pgdrsl2": _NOISE,
    "pixle": {"pixel_mapping": ("random", "similarity", "similarity_random", "distance", "distance_random")},
    "square": {**_NORM, "loss": ("margin", "ce")},
    "tifgsm": {"kernel_name": ("gaussian", "linear", "uniform")},
    "upgd": {"loss": ("ce", "dlr", "margin")},
}


def signature(attack: type) -> inspect.Signature:
    """The model, then the options that users can set, keyword only, with the defaults of the class.

    Attacks with a targeted mode also have ``target``.
    """
    model = inspect.Parameter("model", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    options = [
        parameter.replace(
            kind=inspect.Parameter.KEYWORD_ONLY,
            annotation=inspect.Parameter.empty,
            default="gaussian" if parameter.default == "guassian" else parameter.default,
        )
        for name, parameter in inspect.signature(attack).parameters.items()
        if name not in HIDDEN and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    if attack.__name__.lower() in TARGETED:
        options.append(inspect.Parameter("target", inspect.Parameter.KEYWORD_ONLY, default=None))
    return inspect.Signature([model, *options])


def check(name: str, known: inspect.Signature, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options, with defaults for those not given, each checked.

    Raises:
        InputError: an option is unknown or missing, or its value is of the wrong type or out of range.
    """
    parameters = {key: p for key, p in known.parameters.items() if key != "model"}
    for key in options:
        if key not in parameters:
            raise InputError(f"{name} has no option {key!r}; there are: {', '.join(parameters) or 'none'}")
    missing = [key for key, p in parameters.items() if p.default is p.empty and key not in options]
    if missing:
        raise InputError(f"{name} needs the option {missing[0]}, as in {name}:{missing[0]}=...")
    checked = {
        key: _value(name, key, options.get(key, parameter.default), parameter.default)
        for key, parameter in parameters.items()
    }
    check_target(name, checked.get("target"))
    if name == "upgd" and checked["target"] is not None and checked["loss"] == "dlr":
        raise InputError("upgd: a target works with loss=ce or loss=margin, got loss=dlr")
    if is_linf(name, checked):
        for key in ("eps", "max_epsilon", "alpha"):
            if checked.get(key, 0) > 1:
                raise InputError(
                    f"{name}: expected {key} from 0 to 1, got {checked[key]}; "
                    "epsilons are in pixel units of [0, 1]: write 8/255"
                )
    return checked


def is_linf(name: str, options: Mapping[str, Any]) -> bool:
    """Whether sizes are in the Linf norm: by the option ``norm``, or without it if the name does not end in l2."""
    return options.get("norm", "L2" if name.endswith("l2") else "Linf") == "Linf"


def _value(name: str, key: str, value: Any, default: Any) -> Any:
    words = WORDS.get(name, {}).get(key)
    if words is not None:
        return _word(f"{name}: option {key}", value, words)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise InputError(f"{name}: option {key}: expected true or false, got {value!r}")
        return value
    if key in RULES or isinstance(default, (int, float)):
        return _number(f"{name}: option {key}", value, RULES.get(key))
    return value


def _number(what: str, value: Any, rule: Rule | None) -> float | int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"{what}: expected {rule.expected if rule else 'a finite number'}, got {value!r}")
    if rule is not None and not rule.holds(value):
        raise InputError(f"{what}: expected {rule.expected}, got {value}")
    return int(value) if rule is COUNT else value


def _word(what: str, value: Any, words: tuple[str, ...]) -> str:
    for word in words:
        if isinstance(value, str) and value.lower() == word.lower():
            return word
    raise InputError(f"{what}: expected one of {', '.join(words)}, got {value!r}")
