"""Training hooks: found, their flags put on a parser, clashes told."""

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
    """A fresh hook of each plugin by name; those whose extra is not installed are left out.

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
            raise PluginError(f"a training hook of {plugin.distribution} is called summary, as a file of timm is")
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
    """Puts a group of flags per hook on a parser. Defaults that the parser was given before for them stay in force.

    Raises:
        PluginError: the parser has one of the flags already.
    """
    taken = set(_names_of(parser._actions))
    ours = [flag for name, hook in hooks.items() for flag in _flags(name, hook)]
    given = {name: value for name, value in parser._defaults.items() if name in ours}
    for name, hook in hooks.items():
        for flag in _flags(name, hook):
            if flag in taken:
                raise PluginError(f"the training script has {flag} already, which the training hook {name} brings")
        hook.add_arguments(parser.add_argument_group(f"selplug training hook: {name}"))
    parser.set_defaults(**given)


def _flags(name: str, hook: TrainingHook) -> list[str]:
    """Option strings, and names of values, which clash as well."""
    scratch = argparse.ArgumentParser(add_help=False)
    try:
        hook.add_arguments(scratch.add_argument_group(name))
    except argparse.ArgumentError as error:
        raise PluginError(f"the training hook {name} cannot add its flags: {error}") from error
    return _names_of(scratch._actions)


def _names_of(actions: Iterable[argparse.Action]) -> list[str]:
    return [text for action in actions for text in dict.fromkeys((*action.option_strings, action.dest))]
