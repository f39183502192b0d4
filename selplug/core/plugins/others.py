"""Plugins of all groups, checked when they are loaded."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from .. import contracts
from ..errors import PluginError
from .blame import blamed
from .measure import measure
from .perturbation import factory_members
from .reading import Attributes, check_call, check_spelling
from .subject import loaded_subject

#: What a plugin that is a function alone is called with.
_CALLED_WITH = {
    "selplug.reports": ("report", "folder"),
    "selplug.launchers": ("script", "arguments"),
    "selplug.demos": ("output", "seed"),
}


def checked(group: str, found: Any, plugin: str) -> Any:
    """What an entry point holds, once it has been seen to keep the contract of its group.

    What is only called (subjects, report writers, launchers, demos) comes back wrapped, so that its errors name it;
    errors of the operating system stay as they are, since they name a file.

    Raises:
        PluginError: it breaks the contract.
    """
    if group == "selplug.perturbations":
        factory_members(found, plugin)
    elif group == "selplug.measures":
        measure(found, plugin)
    elif group == "selplug.attributions":
        check_attribution(found, plugin)
    elif group == "selplug.training":
        check_hook_factory(found, plugin)
    elif group == "selplug.subjects":
        return loaded_subject(found, plugin)
    elif group in _CALLED_WITH:
        check_call(found, plugin, *_CALLED_WITH[group])
        return _blaming(found, plugin)
    return found


def check_attribution(found: Any, plugin: str) -> None:
    """Raises PluginError unless it is a class as Captum's are."""
    read = Attributes(found, plugin)
    if not callable(read.value("attribute")) or not callable(found):
        raise PluginError(f"{plugin}: expected a class with a method attribute, as those of Captum, got {found!r}")
    check_spelling(found, contracts.names(contracts.AttributionMembers), plugin)
    read.function("fit")
    check_call(found, plugin, "forward_func", options=True)


def needs_fit(factory: Any) -> bool:
    """Whether an attribution method has to see labelled data first."""
    return Attributes(factory, "attribution").function("fit") is not None


def check_hook_factory(found: Any, plugin: str) -> None:
    """Raises PluginError unless it can be called without arguments; a class is looked at more closely."""
    check_call(found, plugin)
    if isinstance(found, type):
        check_hook(found, plugin)


def check_hook(hook: Any, plugin: str) -> None:
    """Raises PluginError unless a hook, or its class, has all methods, and none that looks misspelt."""
    known = contracts.names(contracts.TrainingHookMethods)
    check_spelling(hook, known, plugin, state=False)  # what a hook keeps in itself is its own affair
    lacking = [name for name in known if not callable(Attributes(hook, plugin).value(name))]
    if lacking:
        raise PluginError(
            f"{plugin}: expected a subclass of selplug.core.training.TrainingHook, got {_type(hook)}, which has no "
            f"method {', '.join(lacking)}"
        )


def _blaming(function: Callable[..., Any], plugin: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with blamed(plugin, passing=(OSError,)):
            return function(*args, **kwargs)

    return wrapped


def _type(hook: Any) -> str:
    return (hook if inspect.isclass(hook) else type(hook)).__name__
