"""Finds the training hooks and adds their flags to a parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping

from selplug import registry
from selplug.core.errors import PluginError
from selplug.core.plugins.blame import blamed
from selplug.core.plugins.others import check_hook
from selplug.core.training import TrainingHook

from .blamed import BlamedHook

GROUP = "selplug.training"


def load_hooks() -> dict[str, TrainingHook]:
    """A new hook of each plugin by name, without those whose extra is not installed.

    Raises:
        PluginError: one does not import, breaks its contract or fails, or two have a flag in common.
    """
    hooks: dict[str, TrainingHook] = {}
    owners: dict[str, str] = {}
    plugins = registry.plugins(GROUP)
    for name, plugin in plugins.items():
        if plugin.missing:
            continue
        if name == "summary":  # its file would be timm's own
            raise PluginError(
                f"a training hook of {plugin.distribution} is called summary, but summary.csv is a file of timm; "
                "rename the hook"
            )
        made = plugin.load()
        with blamed(plugin.title):
            hook = made()
        check_hook(hook, plugin.title)
        hooks[name] = BlamedHook(hook, plugin.title)
        for flag in _flags(name, hooks[name]):
            if flag in owners:
                other = owners[flag]
                raise PluginError(
                    f"the training hooks {other} (of {plugins[other].distribution}) and {name} (of "
                    f"{plugin.distribution}) both have {flag}; uninstall one of them"
                )
            owners[flag] = name
    return hooks


def add_flags(hooks: Mapping[str, TrainingHook], parser: argparse.ArgumentParser) -> None:
    """Adds one group of flags per hook to a parser. Defaults that the parser already has for them are kept.

    Raises:
        PluginError: the parser already has one of the flags.
    """
    taken = set(_names_of(parser._actions))
    ours = [flag for name, hook in hooks.items() for flag in _flags(name, hook)]
    given = {name: value for name, value in parser._defaults.items() if name in ours}
    for name, hook in hooks.items():
        for flag in _flags(name, hook):
            if flag in taken:
                raise PluginError(f"the training script already has {flag}, a flag of the training hook {name}")
        hook.add_arguments(parser.add_argument_group(f"selplug training hook: {name}"))
    parser.set_defaults(**given)


def _flags(name: str, hook: TrainingHook) -> list[str]:
    """The option strings and the names of their values: both must be unique."""
    scratch = argparse.ArgumentParser(add_help=False)
    try:
        hook.add_arguments(scratch.add_argument_group(name))
    except argparse.ArgumentError as error:
        raise PluginError(f"the training hook {name} cannot add its flags: {error}") from error
    return _names_of(scratch._actions)


def _names_of(actions: Iterable[argparse.Action]) -> list[str]:
    return [text for action in actions for text in dict.fromkeys((*action.option_strings, action.dest))]
