"""The training hook ``adversarial``: training under any perturbation of the registry, or with TRADES."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from selplug import specs
from selplug.core.errors import InputError, SelplugError
from selplug.core.perturb import batch_seed
from selplug.core.training import TrainingContext, TrainingHook
from selplug.core.training.adversarial import BatchPerturber, hard_labels, kl_divergence, second_pass
from selplug.core.training.regularizer import count_outputs
from selplug.core.types import Perturbation

TRADES = "trades"
#: The attack of torchattacks that maximizes the KL divergence of TRADES like the authors' program.
INNER = "tpgd"
BETA = 6.0  # 1 / lambda of arXiv 1901.08573, section 5.3


class AdversarialHook(TrainingHook):
    """Trains on perturbed batches (Madry et al., arXiv 1706.06083), or on clean ones with the loss of TRADES.

    TRADES (Zhang et al., arXiv 1901.08573): loss = task_loss(f(x), y) + beta * KL(f(x) || f(x')), where x' maximizes
    the divergence in the ball around x.
    """

    def __init__(self) -> None:
        self._perturbation: Perturbation | None = None
        self._beta: float | None = None  # None: not TRADES
        self._perturber: BatchPerturber | None = None
        self._model: nn.Module | None = None
        self._seeds = (0, 0)  # of the run, and the rank
        self._epoch, self._batch = 0, 0
        self._sizes: list[Tensor] = []  # linf and l2 of the batch, means
        self._perturbed: Tensor | None = None  # the batch x' of TRADES
        self._sums: Tensor | None = None  # of the scalars, over the batches of the epoch
        self._batches = 0

    def add_arguments(self, group: argparse._ArgumentGroup) -> None:
        group.add_argument(
            "--adversarial",
            default=None,
            metavar="SPEC",
            help="train on batches under this perturbation, such as pgd:eps=8/255,steps=10, or with TRADES, such as "
            "trades:eps=8/255,steps=10 (default: none)",
        )
        group.add_argument(
            "--trades-beta",
            type=float,
            default=None,
            metavar="FLOAT",
            help=f"loss = task_loss + beta * KL(clean || perturbed), with --adversarial trades (default: {BETA:g})",
        )

    def active(self, args: argparse.Namespace) -> bool:
        spec, beta = args.adversarial or "", args.trades_beta
        if not isinstance(spec, str):
            raise InputError(f"--adversarial: expected a spec such as pgd:eps=8/255,steps=10, got {spec!r}")
        name, colon, options = (part.strip() for part in spec.partition(":"))
        trades = name == TRADES
        if beta is not None:
            if isinstance(beta, bool) or not isinstance(beta, (int, float)) or not 0 <= beta < math.inf:
                raise InputError(f"--trades-beta: expected a finite number >= 0, got {beta!r}")
            if not trades:
                raise InputError(f"--trades-beta needs --adversarial trades, got --adversarial {spec or 'none'}")
        if not spec.strip():
            return False
        self._beta = None if not trades else BETA if beta is None else float(beta)
        with self._naming_flag():
            self._perturbation = specs.perturbation(INNER + colon + options if trades else spec)
        _check_erasing(args)
        return True

    def attach(self, model: nn.Module, args: argparse.Namespace, context: TrainingContext) -> None:
        if self._perturbation is None:
            raise InputError("--adversarial: the hook is not active with these arguments")
        with self._naming_flag():
            self._perturber = BatchPerturber(
                model,
                self._perturbation,
                context.normalize,
                context.num_classes or count_outputs(model, context.images),
                channels_last=getattr(args, "channels_last", False),
            )
        self._model = model
        self._seeds = getattr(args, "seed", None) or 0, context.rank

    def on_epoch(self, epoch: int) -> None:
        self._epoch, self._batch = epoch, 0
        self._sums, self._batches = None, 0

    def on_batch(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        if self._perturber is None:
            return images, target
        self._batch += 1
        with self._naming_flag():
            found = self._perturber(images, hard_labels(target), seed=self._seed())
        self._sizes = [found.linf.mean(), found.l2.mean()]
        if self._beta is None:
            return found.images, target
        self._perturbed = found.images
        return images, target

    def extra_loss(self, output: Tensor, target: Tensor) -> Tensor | None:
        labels = target if target.ndim == 1 else target.argmax(1)
        accuracy = (output.argmax(1) == labels).float().mean()
        if self._model is None or self._beta is None or self._perturbed is None:
            self._count([accuracy, *self._sizes])
            return None
        images, self._perturbed = self._perturbed, None
        logits = second_pass(self._model, images, seed=self._seed(1))
        divergence = kl_divergence(output, logits)
        self._count([(logits.argmax(1) == labels).float().mean(), *self._sizes, accuracy, divergence.detach()])
        return self._beta * divergence

    def scalars(self) -> Mapping[str, float]:
        names = ["adversarial_accuracy", "linf", "l2"]
        if self._beta is not None:
            names += ["clean_accuracy", "kl"]
        if self._sums is None:
            return dict.fromkeys(names, math.nan)
        return dict(zip(names, (self._sums / self._batches).tolist(), strict=True))

    def close(self) -> None:
        self._model = self._perturber = self._perturbed = None

    def _seed(self, *more: int) -> int:
        """The seed of this batch on this rank; a run resumed at an epoch has the same seeds."""
        seed, rank = self._seeds
        return batch_seed(seed, self._epoch, self._batch - 1, rank, *more)

    def _count(self, values: list[Tensor]) -> None:
        # Summed on the device: reading each value would wait for the GPU.
        row = torch.stack([value.float() for value in values])
        self._sums = row if self._sums is None else self._sums + row
        self._batches += 1

    @contextmanager
    def _naming_flag(self) -> Iterator[None]:
        """Puts the flag before an error message, and the name of the attack that the user gave into it."""
        try:
            yield
        except SelplugError as error:
            text = str(error) if self._beta is None else str(error).replace(INNER, TRADES)
            raise type(error)(f"--adversarial: {text}") from error


def _check_erasing(args: argparse.Namespace) -> None:
    """Raises InputError if timm's random erasing would put noise outside [0, 1] into the batches."""
    share: Any = getattr(args, "reprob", 0)
    mode = getattr(args, "remode", "const")
    if share and mode != "const" and not getattr(args, "no_aug", False):
        raise InputError(
            f"--adversarial: attacks need pixels in [0, 1], but --reprob {share} with --remode {mode} puts noise "
            "outside this range into the batches; use --remode const, or --reprob 0"
        )
