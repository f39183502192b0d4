from __future__ import annotations

import sys
from pathlib import Path

from .result import Result
from .writing import json_text


def hand_out(result: Result, folder: Path, json_file: str | None, quiet: bool) -> None:
    """What a command leaves beside the files of its folder: JSON where it was asked for, and tables on the terminal.

    Args:
        folder: where the result was saved; the last line names its page.
        json_file: a path, or ``-`` for the standard output; the tables then go to the error stream.
        quiet: no tables.
    """
    if json_file:
        text = json_text(result.to_dict(), json_file)
        if json_file == "-":
            sys.stdout.write(text)
        else:
            Path(json_file).write_bytes(text.encode("ascii"))
    if not quiet:
        from rich.console import Console

        console = Console(stderr=json_file == "-")
        result.print_to(console)
        console.print(f"page: {folder / result.PAGE}", markup=False, highlight=False, soft_wrap=True)
