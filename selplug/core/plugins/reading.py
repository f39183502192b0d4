"""Reads optional attributes of what a plugin brings, and says what is wrong with them."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..errors import PluginError

#: Names of at least this likeness count as misspelt; so do those of the same letters in another order.
LIKENESS = 0.84
_ABSENT = object()


class Attributes:
    """The optional attributes of one object; one that is absent or None is not there.

    Args:
        holder: a function, a class or an object. A ``functools.partial`` has those of its function.
        plugin: what errors call it, "perturbation occlusion of selplug-example".

    Raises:
        PluginError: of every method, if the attribute is of another type.
    """

    def __init__(self, holder: Any, plugin: str) -> None:
        self._holder, self._plugin = holder, plugin

    def text(self, name: str, choices: Sequence[str] = ()) -> str | None:
        value = self.value(name)
        if value is None or (isinstance(value, str) and value and (not choices or value in choices)):
            return value
        raise self._wrong(name, f"one of {', '.join(choices)}" if choices else "a word", value)

    def texts(self, name: str) -> tuple[str, ...]:
        """Several words; none where there are none."""
        value = self.value(name)
        if value is None:
            return ()
        if isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
            return tuple(value)
        raise self._wrong(name, "a list of words", value)

    def flag(self, name: str) -> bool:
        value = self.value(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise self._wrong(name, "True or False", value)

    def count(self, name: str) -> int:
        """A whole number from 1; 1 where there is none."""
        value = self.value(name)
        if value is None:
            return 1
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            return value
        raise self._wrong(name, "a whole number >= 1", value)

    def function(self, name: str) -> Callable[..., Any] | None:
        value = self.value(name)
        if value is None or callable(value):
            return value
        raise self._wrong(name, "a function", value)

    def value(self, name: str) -> Any:
        holder = self._holder
        found = getattr(holder, name, _ABSENT)
        while found is _ABSENT and isinstance(holder, functools.partial):
            holder = holder.func
            found = getattr(holder, name, _ABSENT)
        return None if found is _ABSENT else found

    def _wrong(self, name: str, expected: str, came: Any) -> PluginError:
        return PluginError(f"{self._plugin}: expected the attribute {name} to be {expected}, got {came!r}")


def check_spelling(holder: Any, known: Iterable[str], plugin: str, *, state: bool = True) -> None:
    """Raises PluginError if a public attribute that the plugin's author gave looks like a misspelt one of ``known``.

    What resembles nothing is the author's own affair, and so is a name close to one that is there as well.

    Args:
        state: also look at what an object keeps in itself, not only at its class.
    """
    own = own_names(holder, state)
    absent = [name for name in known if name not in own]
    for name in sorted(own.difference(known)):
        for meant in difflib.get_close_matches(name, absent, n=1, cutoff=LIKENESS) or [
            other for other in absent if sorted(other) == sorted(name)
        ]:
            raise PluginError(
                f"{plugin}: unknown attribute {name!r}; did you mean {meant}? If not, rename it or begin its name with "
                "an underscore"
            )


def own_names(holder: Any, state: bool = True) -> set[str]:
    """Public attributes, without those from classes of other packages, fields of dataclasses, and all of Python's."""
    if isinstance(holder, functools.partial):
        return own_names(holder.func, state) | {name for name in vars(holder) if not name.startswith("_")}
    if inspect.isroutine(holder):
        return {name for name in getattr(holder, "__dict__", {}) if not name.startswith("_")}
    kind = holder if isinstance(holder, type) else type(holder)
    home = _package(kind)
    found = {name for each in kind.__mro__ if _package(each) == home for name in vars(each)}
    found -= set(getattr(kind, "__dataclass_fields__", ()))
    if state and not isinstance(holder, type):
        found |= set(getattr(holder, "__dict__", ()))
    return {name for name in found if not name.startswith("_")}


def check_call(holder: Any, plugin: str, *arguments: str, keywords: Sequence[str] = (), options: bool = False) -> None:
    """Raises PluginError unless ``holder`` can be called with these arguments.

    Args:
        arguments: what stands in each place; for errors.
        keywords: arguments that are given by name.
        options: whether it may ask for further ones.
    """
    if not callable(holder):
        raise PluginError(f"{plugin}: expected something to call, got {type(holder).__name__}")
    try:
        signature = inspect.signature(holder)
    except (TypeError, ValueError):  # some of C's have none
        return
    try:
        bind = signature.bind_partial if options else signature.bind
        bind(*arguments, **dict.fromkeys(keywords))
    except TypeError as error:
        wanted = ", ".join([*arguments, *(f"{name}=" for name in keywords)])
        raise PluginError(f"{plugin}: expected to be called with ({wanted}), but takes {signature}: {error}") from error


def _package(kind: type) -> str:
    return str(kind.__module__).partition(".")[0]
