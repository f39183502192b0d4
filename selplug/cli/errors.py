from __future__ import annotations

import functools
import logging
import traceback
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

import typer

from ..core.errors import PluginFailedError, SelplugError

P = ParamSpec("P")
R = TypeVar("R")


def clear_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Bad input and failing plugins end with one message and exit code 2, Ctrl-C with 130; a traceback means a defect
    of ours, or ``--verbose`` where a plugin failed."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except PluginFailedError as error:
            if logging.getLogger("selplug").isEnabledFor(logging.INFO):  # --verbose
                typer.echo("".join(traceback.format_exception(error)), err=True)
                fail(str(error))
            fail(f"{error} (`selplug --verbose ...` shows the traceback)")
        except SelplugError as error:
            fail(str(error))
        except OSError as error:
            fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        except KeyboardInterrupt:
            typer.echo("stopped; there is no incomplete report", err=True)
            raise typer.Exit(130) from None

    return wrapped


def fail(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(2)
