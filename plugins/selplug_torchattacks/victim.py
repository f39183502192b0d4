"""What an attack of torchattacks holds instead of the model."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn


class Victim:
    """Passes calls on to the model and keeps torchattacks from touching anything else of it.

    torchattacks 3.5.1 switches the model to eval mode before an attack and, unless an error comes between, all of it to
    train mode after; it prints when a model has no parameters; and it takes a class called ``RobModel`` to want a
    normalization of its own. None of these happens to a Victim: :class:`.factory.Attacker` freezes the model itself.
    Gradients with respect to images come back contiguous, whatever memory format the model works in: several attacks
    flatten them with ``view`` and fail on channels-last ones.
    """

    training = False

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __call__(self, images: Tensor) -> Tensor:
        if images.requires_grad:
            images = images.view_as(images)
            images.register_hook(Tensor.contiguous)  # type: ignore[no-untyped-call]
        logits: Tensor = self.model(images)
        return logits

    def eval(self) -> Victim:
        return self

    def train(self, mode: bool = True) -> Victim:
        return self

    def parameters(self) -> Iterator[Tensor]:
        """One tensor that lies where the model lies; on the CPU for a model without any."""
        yield next(chain(self.model.parameters(), self.model.buffers()), torch.zeros(()))
