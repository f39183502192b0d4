"""The stand-in for the model inside an attack of torchattacks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn


class Victim:
    """Passes calls to the model and protects everything else in it from torchattacks.

    torchattacks 3.5.1 switches the model to eval mode before an attack and, unless an error occurs, all its modules to
    train mode afterwards. It prints a message if a model has no parameters, and it treats a class called ``RobModel``
    as one that normalizes its inputs. With a Victim none of this happens: :class:`.factory.Attacker` freezes the model
    itself. Gradients with respect to images are made contiguous, since several attacks flatten them with ``view`` and
    fail on the channels-last format.
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
        """One tensor on the device of the model; on the CPU for a model without tensors."""
        yield next(chain(self.model.parameters(), self.model.buffers()), torch.zeros(()))
