from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..core.plugins.blame import blamed
from ..core.plugins.others import check_hook
from ..core.plugins.subject import LoadedSubject
from ..specs.attributions import attribution_options
from .docstrings import docstring, meanings, plain

#: Groups whose plugins get all of their arguments from the command line.
_ALL_THEIR_OWN = ("selplug.launchers", "selplug.demos")


@dataclass(frozen=True)
class Option:
    """An option of a plugin: its name as it is written, its default, and what it means (empty if nobody says)."""

    name: str
    default: Any
    meaning: str
    required: bool = False

    def shown_default(self) -> str:
        """The default as a spec has it; "required" without one."""
        return "required" if self.required else shown(self.default)


def options_of(group: str, found: Any, plugin: str) -> tuple[Option, ...]:
    """Every option of a loaded plugin.

    Those of training hooks and of subjects are their flags; those of all others come from their signatures, and the
    meanings from the section ``Args:`` or ``Options:`` of a docstring, as do all options of a subject without flags.

    Raises:
        PluginError: a training hook cannot be made, or cannot add its flags.
    """
    doc = docstring(found)
    if group == "selplug.perturbations":
        return _of_parameters(list(inspect.signature(found).parameters.values())[1:], doc)
    if group == "selplug.measures":
        parameters = inspect.signature(found).parameters.values()
        given = ("num_units", "num_classes", "seed")
        return _of_parameters([p for p in parameters if p.name not in given and p.kind is not p.VAR_KEYWORD], doc)
    if group == "selplug.attributions":
        constructor, call = attribution_options(found)
        return _of_parameters([*constructor, *call], doc, docstring(found.__init__), docstring(found.attribute))
    if group == "selplug.training":
        return _of_hook(found, plugin)
    if group == "selplug.subjects":
        return _of_subject(found, doc)
    return _of_parameters(inspect.signature(found).parameters.values(), doc) if group in _ALL_THEIR_OWN else ()


def _of_parameters(parameters: Iterable[inspect.Parameter], *docs: str) -> tuple[Option, ...]:
    said: dict[str, tuple[str, str | None]] = {}
    for doc in docs:
        said = meanings(doc) | said
    return tuple(
        Option(
            ("**" if p.kind is p.VAR_KEYWORD else "") + p.name,
            None if p.default is p.empty else p.default,
            said.get(p.name, ("", None))[0],
            required=p.default is p.empty and p.kind is not p.VAR_KEYWORD,
        )
        for p in parameters
        if p.kind is not p.VAR_POSITIONAL
    )


def _of_hook(found: Any, plugin: str) -> tuple[Option, ...]:
    with blamed(plugin):
        hook = found()
        check_hook(hook, plugin)
        return _of_flags(hook.add_arguments)


def _of_subject(found: LoadedSubject, doc: str) -> tuple[Option, ...]:
    if found.add_arguments is not None:
        with blamed(found.plugin):
            return _of_flags(found.add_arguments)
    said = ((name, *each) for name, each in meanings(doc).items() if name not in ("model", "options"))
    return tuple(Option(name, default, meaning) for name, meaning, default in said)


def _of_flags(add_arguments: Callable[[argparse._ArgumentGroup], None]) -> tuple[Option, ...]:
    scratch = argparse.ArgumentParser(add_help=False)
    add_arguments(scratch.add_argument_group())
    return tuple(
        Option(
            ", ".join(action.option_strings) or action.dest,
            action.default,
            plain((action.help or "").partition(" (default")[0]),
            action.required,
        )
        for action in scratch._actions
    )


def shown(value: Any) -> str:
    """A value as a spec has it: 0.0313... as 8/255, None as none, a function by its name."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        steps = round(value * 255)
        return f"{steps}/255" if 0 < steps < 255 and abs(value * 255 - steps) < 1e-6 else f"{value:g}"
    if isinstance(value, str):
        return value or '""'
    return str(getattr(value, "__name__", value))
