from __future__ import annotations

import torch
from torch import nn

from ..core.errors import InputError


def resolve_device(device: str | torch.device | None) -> torch.device | None:
    """A device that is there.

    Raises:
        InputError: no such device, or it is not available.
    """
    if device is None:
        return None
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {str(device)!r} cannot be used here ({reason}); try --device cpu") from error
    if place.type == "meta":
        raise InputError("the device 'meta' holds no values, so nothing can be computed on it; try --device cpu")
    return place


def place_of(model: nn.Module, device: torch.device | None) -> torch.device:
    """The device of a run: the one asked for, else where the model's first parameter is."""
    return next(model.parameters(), torch.empty(0)).device if device is None else device
