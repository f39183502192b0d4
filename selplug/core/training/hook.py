"""What a training hook is: a plugin that takes part in somebody else's training run (group ``selplug.training``)."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class TrainingContext:
    """What a hook is told when it attaches.

    Attributes:
        device: where the model is.
        dtype: that of its parameters.
        input_size: (C, H, W) of an image.
        images: (2, C, H, W) of normal noise on ``device`` in ``dtype``: an example of what the model takes.
        normalize: mean and std per channel: a batch holds (pixels in [0, 1] - mean) / std.
        criterion: the loss of the task, (logits (N, C), targets as in a batch) -> scalar.
        num_classes: number of classes, None if the run does not tell it.
        rank: number of this process, 0 for the one that logs and writes files.
        world_size: how many processes there are.
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
    """A hook that does nothing. A plugin overrides what it needs; it is made without arguments, once per run.

    The order in a run: ``add_arguments``, ``active``, then, if that was true, ``attach``; per epoch ``on_epoch``; per
    batch ``on_batch``, the model, ``extra_loss``; now and then ``scalars``; at the end ``close``, whatever was raised.
    """

    def add_arguments(self, group: argparse._ArgumentGroup) -> None:
        """Adds the flags of this hook. Their values must survive YAML: numbers, words, lists and mappings of these.

        Values that come from a YAML file have whatever type they have there, unless they are words: argparse passes
        only these through ``type``.
        """

    def active(self, args: argparse.Namespace) -> bool:
        """Whether these arguments ask for this hook. Nothing is built yet.

        Raises:
            InputError: the arguments of this hook do not fit.
        """
        return False

    def attach(self, model: nn.Module, args: argparse.Namespace, context: TrainingContext) -> None:
        """Takes hold of the model: on its device, not yet compiled, copied or wrapped for several processes.

        Must leave no parameter, buffer or submodule behind, since checkpoints are to be those of the plain run.

        Raises:
            SelplugError: this hook cannot work with this model.
        """

    def on_epoch(self, epoch: int) -> None:
        """Before the first batch of an epoch, counted from 0 as the run counts them."""

    def on_batch(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The batch to train on. images (N, C, H, W), normalized; target (N,) class numbers, or (N, C) soft ones."""
        return images, target

    def extra_loss(self, output: Tensor, target: Tensor) -> Tensor | None:
        """A scalar to be added to the loss of the task, or None.

        Args:
            output: (N, C), what the model said.
            target: as it came out of ``on_batch``.
        """
        return None

    def scalars(self) -> Mapping[str, float]:
        """Means over the batches of the epoch so far, NaN where there is nothing to tell; always the same names.

        All go into a file per hook, one row per epoch. Names without a slash are logged, too.
        """
        return {}

    def close(self) -> None:
        """Lets go of the model."""
