"""One epoch of ``selplug train``, and one pass over the validation data."""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import timm.utils
import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from selplug.core.errors import SelplugError

_logger = logging.getLogger("train")
#: A run ends after this many losses in a row that are not finite. A gradient scaler recovers from fewer.
HOPELESS = 10


def mixed_precision(
    args: argparse.Namespace, device: torch.device
) -> tuple[Callable[[], AbstractContextManager[Any]], Any]:
    """The autocast context of the forward pass and the gradient scaler, None if it is not needed."""
    if not args.amp:
        return nullcontext, None
    dtype = args.amp_dtype or ("float16" if device.type == "cuda" else "bfloat16")
    scaler = timm.utils.NativeScaler(device.type) if dtype == "float16" else None
    return partial(torch.autocast, device.type, getattr(torch, dtype)), scaler


class Loop:
    """Trains and validates the task of a run."""

    def __init__(
        self,
        args: argparse.Namespace,
        task: Any,
        optimizer: torch.optim.Optimizer,
        scheduler: Any,
        cast: Callable[[], AbstractContextManager[Any]],
        scaler: Any,
        device: torch.device,
    ) -> None:
        self.args, self.task, self.optimizer, self.scheduler = args, task, optimizer, scheduler
        self.cast, self.scaler, self.device = cast, scaler, device
        self._not_finite = 0

    def train(self, epoch: int, loader: Any) -> dict[str, float]:
        """Trains one epoch; returns the mean loss over its images, including the terms of hooks.

        Raises:
            SelplugError: the loss remains infinite or NaN.
        """
        args, task = self.args, self.task
        task.get_trainable_module().train()
        self.optimizer.zero_grad()
        mean = timm.utils.AverageMeter()
        batches, steps = len(loader), args.grad_accum_steps
        updates = -(-batches // steps)
        began = time.monotonic()
        for number, (images, target) in enumerate(loader):
            update = number // steps
            due = (number + 1) % steps == 0 or number + 1 == batches
            # The last update of an epoch may have fewer batches.
            share = min(steps, batches - update * steps)
            with nullcontext() if due else task.no_sync():
                with self.cast():
                    loss = task(self._laid_out(images), target)["loss"]
                self._step(loss / share, due)
            mean.update(loss.item(), len(images))
            self._check(epoch, number, mean.val)
            if not due:
                continue
            self.optimizer.zero_grad()
            task.update_ema(step=epoch * updates + update + 1)
            if self.scheduler is not None:
                self.scheduler.step_update(num_updates=epoch * updates + update + 1, metric=mean.avg)
            if args.rank == 0 and (update % args.log_interval == 0 or update + 1 == updates):
                speed = (number + 1) * len(images) * args.world_size / (time.monotonic() - began)
                rate = self.optimizer.param_groups[0]["lr"]
                _logger.info(
                    "Train: %d [%4d/%d (%3.0f%%)]  Loss: %#.3g (%#.3g)  %.0f images/s  LR: %.3e",
                    epoch, update, updates, 100 * (update + 1) / updates, mean.val, mean.avg, speed, rate,
                )  # fmt: skip
        if args.distributed:
            timm.utils.distribute_bn(task.get_trainable_module(), args.world_size, reduce=True)
        return {"loss": self._over_processes(torch.tensor([mean.sum, mean.count]))[0]}

    @torch.inference_mode()
    def validate(self, loader: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Mean cross-entropy, top-1 and top-5 accuracy in percent, with the averaged weights if there are any."""
        averaged = self.task.has_ema()
        if averaged and self.args.distributed:
            timm.utils.distribute_bn(self.task.get_trainable_module(ema=True), self.args.world_size, reduce=True)
        model = self.task.get_eval_model(ema=averaged)
        model.eval()
        sums = torch.zeros(4, dtype=torch.float64)
        for images, target in loader:
            with self.cast():
                output = model(self._laid_out(images)).float()
            hits = output.topk(min(5, output.shape[1])).indices == target.unsqueeze(1)
            losses = F.cross_entropy(output, target, reduction="sum")
            sums += torch.stack([losses, hits[:, 0].sum(), hits.sum(), losses.new_tensor(len(target))]).cpu()
        loss, top1, top5 = self._over_processes(sums)
        found = {"loss": loss, "top1": 100 * top1, "top5": 100 * top5}
        if self.args.rank == 0:
            _logger.info(
                "Test%s: " + "  ".join(f"{key} {value:.3f}" for key, value in found.items()), " (EMA)" * averaged
            )
        return found

    def _laid_out(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=torch.channels_last) if self.args.channels_last else images

    def _step(self, loss: Tensor, due: bool) -> None:
        clip = self.args.clip_grad
        parameters = None
        if clip is not None:
            parameters = self.task.get_clip_parameters(exclude_head=self.args.clip_mode == "agc")
        if self.scaler is not None:
            self.scaler(
                loss, self.optimizer, clip_grad=clip, clip_mode=self.args.clip_mode, parameters=parameters,
                need_update=due,
            )  # fmt: skip
            return
        loss.backward()  # type: ignore[no-untyped-call]
        if due:
            if clip is not None:
                timm.utils.dispatch_clip_grad(parameters, clip, mode=self.args.clip_mode)
            self.optimizer.step()

    def _check(self, epoch: int, number: int, loss: float) -> None:
        self._not_finite = 0 if math.isfinite(loss) else self._not_finite + 1
        if self._not_finite == HOPELESS:
            raise SelplugError(
                f"the loss has been {loss} for {HOPELESS} batches (epoch {epoch}, batch {number}): lower --lr, give "
                "--clip-grad or a longer --warmup-epochs; checkpoints of earlier epochs are kept"
            )

    def _over_processes(self, sums: Tensor) -> list[float]:
        """Means over all processes, from sums followed by a count."""
        sums = sums.to(self.device, torch.float32 if self.device.type == "mps" else torch.float64)
        if self.args.distributed:
            distributed.all_reduce(sums)
        return (sums[:-1] / sums[-1]).tolist()
