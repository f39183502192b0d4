from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import PluginFailedError, SelplugError


@contextmanager
def blamed(plugin: str, condition: str = "", passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Whatever a plugin raises names the plugin; the original error is the cause.

    Args:
        plugin: what to call it, "perturbation occlusion of selplug-example"; with an empty text nothing is changed.
        condition: the condition under which it ran, if any.
        passing: errors that pass unchanged, beside those of selplug.

    Raises:
        PluginFailedError: in place of any other error.
    """
    try:
        yield
    except SelplugError:
        raise
    except Exception as error:  # a plugin may fail in any way
        if not plugin or isinstance(error, passing):
            raise
        where = f" under the condition {condition}" if condition else ""
        raise PluginFailedError(f"{plugin} failed{where}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """The type of an error and the first line of what it says."""
    said = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
