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
    """``name``, ``name@level`` or either with ``:key=value,key=value`` as perturbations, their options checked.

    A value is a number (``0.1``, ``1e-3``), a fraction (``8/255``), ``true`` or ``false``, or a word. ``@level`` sets
    the option that the factory names in its attribute ``level``. A factory with an attribute ``expand`` may stand for
    several: ``expand(options)`` gives their specs. One value may be a sweep, see :func:`sweep`. A factory with an
    attribute ``positional`` names the option that a text without ``key=`` right behind the colon sets, as in
    ``cifar10c:DIR``; one with an attribute ``label`` gives each perturbation its name, ``label(options)``.

    Returns:
        One perturbation under the spec as its name (or that of ``label``), or all those that it expands to.

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
        parse_spec(spec)  # says what is wrong with it
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
    """Names the perturbation that takes these options and whose name differs by ``-`` and ``_`` alone, if any."""
    other = name.translate(str.maketrans("-_", "_-"))
    if other == name or other not in plugins("selplug.perturbations"):
        return ""
    try:
        factory = load("selplug.perturbations", other)
        members = factory_members(factory, other)
    except PluginError:
        return ""
    taken = {*inspect.signature(factory).parameters} | ({LEVEL} if members.level else set())
    return f"; {other} is another perturbation, which takes that" if options.keys() <= taken else ""


def perturbation(spec: str) -> Perturbation:
    """The one perturbation of a spec, see :func:`perturbations`.

    Raises:
        InputError: it stands for several, too.
    """
    found = perturbations(spec)
    if len(found) != 1:
        raise InputError(f"expected one perturbation, got {spec!r}, which stands for {len(found)}")
    return found[0]
