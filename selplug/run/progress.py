from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..core.types import Progress


@contextmanager
def progress_bar(show: bool, unit: str = "samples") -> Iterator[Progress | None]:
    """A bar on the terminal's error stream, moved by what is yielded; None if it is not to show."""
    if not show:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("reading", total=None, rate="")
        began = time.perf_counter()

        def on_progress(condition: str, done: int, total: int) -> None:
            rate = done / max(time.perf_counter() - began, 1e-9)
            bar.update(
                task,
                description=condition,
                completed=done,
                total=total or None,  # not known beforehand
                rate=f"{rate:{'.0f' if rate >= 10 else '.2g'}} {unit}/s",
            )

        yield on_progress
