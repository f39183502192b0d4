"""What every run needs around its measuring: a device, a progress bar, and the facts that say how it came about."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from . import __version__
from .core.audit import Progress
from .core.errors import InputError
from .core.types import Perturbation

_HOSTS = ("torch", "torchvision", "timm", "captum", "torchattacks", "torchmetrics", "numpy", "pillow")


class Environment:
    """Made when a run starts; called when it is over, it gives versions, device, threads, start and duration."""

    def __init__(self) -> None:
        self._started, self._clock = datetime.datetime.now(datetime.timezone.utc), time.perf_counter()

    def __call__(self, place: torch.device) -> dict[str, Any]:
        return {
            **versions(),
            "device": torch.cuda.get_device_name(place) if place.type == "cuda" else platform.machine() or "cpu",
            "threads": torch.get_num_threads(),
            "started": self._started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - self._clock, 3),
        }


def resolve_device(device: str | torch.device | None) -> torch.device | None:
    """A device that is there.

    Raises:
        InputError: no such device, or it is not available.
    """
    if device is None:
        return None
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {str(device)!r} cannot be used here ({reason}); try --device cpu") from error
    return place


def place_of(model: nn.Module, device: torch.device | None) -> torch.device:
    """The device of a run: the one asked for, else where the model's first parameter is."""
    return next(model.parameters(), torch.empty(0)).device if device is None else device


def describe(perturbation: Perturbation, num_classes: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """A perturbation as the settings of a report tell it; ``facts``: by name, what perturbations say of a run."""
    describe: Callable[..., Mapping[str, Any]] | None = getattr(perturbation.factory, "describe", None)
    options = describe(perturbation.options, num_classes) if describe else perturbation.options
    return {
        "name": perturbation.name,
        "kind": perturbation.kind,
        "options": {**options, **facts.get(perturbation.name, {})},
        **({"threat": dict(perturbation.threat)} if perturbation.threat else {}),
    }


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


def versions() -> dict[str, str]:
    """Of selplug, Python, the platform and the host libraries that are installed."""
    versions = {"selplug": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for host in _HOSTS:
        try:
            versions[host] = importlib.metadata.version(host)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
