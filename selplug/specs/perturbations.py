from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError, PluginError
from ..registry import load, plugins
from .language import _NAME, LEVEL, parse_spec, spec_name, sweep
from .options import check_options

if TYPE_CHECKING:
    from ..core.types import Perturbation


def perturbations(spec: str) -> list[Perturbation]:
    """The perturbations of a spec: ``name`` or ``name@level``, with or without ``:key=value,key=value``.

    A value is a number (``0.1``, ``1e-3``), a fraction (``8/255``), ``true`` or ``false``, or a word. One value may be
    a sweep, see :func:`sweep`. Optional attributes of the factory: ``level`` is the option that ``@level`` sets;
    ``expand(options)`` returns the specs of several perturbations; ``positional`` is the option that text without
    ``key=`` directly after the colon sets, as in ``cifar10c:DIR``; ``label(options)`` returns the perturbation's name.

    Returns:
        All perturbations that the spec expands to, usually one. Their names are their specs, or from ``label``.

    Raises:
        InputError: the syntax is wrong, an option is unknown, or a value has the wrong type.
        PluginError: the name is unknown, or its host library is missing.
    """
    from ..core.types import Perturbation

    swept = sweep(spec)
    if swept:
        return [perturbation for each in swept for perturbation in perturbations(each)]
    name = spec_name(spec)
    if not _NAME.fullmatch(name):
        parse_spec(spec)  # raises the error
    factory = load("selplug.perturbations", name)
    name, options = parse_spec(spec, getattr(factory, "positional", None))
    if LEVEL in options:
        level = getattr(factory, "level", None)
        if level is None or level in options:
            reason = f"takes no {LEVEL}" if level is None else f"gives {level} twice"
            hint = _namesake(name, options)
            raise InputError(f"{spec.strip()!r}: {name} {reason}; expected name:key=value,key=value{hint}")
        options[level] = options.pop(LEVEL)
    try:
        options = check_options(name, factory, options)
    except InputError as error:
        raise InputError(f"{error}{_namesake(name, options)}") from error
    specs = factory.expand(options) if hasattr(factory, "expand") else None
    if specs is not None:
        return [perturbation for each in specs for perturbation in perturbations(each)]
    label = factory.label(options) if hasattr(factory, "label") else spec.strip()
    return [Perturbation(label, factory, options, getattr(factory, "kind", "attack"), spec.strip())]


def _namesake(name: str, options: Mapping[str, Any]) -> str:
    """A hint at the perturbation with these options and a name that differs only in ``-`` and ``_``, if any."""
    other = name.translate(str.maketrans("-_", "_-"))
    if other == name or other not in plugins("selplug.perturbations"):
        return ""
    try:
        factory = load("selplug.perturbations", other)
    except PluginError:
        return ""
    taken = {*inspect.signature(factory).parameters} | ({LEVEL} if hasattr(factory, "level") else set())
    return f"; {other} is another perturbation, which takes this" if options.keys() <= taken else ""


def perturbation(spec: str) -> Perturbation:
    """The single perturbation of a spec, see :func:`perturbations`.

    Raises:
        InputError: as there, or the spec stands for several.
    """
    found = perturbations(spec)
    if len(found) != 1:
        raise InputError(f"expected one perturbation, got {spec!r}, which stands for {len(found)}")
    return found[0]
