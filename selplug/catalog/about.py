"""What a plugin is, as `selplug plugins NAME` tells it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .. import specs
from ..core.errors import PluginError
from ..core.plugins.measure import measure
from ..core.plugins.perturbation import factory_members
from ..registry import GROUPS, Plugin, near_names, plugins, singular
from .docstrings import docstring, summary
from .options import Option, options_of, shown

#: How a plugin without options is asked for.
_USES = {
    "selplug.subjects": "--subject {name}",
    "selplug.measures": "--measure {name}",
    "selplug.reports": "written with every report",
    "selplug.launchers": "selplug timm-train SCRIPT [ARGUMENTS ...]",
    "selplug.demos": "selplug demo {name}",
}


@dataclass(frozen=True)
class About:
    """``kind`` is that of a perturbation, else what the group holds. ``options`` is None where an extra is missing."""

    plugin: Plugin
    kind: str
    summary: str = ""
    example: str = ""
    options: tuple[Option, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        options = self.options and [
            {
                "name": option.name,
                "default": _jsonable(option.default),
                "required": option.required,
                "meaning": option.meaning,
            }
            for option in self.options
        ]
        told = {"kind": self.kind, "summary": self.summary, "example": self.example}
        return {**facts(self.plugin), **told, "options": None if self.options is None else list(options or ())}


def facts(plugin: Plugin) -> dict[str, Any]:
    """What is known of a plugin without loading it, ready for JSON."""
    return {
        "group": plugin.group,
        "name": plugin.name,
        "target": plugin.target,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "extra": plugin.extra,
        "missing": list(plugin.missing),
    }


def named(name: str) -> list[Plugin]:
    """The plugins of a name, or of a spec such as ``fog@3``, in all groups.

    Raises:
        PluginError: there is none; near names are given.
    """
    known = [plugin for group in GROUPS for plugin in plugins(group).values()]
    wanted = specs.spec_name(name)
    found = [plugin for plugin in known if plugin.name == wanted]
    if not found:
        near = near_names(wanted, dict.fromkeys(plugin.name for plugin in known))
        hint = f"did you mean {', '.join(near)}?" if near else "`selplug plugins` lists all"
        raise PluginError(f"unknown plugin {name!r}; {hint}")
    return found


def about(plugin: Plugin) -> About:
    """Loads a plugin and says what it is; one whose extra is missing is not loaded.

    Raises:
        PluginError: it cannot be loaded, or breaks its contract.
    """
    kind = singular(plugin.group)
    if plugin.missing:
        return About(plugin, kind)
    found = plugin.load()
    options = options_of(plugin.group, found, plugin.title)
    if plugin.group == "selplug.perturbations":
        kind = factory_members(found, plugin.title).kind
    if plugin.group == "selplug.measures":
        kind = _kind_of_measure(found, plugin.title)
    return About(plugin, kind, summary(docstring(found)), example(plugin, found, options), options)


def _kind_of_measure(found: Any, plugin: str) -> str:
    members = measure(found, plugin)
    parts = [
        "of clean and perturbed responses as pairs" if members.on_pairs else "",
        "of input gradients" if members.on_gradients else "",
        "of differences, too" if members.on_differences else "",
        "of all layers at once, too" if members.between_layers else "",
        f"of {members.min_samples} images or more" if members.min_samples > 1 else "",
    ]
    return ", ".join(["measure", *filter(None, parts)])


def example(plugin: Plugin, found: Any, options: tuple[Option, ...]) -> str:
    """How to ask for it on the command line, with options in their defaults."""
    if plugin.group == "selplug.training":
        return " ".join(["selplug train --data-dir DIR", *(option.name for option in options[:1])])
    if plugin.group in _USES:
        return _USES[plugin.group].format(name=plugin.name)
    flag, spec = "--method", plugin.name
    pairs = [o for o in options if o.required or not (o.default is None or o.default == "" or o.name.startswith("**"))]
    written = [f"{o.name}={o.name.upper() if o.required else shown(o.default)}" for o in pairs if _simple(o)][:2]
    if plugin.group == "selplug.perturbations":
        flag, members = "--perturb", factory_members(found, plugin.title)
        if members.positional:
            return f"--perturb {spec}:{members.positional.upper()}"
        if members.level:
            level = next(option.default for option in options if option.name == members.level)
            return f"--perturb {spec}@{1 if level is None else shown(level)}"
    return f"{flag} {spec}{':' if written else ''}{','.join(written)}"


def _simple(option: Option) -> bool:
    return option.required or isinstance(option.default, (bool, int, float, str))


def _jsonable(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        return shown(value)
