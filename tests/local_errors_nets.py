"""What the tests of local errors share: a network of three stages, and the same trained part by part."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from selplug.core.training.local_errors import LocalErrors, random_classifier

CLASSES = 4
STAGES = ("one", "two", "three")
IMAGES = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(16) % CLASSES


class Two(nn.Module):
    """Two maps of different size."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(6, 5, 3), nn.Conv2d(6, 7, 3, 2)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.wide(x), self.narrow(x)]


class Net(nn.Module):
    """A map, two maps in a list, tokens with channels last; in-place activations behind the ends of stages."""

    def __init__(self, reentrant: bool | None = None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3)
        self.one = nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 1))
        self.relu = nn.ReLU(inplace=True)
        self.two = Two()
        self.embed = nn.Linear(12, 9)
        self.three = nn.Sequential(nn.LayerNorm(9), nn.Linear(9, 9), nn.GELU())
        self.norm = nn.LayerNorm(9)
        self.head = nn.Linear(9, CLASSES)
        self.reentrant = reentrant

    def part_one(self, x: Tensor) -> Tensor:
        return self._maybe(self.one, self.stem(x))

    def part_two(self, x: Tensor) -> list[Tensor]:
        return self.two(self.relu(x))

    def part_three(self, x: list[Tensor]) -> Tensor:
        wide, narrow = x
        tokens = torch.cat([self.relu(wide)[:, :, ::2, ::2], narrow], 1).flatten(2).transpose(1, 2)
        return self._maybe(self.three, self.embed(tokens))

    def part_head(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x).mean(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.part_head(self.part_three(self.part_two(self.part_one(x))))

    def _maybe(self, block: nn.Module, x: Tensor) -> Tensor:
        if self.reentrant is None:
            return block(x)
        return checkpoint(block, x, use_reentrant=self.reentrant)


def make(**options: object) -> Net:
    torch.manual_seed(0)
    return Net(**options)


def attach(model: nn.Module, stages: tuple[str, ...] = STAGES, **options: object) -> LocalErrors:
    return LocalErrors(model, stages, F.cross_entropy, IMAGES[:2], **options)


def gradients(model: nn.Module) -> dict[str, Tensor | None]:
    found = {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return found


Step = tuple[Tensor, dict[str, "Tensor | None"]]


def step(model: nn.Module, local: LocalErrors, call: object = None, targets: Tensor = LABELS) -> Step:
    """Losses (head, then stages) and the gradients of their sum."""
    task = local.criterion((model if call is None else call)(IMAGES), targets)
    (task + local(targets)).backward()
    return torch.cat([task.detach().unsqueeze(0), local.losses]), gradients(model)


def by_hand(model: Net, targets: Tensor = LABELS, criterion: object = F.cross_entropy, seed: int = 0) -> Step:
    """One part of the network after the other, each from what the one before gave, with its own backward pass."""
    losses, x = [], IMAGES
    for number, part in enumerate((model.part_one, model.part_two, model.part_three)):
        output = part(x)
        if number == 2:  # tokens
            features = output.mean(1)
        else:
            maps = output if isinstance(output, list) else [output]
            features = torch.cat([item.mean((2, 3)) for item in maps], 1)
        loss = criterion(features @ random_classifier(features.shape[1], CLASSES, seed, number), targets)
        loss.backward(retain_graph=True)
        losses.append(loss.detach())
        # the next part writes into what it is given
        x = [item.detach().clone() for item in output] if isinstance(output, list) else output.detach().clone()
    loss = criterion(model.part_head(x), targets)
    loss.backward()
    return torch.stack([loss.detach(), *losses]), gradients(model)


def same(ours: Step, theirs: Step, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(ours[0], theirs[0], rtol=tolerance, atol=tolerance)
    assert ours[1].keys() == theirs[1].keys()
    for name in ours[1]:
        assert ours[1][name] is not None, name
        torch.testing.assert_close(ours[1][name], theirs[1][name], rtol=tolerance, atol=tolerance, msg=name)
