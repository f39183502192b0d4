"""The command ``selplug plugins``: what is installed, what a plugin is, what is broken."""

from __future__ import annotations

import json
import shutil
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from .. import registry

if TYPE_CHECKING:
    from ..catalog.about import About

#: Columns of the terminal that the text of an option gets at least.
_NARROWEST = 30


def plugins(
    name: Annotated[str | None, typer.Argument(help="Show this plugin and all its options.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Load every plugin and say what is broken.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List every plugin that is installed, and what a missing one needs; or show one with all its options."""
    if check:
        _check(name, as_json)
    elif name is not None:
        _show(name, as_json)
    else:
        _list(as_json)


def _list(as_json: bool) -> None:
    """Imports no plugin."""
    from ..catalog.about import facts

    rows = [plugin for group in registry.GROUPS for plugin in registry.plugins(group).values()]
    if as_json:
        typer.echo(json.dumps([facts(row) for row in rows], indent=1))
        return
    width = max(len(row.name) for row in rows)
    for group, what in registry.GROUPS.items():
        found = [row for row in rows if row.group == group]
        if not found:
            continue
        typer.echo(f"{group}: {what}")
        for row in found:
            state = f"  needs {', '.join(row.missing)}: {row.install_hint}" if row.missing else ""
            typer.echo(f"  {row.name:{width}}  {row.distribution} {row.version}{state}")


def _show(name: str, as_json: bool) -> None:
    from ..catalog.about import about, named

    found = [about(plugin) for plugin in named(name)]
    if as_json:
        typer.echo(json.dumps([each.to_dict() for each in found], indent=1))
        return
    typer.echo("\n\n".join("\n".join(_text(each, shutil.get_terminal_size().columns)) for each in found))


def _text(about: About, columns: int) -> list[str]:
    plugin = about.plugin
    lines = [
        f"{plugin.name}: {about.kind} ({plugin.group})",
        f"  {plugin.distribution} {plugin.version}, {plugin.target}",
    ]
    if about.options is None:
        return [*lines, f"  needs {', '.join(plugin.missing)}, which is not installed: {plugin.install_hint}"]
    if about.summary:
        lines += ["", *textwrap.wrap(about.summary, columns - 2, initial_indent="  ", subsequent_indent="  ")]
    lines += ["", f"  {about.example}", ""]
    if not about.options:
        return [*lines, "  It has no options."]
    rows = [("option", "default", "meaning"), *((o.name, o.shown_default(), o.meaning) for o in about.options)]
    first, second = (max(len(row[place]) for row in rows) for place in (0, 1))
    start = f"{'':{first + second + 6}}"
    for option, default, meaning in rows:
        wrapped = textwrap.wrap(meaning, max(_NARROWEST, columns - len(start))) or [""]
        lines.append(f"  {option:{first}}  {default:{second}}  {wrapped[0]}".rstrip())
        lines += [start + more for more in wrapped[1:]]
    return lines


def _check(name: str | None, as_json: bool) -> None:
    from ..catalog.about import named
    from ..catalog.check import check_all

    found = list(check_all(None if name is None else named(name)))
    broken = [each for each in found if each.state == "broken"]
    missing = [each for each in found if each.state == "missing"]
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], indent=1))
    else:
        for each in (*broken, *missing):
            typer.echo(f"{each.state}: {each.what}: {each.reason}")
        for each in found:
            for remark in each.remarks:
                typer.echo(f"remark: {each.what}: {remark}")
        works = len(found) - len(broken) - len(missing)
        typer.echo(f"{works} of {len(found)} plugins work, {len(broken)} broken, {len(missing)} lack what they need")
    if broken:
        raise typer.Exit(1)
