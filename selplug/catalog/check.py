from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..core.errors import PluginError, SelplugError
from ..registry import GROUPS, Plugin, plugins
from .about import about


@dataclass(frozen=True)
class Finding:
    """``state`` is "works", "broken" or "missing" (something of its extra is not installed).

    ``what`` names the plugin, or a group that cannot be read; ``reason`` says why it does not work, in one line;
    ``remarks`` are what could be better.
    """

    what: str
    state: str
    reason: str = ""
    remarks: tuple[str, ...] = ()


def check_all(chosen: Sequence[Plugin] | None = None) -> Iterator[Finding]:
    """Loads plugins, all by default, and holds each against the contract of its group."""
    if chosen is not None:
        yield from map(check, chosen)
        return
    for group in GROUPS:
        try:
            found = plugins(group)
        except PluginError as error:
            yield Finding(group, "broken", _one_line(error))
            continue
        yield from map(check, found.values())


def check(plugin: Plugin) -> Finding:
    """One plugin, loaded."""
    if plugin.missing:
        return Finding(plugin.title, "missing", f"needs {', '.join(plugin.missing)}: {plugin.install_hint}")
    try:
        told = about(plugin)
    except SelplugError as error:
        return Finding(plugin.title, "broken", _one_line(error).removeprefix(f"{plugin.title}: "))
    options = told.options or ()
    remarks = {
        "has no docstring": not told.summary,
        "no meaning of": [o.name for o in options if not o.meaning],
        "no default of": [o.name for o in options if o.required],
    }
    return Finding(
        plugin.title,
        "works",
        remarks=tuple(
            f"{text} {', '.join(found)}" if isinstance(found, list) else text
            for text, found in remarks.items()
            if found
        ),
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
