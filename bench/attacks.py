"""PGD-20 through selplug over PGD-20 of torchattacks called by hand, on the same batches."""

from __future__ import annotations

import timm
import torch
import torchattacks
from torch import nn

from selplug import specs
from selplug.core.model.unit_range import UnitRangeModel
from selplug.core.perturb import batch_seed, run_perturbation

from .harness import Row, interleaved, ratio_row

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Normalized(nn.Module):
    """What a user of torchattacks writes by hand."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model((images - self.mean) / self.std)


def rows(rounds: int = 5) -> list[Row]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=10).eval().to(device)
    size, count, batches = (224, 128, 4) if device == "cuda" else (64, 32, 2)
    data = [(torch.rand(count, 3, size, size, device=device), torch.randint(10, (count,), device=device))] * batches
    spec = specs.perturbation("pgd:eps=1/255,alpha=0.25/255,steps=20")
    wrapped = UnitRangeModel(model, (MEAN, STD), 10)
    perturb = spec.factory(wrapped, **spec.options)
    by_hand = Normalized(model).eval().to(device)
    plain = torchattacks.PGD(by_hand, eps=1 / 255, alpha=0.25 / 255, steps=20)
    accuracy = {}

    def score(name: str, images: list[torch.Tensor]) -> None:
        with torch.no_grad():
            correct = [(by_hand(x).argmax(1) == y).float().mean() for x, (_, y) in zip(images, data, strict=True)]
        accuracy[name] = float(torch.stack(correct).mean())

    def ours() -> list[torch.Tensor]:
        return [
            run_perturbation(wrapped, perturb, x, y, seed=batch_seed(0, number)).images
            for number, (x, y) in enumerate(data)
        ]

    def theirs() -> list[torch.Tensor]:
        images = []
        for number, (x, y) in enumerate(data):
            torch.manual_seed(batch_seed(0, number))
            images.append(plain(x, y))
        return images

    timings = interleaved({"selplug": ours, "torchattacks": theirs}, rounds)
    score("selplug", ours())
    score("torchattacks", theirs())
    what = f"PGD-20, selplug / torchattacks: resnet18, {size} px, {count * batches} images, {device}"
    row = ratio_row(what, "selplug", "torchattacks", timings, 1.05)
    same = f"; adversarial accuracy {accuracy['selplug']:.4f} and {accuracy['torchattacks']:.4f}"
    return [Row(row.what, row.ratio, row.bound, row.detail + same)]
