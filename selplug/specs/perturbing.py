from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError, PluginError
from ..core.plugins.blame import blamed
from ..core.plugins.perturbation import factory_members
from ..registry import find, load, plugins
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
        InputError: the text does not parse, an option is unknown, or a value is of the wrong type.
        PluginError: unknown name, its host library is missing, or the plugin breaks its contract.
    """
    from ..core.types import Perturbation

    swept = sweep(spec)
    if swept:
        return [perturbation for each in swept for perturbation in perturbations(each)]
    name = spec_name(spec)
    if not _NAME.fullmatch(name):
        parse_spec(spec)  # raises the error
    plugin = find("selplug.perturbations", name)
    factory = plugin.load()
    members = factory_members(factory, plugin.title)
    name, options = parse_spec(spec, members.positional)
    if LEVEL in options:
        level = members.level
        if level is None or level in options:
            reason = f"takes no {LEVEL}" if level is None else f"gives {level} twice"
            hint = _namesake(name, options)
            raise InputError(f"{spec.strip()!r}: {name} {reason}; expected name:key=value,key=value{hint}")
        options[level] = options.pop(LEVEL)
    try:
        options = check_options(name, factory, options)
    except InputError as error:
        raise InputError(f"{error}{_namesake(name, options)}") from error
    with blamed(plugin.title, spec.strip()):
        specs = members.expand(options) if members.expand else None
    if specs is not None:
        return [perturbation for each in specs for perturbation in perturbations(each)]
    with blamed(plugin.title, spec.strip()):
        label = members.label(options) if members.label else spec.strip()
    return [Perturbation(label, factory, options, members.kind, spec.strip(), plugin.title)]


def _namesake(name: str, options: Mapping[str, Any]) -> str:
    """A hint at the perturbation with these options and a name that differs only in ``-`` and ``_``, if any."""
    other = name.translate(str.maketrans("-_", "_-"))
    if other == name or other not in plugins("selplug.perturbations"):
        return ""
    try:
        factory = load("selplug.perturbations", other)
        members = factory_members(factory, other)
    except PluginError:
        return ""
    taken = {*inspect.signature(factory).parameters} | ({LEVEL} if members.level else set())
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
