"""Runs attribution methods that follow Captum's conventions and turns their results into maps over the image.

No method is imported here: classes of the group ``selplug.attributions`` are recognized by the parameters of their
constructor and of ``attribute``.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import InputError, PluginError
from ..core.model.layers import Layer
from ..core.plugins.blame import blamed
from ..core.types import Attribution


class Explainer:
    """One method on one model: images -> a map per layer.

    Args:
        method: the method.
        model: images in [0, 1] -> logits.
        layers: the layers to explain, with their modules and the shapes (N, ...) of their outputs; empty for a method
            that explains the input.
        loader: (images in [0, 1], labels), for a method that must be fitted.

    Raises:
        PluginError: the method fails; errors of selplug pass through.
    """

    def __init__(
        self,
        method: Attribution,
        model: nn.Module,
        layers: Sequence[tuple[Layer, nn.Module, tuple[int, ...]]],
        loader: Iterable[tuple[Tensor, Tensor]],
    ) -> None:
        self.method = method
        self.layers = layers if method.takes_layer else ()
        self.names: tuple[str | None, ...] = tuple(layer.module for layer, _, _ in self.layers) or (None,)
        modules = [module for _, module, _ in self.layers]
        self.parts: list[Any] = []
        if method.needs_fit and len(modules) > 1:
            with suppress(InputError, PluginError):  # if the class takes no lists of layers, make one object per layer
                self.parts = self._made(model, [modules], loader)
        if not self.parts:
            self.parts = self._made(model, modules, loader)

    def _made(self, model: nn.Module, layers: Sequence[Any], loader: Iterable[tuple[Tensor, Tensor]]) -> list[Any]:
        """The fitted method for each of ``layers``, or for the input if there are none."""
        method = self.method
        with blamed(method.title):
            parts = [method.factory(model, layer, **method.init) for layer in layers]
            parts = parts or [method.factory(model, **method.init)]
            if method.needs_fit:
                for part in parts:
                    part.fit(loader)
        return parts

    def maps(self, images: Tensor, target: int, prefix_tokens: int | None, condition: str = "") -> list[Tensor]:
        """One map (h, w) per name in ``names``: values summed over channels or units, at the layer's own resolution.

        Args:
            images: (1, C, H, W) in [0, 1].
            target: the class to explain.
            prefix_tokens: how many tokens stand before those of the patches, None if the model does not say.
            condition: what the images show, for errors.

        Raises:
            InputError: the method gives no map over the image.
            PluginError: the method fails.
        """
        inputs = images.detach().clone().requires_grad_()
        takes_target = "target" in inspect.signature(self.method.factory.attribute).parameters
        arguments = {**({"target": target} if takes_target else {}), **self.method.attribute}
        with blamed(self.method.title, condition):
            found = [part.attribute(inputs, **arguments) for part in self.parts]
        if len(self.parts) == 1 and isinstance(found[0], list):
            found = found[0]
        if len(found) != len(self.names):
            raise InputError(f"{self.method.name}: expected {len(self.names)} attributions, got {len(found)}")
        layers: Sequence[Any] = self.layers or [None]
        return [self._map(one, layer, images, prefix_tokens) for one, layer in zip(found, layers, strict=True)]

    def _map(self, values: Any, layer: Any, images: Tensor, prefix_tokens: int | None) -> Tensor:
        if isinstance(values, tuple) and values:
            values = values[-1]  # for a module that runs several times, the last call, as everywhere in Captum
        if not isinstance(values, Tensor):
            raise InputError(f"{self.method.name}: expected a tensor from attribute, got {type(values).__name__}")
        values = values.detach().double().cpu()
        if not torch.isfinite(values).all():
            raise InputError(f"{self.method.name} returned values that are not finite")
        where = "the input"
        if layer is not None:
            description, _, shape = layer
            where = f"{description.module} {shape}"
            positions = _positions(values, description, shape)
            if positions is not None:
                grid = _grid(positions, images, prefix_tokens)
                if grid is not None:
                    return grid
        if values.shape == images.shape:
            return values.sum(1)[0]
        raise InputError(
            f"{self.method.name} returned {tuple(values.shape)} for {where}, which is not a map over the image; use a "
            "method that returns values of the layer's shape, or another layer"
        )


def _positions(values: Tensor, layer: Layer, shape: tuple[int, ...]) -> Tensor | None:
    """Values at each position of a layer for one image, summed over units; None if there are no positions."""
    if layer.rows_per_sample == 1 and tuple(values.shape) == shape:
        return values.sum([axis % len(shape) for axis in layer.axes])[0]
    # Methods such as Grad-CAM keep only one channel.
    if len(shape) == 4 and layer.axes == (1,) and values.ndim == 4 and tuple(values.shape[2:]) == shape[2:]:
        return values.sum(1)[0]
    return None


def _grid(positions: Tensor, images: Tensor, prefix_tokens: int | None) -> Tensor | None:
    """Values as a grid (h, w): tokens (T,) without prefix tokens become a grid with the aspect ratio of the image."""
    if positions.ndim == 2:
        return positions
    if positions.ndim != 1:
        return None
    height, width = images.shape[-2:]
    for prefix in (0, 1) if prefix_tokens is None else (prefix_tokens, 0):
        rows = round(math.sqrt((len(positions) - prefix) * height / width)) if len(positions) > prefix else 0
        if rows > 1 and (len(positions) - prefix) % rows == 0:
            columns = (len(positions) - prefix) // rows
            if rows * width == columns * height:
                return positions[prefix:].reshape(rows, columns)
    return None
