from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import InputError


class UnitRangeModel(nn.Module):
    """A model as a function of images in [0, 1], with the normalization inside.

    Attacks use this module, so their epsilons are in pixel units of [0, 1]. Inputs and logits are float32 for models of
    any dtype, since several attacks fail or give NaN in half precision. ``num_classes`` is the number of logits, for
    attacks that need it.

    Raises:
        InputError: mean and std have different lengths, or a std is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        normalize: tuple[Sequence[float], Sequence[float]] | None,
        num_classes: int,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.num_classes = num_classes
        self.channels_last = channels_last
        first = next(iter([*model.parameters(), *model.buffers()]), torch.zeros(()))
        self.dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        mean, std = normalize or ((0.0,), (1.0,))
        if len(mean) != len(std) or not all(s > 0 for s in std):
            raise InputError(f"expected mean and std of equal length with std > 0, got mean={mean}, std={std}")
        shape = (1, -1, 1, 1)
        self.register_buffer("mean", torch.tensor(mean, device=first.device).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(std, device=first.device).view(shape), persistent=False)
        self.normalized = normalize is not None
        self.training = model.training  # not self.train(...), which would unfreeze a frozen batch norm

    def prepare(self, images: Tensor) -> Tensor:
        """Images in [0, 1] prepared for the inner model: normalized, in its dtype and memory format."""
        if self.normalized:
            images = (images - self.mean) / self.std
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images.to(self.dtype)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(self.prepare(images))
        return logits.float()
