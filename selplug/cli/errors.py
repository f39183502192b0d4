from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

import typer

from ..core.errors import SelplugError

P = ParamSpec("P")
R = TypeVar("R")


def clear_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Bad input ends with one message and exit code 2, Ctrl-C with 130; a traceback means a bug in selplug."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
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
