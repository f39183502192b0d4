"""What the tests of the selectivity penalty share: a network, its penalty, and the same by the measures' formulas."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from selplug.core.measures.functional import class_means, class_selectivity
from selplug.core.model.capture import Capture, find_layers
from selplug.core.training.regularizer import SelectivityRegularizer

CLASSES = 4
IMAGES = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(24) % CLASSES


class Net(nn.Module):
    """A module called twice, in-place and rectified activations, a batch norm, blocks that can be checkpointed."""

    def __init__(self, norm: bool = True, reentrant: bool | None = None) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8) if norm else nn.Identity()
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(8, 8, 3)
        self.block = nn.Sequential(nn.Conv2d(8, 6, 1), nn.SiLU(inplace=True), nn.Conv2d(6, 6, 1), nn.GELU())
        self.head = nn.Linear(6, CLASSES)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv2(self.relu(self.bn(self.conv(x)))))
        if self.training and self.reentrant is not None:
            x = checkpoint(self.block, x, use_reentrant=self.reentrant)
        else:
            x = self.block(x)
        return self.head(x.mean((2, 3)))


def make(**options: object) -> Net:
    torch.manual_seed(0)
    return Net(**options)


def attach(model: nn.Module, alpha: float = 0.7, **options: object) -> SelectivityRegularizer:
    return SelectivityRegularizer(model, alpha, IMAGES[:2].to(next(model.parameters()).dtype), **options)


def gradients(model: nn.Module) -> list[Tensor]:
    found = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    return found


def step(model: nn.Module, regularizer: SelectivityRegularizer, call: object = None) -> tuple[Tensor, list[Tensor]]:
    """Penalty, and the gradients of the whole loss."""
    logits = (model if call is None else call)(IMAGES)
    penalty = regularizer(LABELS)
    (F.cross_entropy(logits, LABELS) + penalty).backward()
    return penalty.detach(), gradients(model)


def plain(model: nn.Module, alpha: float = 0.7) -> tuple[Tensor, list[Tensor]]:
    """The same by way of Capture and the measures' own formulas."""
    with Capture(model, find_layers(model, IMAGES[:2])) as capture:
        logits = model(IMAGES)
    layers = [class_selectivity(*class_means(r, LABELS, CLASSES)).mean() for r in capture.responses.values()]
    penalty = -alpha * torch.stack(layers).mean()
    (F.cross_entropy(logits, LABELS) + penalty).backward()
    return penalty.detach(), gradients(model)


def same(ours: tuple[Tensor, list[Tensor]], theirs: tuple[Tensor, list[Tensor]], tolerance: float = 1e-5) -> None:
    for a, b in zip([ours[0], *ours[1]], [theirs[0], *theirs[1]], strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
