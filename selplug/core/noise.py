from __future__ import annotations

import torch
from torch import Tensor, nn

from .errors import InputError
from .types import Perturb


def gaussian_noise(model: nn.Module, *, std: float = 0.1) -> Perturb:
    """Independent Gaussian noise on every value, clipped to [0, 1].

    Args:
        std: its standard deviation, >= 0, in pixel units of [0, 1].
    """
    if std < 0:
        raise InputError(f"gaussian-noise: expected std >= 0, got {std}")

    def perturb(images: Tensor, labels: Tensor) -> Tensor:
        return (images + std * torch.randn_like(images)).clamp(0, 1)

    return perturb


gaussian_noise.kind = "noise"  # type: ignore[attr-defined]
