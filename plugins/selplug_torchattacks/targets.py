"""The target classes of targeted attacks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from selplug.core.errors import InputError

#: Attacks with a targeted mode. fab is missing, since its mode stops at any wrong class and confuses the samples of a
#: batch; autoattack and apgdt are missing, since they choose targets themselves.
# fmt: off
TARGETED = frozenset((
    "bim", "cw", "difgsm", "eaden", "eadl1", "eotpgd", "ffgsm", "fgsm", "jitter", "jsma", "mifgsm", "nifgsm",
    "onepixel", "pgd", "pgdl2", "pgdrs", "pgdrsl2", "pifgsmpp", "pixle", "rfgsm", "sinifgsm", "spsa", "square",
    "tifgsm", "upgd", "vmifgsm", "vnifgsm",
))
# fmt: on
LEAST_LIKELY, RANDOM = "least-likely", "random"


def check_target(name: str, target: Any) -> None:
    """Raises InputError unless the target is None, "least-likely", "random" or a class number."""
    if target is None or target in (LEAST_LIKELY, RANDOM):
        return
    if isinstance(target, bool) or not isinstance(target, int) or target < 0:
        raise InputError(f"{name}: option target: expected {LEAST_LIKELY}, {RANDOM} or a class, got {target!r}")


def check_class(name: str, target: Any, num_classes: int) -> None:
    """Raises InputError if the target is not a class of the model."""
    if isinstance(target, int) and target >= num_classes:
        raise InputError(f"{name}: option target: expected a class from 0 to {num_classes - 1}, got {target}")


def choose_targets(model: nn.Module, images: Tensor, labels: Tensor, target: int | str) -> Tensor:
    """The target class of each sample, (N,), int64.

    Args:
        model: images (N, C, H, W) -> logits (N, K).
        target: a class; "least-likely", the class other than the label with the smallest logit on the given image; or
            "random", any class other than the label, all equally likely, from torch's generator on the CPU.
    """
    if isinstance(target, int):
        return torch.full_like(labels, target)
    with torch.no_grad():
        logits = model(images)
    if target == LEAST_LIKELY:
        return logits.scatter(1, labels[:, None], torch.inf).argmin(1)
    num_classes = logits.shape[1]
    return (labels + torch.randint(1, num_classes, (len(labels),)).to(labels.device)) % num_classes
