"""An audit with all measures on and no perturbation, over the bare forward pass on the same batches."""

from __future__ import annotations

from functools import partial

import timm
import torch

from selplug.audits.engine.run import run_audit
from selplug.core.measures.metrics import ClassSelectivity, Dimensionality
from selplug.core.types import MeasureFactory, Subject

from .harness import Row, interleaved, ratio_row

MEASURES: dict[str, MeasureFactory] = {"selectivity": ClassSelectivity, "dimensionality": Dimensionality}


def rows(rounds: int = 7) -> list[Row]:
    result = [_compare("cpu", "resnet18", 64, 10, 128, 8, 1.25, rounds)]
    if torch.cuda.is_available():
        result.append(_compare("cuda", "resnet50", 224, 10, 256, 8, 1.10, rounds))
    return result


def _compare(
    device: str, name: str, size: int, classes: int, batch: int, batches: int, bound: float, rounds: int
) -> Row:
    torch.manual_seed(0)
    on_gpu = device == "cuda"
    layout = torch.channels_last if on_gpu else torch.contiguous_format
    model = timm.create_model(name, num_classes=classes).eval().to(device).to(memory_format=layout)
    images = [torch.rand(batch, 3, size, size, device=device).contiguous(memory_format=layout) for _ in range(batches)]
    labels = torch.arange(batch) % classes
    subject = Subject(model, [(x, labels) for x in images], targets=labels.repeat(batches))
    amp = torch.float16 if on_gpu else None

    def bare() -> None:
        with torch.no_grad(), torch.autocast(device, dtype=amp, enabled=on_gpu):
            for x in images:
                model(x).argmax(1).cpu()

    audit = partial(run_audit, subject, [], MEASURES, amp=amp, channels_last=on_gpu)
    timings = interleaved({"audit": audit, "bare forward": bare}, rounds)
    how = "amp, channels-last" if on_gpu else f"{torch.get_num_threads()} threads"
    what = f"audit pass / bare forward: {name}, {size} px, {batch * batches} images, {device}, {how}"
    return ratio_row(what, "audit", "bare forward", timings, bound)
