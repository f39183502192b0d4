"""Peak memory of an audit at 10,000 and at 50,000 samples, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import torch
from torch import Tensor

from .harness import Row, peak_memory

BATCH, CLASSES = 250, 10


class Stream:
    """Endless images made on the fly: the loader itself holds one batch."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.images = torch.rand(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        self.labels = torch.arange(BATCH) % CLASSES

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(self.samples // BATCH):
            yield self.images, self.labels


def rows() -> list[Row]:
    peaks = {samples: _peak(samples) for samples in (10_000, 50_000)}
    detail = "; ".join(f"{samples:,} samples {peak:.0f} MiB" for samples, peak in peaks.items())
    return [
        Row("peak memory, 50,000 / 10,000 samples: resnet18, 32 px, cpu", peaks[50_000] / peaks[10_000], 1.05, detail)
    ]


def _peak(samples: int) -> float:
    command = [sys.executable, "-m", "bench.memory", str(samples)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return float(done.stdout)


def _measure(samples: int) -> float:
    import timm

    from selplug.audits.api import audit

    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=CLASSES)
    audit(model, Stream(samples), ["gaussian-noise:std=0.1"], progress=False)
    return peak_memory()


if __name__ == "__main__":
    print(_measure(int(sys.argv[1])))
