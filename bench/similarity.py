"""All layers of two networks against each other: over their bare forward passes, and over torch_cka if installed."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import Tensor

from selplug.core.types import Subject
from selplug.similarities.run import run_similarity

from .harness import Row, interleaved, ratio_row

BATCH, SIZE = 256, 32
#: Batches of the comparison with the bare passes, and of that with torch_cka, which takes long.
BATCHES, FEW = 8, 1


def rows(rounds: int = 5) -> list[Row]:
    torch.manual_seed(0)
    models = [timm.create_model("resnet18", num_classes=10, zero_init_last=False).eval() for _ in range(2)]
    images, source = _images(BATCH * BATCHES)
    labels = torch.zeros(BATCH, dtype=torch.long)
    batches = [(batch, labels) for batch in torch.split(images, BATCH)]
    how = f"two resnet18, 17 x 17 layers, {SIZE} px, {source}, cpu, {torch.get_num_threads()} threads"

    def bare() -> None:
        with torch.no_grad():
            for x, _ in batches:
                for model in models:
                    model(x)

    def ours(number: int, flatten: bool) -> Any:
        subjects = [Subject(model, batches[:number]) for model in models]
        return run_similarity(subjects[0], Subject(models[1], subjects[0].loader), flatten=flatten, block=BATCH)

    timings = interleaved({"pooled": lambda: ours(BATCHES, False), "bare forward": bare}, rounds)
    result = [ratio_row(f"CKA / bare forward passes: {how}", "pooled", "bare forward", timings, 1.35)]
    if importlib.util.find_spec("torch_cka"):
        run = _torch_cka(models, batches[:FEW], [layer.name for layer in ours(FEW, True).layers["a"]])
        timings = interleaved({"flattened": lambda: ours(FEW, True), "torch_cka": run}, 2)
        difference = float((run() - torch.from_numpy(ours(FEW, True).maps["cka", "a", "b"])).abs().max())
        row = ratio_row(
            f"CKA, whole maps, first {BATCH * FEW} of these images / torch_cka: {how}",
            "flattened",
            "torch_cka",
            timings,
            1.0,
        )
        result.append(Row(row.what, row.ratio, row.bound, f"{row.detail}; largest difference {difference:.1g}"))
    return result


def _torch_cka(models: list[Any], batches: list[Any], layers: list[str]) -> Callable[[], Tensor]:
    from torch_cka import CKA

    loader: Any = torch.utils.data.DataLoader(
        torch.utils.data.ConcatDataset([torch.utils.data.TensorDataset(*batch) for batch in batches]), batch_size=BATCH
    )

    def run() -> Tensor:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            compared = CKA(*models, model1_layers=layers, model2_layers=layers, device="cpu")
            try:
                compared.compare(loader)
            finally:
                for model in models:  # it leaves its hooks
                    for module in model.modules():
                        module._forward_hooks.clear()
        return compared.hsic_matrix.double()

    return run


def _images(count: int) -> tuple[Tensor, str]:
    """CIFAR-10 images from the folder in the environment variable SELPLUG_CIFAR, or random ones."""
    import os

    from selplug import registry

    folder = os.environ.get("SELPLUG_CIFAR")
    if not folder:
        return torch.rand(count, 3, SIZE, SIZE), f"{count:,} random images"
    options = {"data_dir": folder, "split": "test", "num_samples": count, "num_classes": 10, "img_size": SIZE}
    options |= {"workers": 0, "pretrained": False, "crop_pct": 1.0}
    subject = registry.load("selplug.subjects", "timm")("resnet18", options)
    return torch.cat([images for images, _ in subject.loader]), f"{count:,} CIFAR-10 images"
