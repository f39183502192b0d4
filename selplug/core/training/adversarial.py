"""Robust training: the batches of a training run perturbed, and the loss of TRADES, with no trace on model or run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..model.recorder import unrecorded
from ..model.state import frozen, seeded
from ..model.unit_range import UnitRangeModel
from ..perturb import TOLERANCE, Perturbed, run_perturbation
from ..types import Perturbation


class BatchPerturber:
    """Any perturbation, for batches as a training loop has them: normalized.

    While it works the model is in eval mode, dropout off and batch norms with their running statistics, as in the
    program of the authors of TRADES; in float32 without autocast. Training flags, gradients, ``requires_grad``, running
    statistics and random generators are as before, whatever is raised.

    Args:
        model: as it trains, neither compiled nor wrapped for several processes.
        perturbation: what to do to each batch.
        normalize: mean and std per channel of the batches.
        num_classes: number of logits.
        channels_last: whether the model works in that memory format.

    Raises:
        InputError: an option of the perturbation is out of range, or it does not work with so few classes.
        PluginError: the perturbation fails in another way.
    """

    def __init__(
        self,
        model: nn.Module,
        perturbation: Perturbation,
        normalize: tuple[Sequence[float], Sequence[float]],
        num_classes: int,
        *,
        channels_last: bool = False,
    ) -> None:
        self.name = perturbation.name
        self._inside = UnitRangeModel(model, normalize, num_classes, channels_last)
        with frozen(self._inside):
            self._perturb = perturbation.build(self._inside)

    def __call__(self, images: Tensor, labels: Tensor, *, seed: int = 0) -> Perturbed:
        """The batch perturbed, normalized again. What the perturbation leaves alone stays as it was to the last bit.

        Args:
            images: (N, C, H, W), normalized, of any floating dtype; dtype and memory format are kept.
            labels: (N,).
            seed: of all random generators while the perturbation works.

        Raises:
            InputError: the images are not (pixels in [0, 1] - mean) / std.
            PerturbationError: the perturbation broke its promise.
            PluginError: the perturbation fails.
        """
        pixels = self._pixels(images)
        perturbed = run_perturbation(self._inside, self._perturb, pixels, labels, seed=seed, name=self.name)
        change = (perturbed.images - pixels) / self._inside.std
        return replace(perturbed, images=images.to(torch.float32, copy=True).add_(change).to(images.dtype))

    def _pixels(self, images: Tensor) -> Tensor:
        """(N, C, H, W) float32 in [0, 1]; what is outside from rounding alone is clamped."""
        pixels = images.float() * self._inside.std + self._inside.mean
        low, high = pixels.aminmax()
        # A normalized value v is off by eps / 2 * |v|, a pixel by std times that, and std * |v| <= 1.
        slack = max(TOLERANCE, torch.finfo(images.dtype).eps)
        if not ((low >= -slack) & (high <= 1 + slack)):  # NaN fails every comparison
            raise InputError(
                f"{self.name}: expected pixels in [0, 1] once the normalization is undone, got values from "
                f"{float(low):.4g} to {float(high):.4g}; leave out augmentations that leave the range, such as random "
                "erasing with noise, and see that mean and std are those of the loader"
            )
        return pixels.clamp(0, 1)


def second_pass(model: nn.Module, images: Tensor, *, seed: int = 0) -> Tensor:
    """A further training pass of a step: not recorded, its random numbers its own. Batch norms count it as any other.

    Through the plain module also where the first pass went through DistributedDataParallel: the gradients of both meet
    in the parameters before that reduces them.
    """
    with unrecorded(), seeded(seed, images.device):
        output: Tensor = model(images)
    return output


def kl_divergence(clean: Tensor, perturbed: Tensor) -> Tensor:
    """``KL(softmax(clean) || softmax(perturbed))`` of logits (N, C), mean over samples, in float32 or wider.

    The robust term of TRADES (Zhang et al., arXiv 1901.08573, equation 5). Both sides have gradients, as in the program
    of its authors; these are finite also where a probability underflows.
    """
    dtype = torch.promote_types(clean.dtype, torch.float32)
    p, q = (F.log_softmax(logits.to(dtype), 1) for logits in (clean, perturbed))
    return F.kl_div(q, p, reduction="batchmean", log_target=True)


def hard_labels(target: Tensor) -> Tensor:
    """Labels (N,): the targets themselves, or the likeliest class of soft ones (N, C) (mixup, cutmix, smoothing).

    Raises:
        InputError: rows of soft targets do not sum to 1.
    """
    if target.ndim == 1:
        return target
    # Rows in bfloat16 sum to 1 only roughly.
    if target.ndim != 2 or ((target.float().sum(1) - 1).abs() > 0.02).any():
        raise InputError(
            "expected labels (N,) or soft targets (N, C) whose rows sum to 1, got multi-label targets or others of "
            f"shape {tuple(target.shape)}"
        )
    return target.argmax(1)
