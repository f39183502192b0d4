"""What every run needs around its measuring: a device, a progress bar, and the facts that say how it came about."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import time
from typing import Any

import torch

from .._version import __version__

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


def versions() -> dict[str, str]:
    """Of selplug, Python, the platform and the host libraries that are installed."""
    versions = {"selplug": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for host in _HOSTS:
        try:
            versions[host] = importlib.metadata.version(host)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
