from __future__ import annotations

import argparse
from collections.abc import Mapping

from torch import Tensor, nn

from selplug.core.plugins.blame import blamed
from selplug.core.training import TrainingContext, TrainingHook


class BlamedHook(TrainingHook):
    """A hook whose errors name it; ``hook`` is the plugin's own, ``plugin`` what errors call it."""

    def __init__(self, hook: TrainingHook, plugin: str) -> None:
        self.hook, self.plugin = hook, plugin

    def add_arguments(self, group: argparse._ArgumentGroup) -> None:
        with blamed(self.plugin, passing=(argparse.ArgumentError,)):  # of flags that clash
            self.hook.add_arguments(group)

    def active(self, args: argparse.Namespace) -> bool:
        with blamed(self.plugin):
            return self.hook.active(args)

    def attach(self, model: nn.Module, args: argparse.Namespace, context: TrainingContext) -> None:
        with blamed(self.plugin):
            self.hook.attach(model, args, context)

    def on_epoch(self, epoch: int) -> None:
        with blamed(self.plugin):
            self.hook.on_epoch(epoch)

    def on_batch(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        with blamed(self.plugin):
            return self.hook.on_batch(images, target)

    def extra_loss(self, output: Tensor, target: Tensor) -> Tensor | None:
        with blamed(self.plugin):
            return self.hook.extra_loss(output, target)

    def scalars(self) -> Mapping[str, float]:
        with blamed(self.plugin):
            return dict(self.hook.scalars())

    def close(self) -> None:
        with blamed(self.plugin):
            self.hook.close()
