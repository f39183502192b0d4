from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from rich.console import Console


class Result(Protocol):
    """What has a content for programs."""

    def to_dict(self) -> dict[str, Any]: ...


R = TypeVar("R", bound=Result)


def hand_out(result: R, tables: Callable[[R, Console], None], where: str, json_file: str | None, quiet: bool) -> None:
    """What a command leaves beside the files of its folder: JSON where it was asked for, and tables on the terminal.

    Args:
        tables: writes them to a console.
        where: the last line below them.
        json_file: a path, or ``-`` for the standard output; the tables then go to the error stream.
        quiet: no tables.
    """
    if json_file:
        text = json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n"
        if json_file == "-":
            sys.stdout.write(text)
        else:
            Path(json_file).write_text(text, encoding="utf-8")
    if not quiet:
        from rich.console import Console

        console = Console(stderr=json_file == "-")
        tables(result, console)
        console.print(where, markup=False, highlight=False, soft_wrap=True)
