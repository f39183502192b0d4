"""Training hooks: plugins that take part in the training run of another program (group ``selplug.training``)."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class TrainingContext:
    """Facts about the training run, passed to a hook when it attaches.

    Attributes:
        device: the device of the model.
        dtype: the dtype of its parameters.
        input_size: (C, H, W) of an image.
        images: (2, C, H, W) of normal noise on ``device`` in ``dtype``: an example input.
        normalize: mean and std per channel: a batch contains (pixels in [0, 1] - mean) / std.
        criterion: the loss of the task, (logits (N, C), targets as in a batch) -> scalar.
        num_classes: number of classes, None if unknown.
        rank: number of this process; process 0 logs and writes files.
        world_size: number of processes.
    """

    device: torch.device
    dtype: torch.dtype
    input_size: tuple[int, int, int]
    images: Tensor
    normalize: tuple[tuple[float, ...], tuple[float, ...]]
    criterion: Callable[[Tensor, Tensor], Tensor]
    num_classes: int | None
    rank: int = 0
    world_size: int = 1


class TrainingHook:
    """A hook that does nothing. Plugins override what they need. It is created without arguments, once per run.

    The order in a run: ``add_arguments``; ``active``; if this is true, ``attach``; per epoch ``on_epoch``; per batch
    ``on_batch``, the model, ``extra_loss``; sometimes ``scalars``; at the end ``close``, even after an exception.
    """

    def add_arguments(self, group: argparse._ArgumentGroup) -> None:
        """Adds the flags of this hook. YAML must be able to store their values: numbers, text, lists and mappings.

        Values from a YAML file keep their type there: argparse calls ``type`` for text only.
        """

    def active(self, args: argparse.Namespace) -> bool:
        """Whether these arguments switch this hook on. Nothing is built yet.

        Raises:
            InputError: the arguments of this hook are wrong.
        """
        return False

    def attach(self, model: nn.Module, args: argparse.Namespace, context: TrainingContext) -> None:
        """Attaches to the model, which is on its device and not yet compiled, copied or wrapped for several processes.

        Must not add parameters, buffers or submodules, so that checkpoints are the same as without the hook.

        Raises:
            SelplugError: this hook cannot work with this model.
        """

    def on_epoch(self, epoch: int) -> None:
        """Called before the first batch of an epoch; epochs are counted from 0, as in the run."""

    def on_batch(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The batch to train on: normalized images (N, C, H, W), and class numbers (N,) or soft targets (N, C)."""
        return images, target

    def extra_loss(self, output: Tensor, target: Tensor) -> Tensor | None:
        """A scalar to add to the loss of the task, or None.

        Args:
            output: (N, C), the model's output.
            target: the target returned by ``on_batch``.
        """
        return None

    def scalars(self) -> Mapping[str, float]:
        """Means over the batches of the epoch so far, NaN for unknown values; always the same names.

        All are written to one file per hook, one row per epoch. Names without a slash are also logged.
        """
        return {}

    def close(self) -> None:
        """Detaches from the model."""
