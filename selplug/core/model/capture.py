"""Finds the layers of a model by one forward pass, and records their units inside a ``with`` block."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from ..errors import CaptureError
from ..words import plural
from . import layers as rules
from .calibration import Calibration
from .layers import Layer

__all__ = ["Capture", "Layer", "find_layers", "uncompiled"]


class Capture:
    """Records responses while the model runs inside ``with``.

    >>> layers = find_layers(model, images[:2])
    >>> with Capture(model, layers) as capture:
    ...     logits = model(images)
    >>> capture.responses["layer1.0.act1"]  # (N, U)

    Responses are pooled inside the hook, so no full map is kept. The hooks are removed after the block, even after an
    exception. After several forward passes in a block, the responses are those of the last. Gradients flow if the
    caller has enabled them. ``flatten=True`` keeps all positions instead of their mean.
    """

    def __init__(self, model: nn.Module, layers: Sequence[Layer], flatten: bool = False) -> None:
        self.model = uncompiled(model)
        self.flatten = flatten
        self.layers = tuple(layers)
        self._by_module = rules.calls_by_module(layers)
        self._modules = dict(self.model.named_modules())
        self._calls: dict[str, int] = {}
        self._responses: dict[str, Tensor] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Capture:
        self._responses = {}
        with ExitStack() as stack:
            stack.callback(self.model.register_forward_pre_hook(self._restart).remove)
            for name in self._by_module:
                handle = self._modules[name].register_forward_hook(self._hook(name))
                stack.callback(handle.remove)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def responses(self) -> dict[str, Tensor]:
        """Layer name -> responses (N, U) of the last forward pass.

        Raises:
            CaptureError: a layer did not run, or the model was compiled before the hooks were set.
        """
        silent = [layer.name for layer in self.layers if layer.name not in self._responses]
        if silent:
            raise CaptureError(
                f"{len(silent)} of {len(self.layers)} layers were not recorded, the first is {silent[0]}; hooks do not "
                "work on a model that was compiled and run before: give the model before torch.compile"
            )
        return {layer.name: self._responses[layer.name] for layer in self.layers}

    def _restart(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._calls = dict.fromkeys(self._by_module, 0)
        self._responses = {}

    def _hook(self, name: str) -> Any:
        calls = self._by_module[name]

        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            self._calls[name] = call = self._calls.get(name, 0) + 1
            layer = calls.get(call)
            if layer is not None:
                self._responses[layer.name] = layer.flat(output) if self.flatten else layer.pool(output)

        return hook


def uncompiled(model: nn.Module) -> nn.Module:
    """The module inside the wrapper of ``torch.compile``, which silently ignores hooks set after compilation."""
    inner = getattr(model, "_orig_mod", model)
    return inner if isinstance(inner, nn.Module) else model


def find_layers(model: nn.Module, images: Tensor, patterns: Sequence[str] | None = None) -> tuple[Layer, ...]:
    """The layers of a model, found by one forward pass in eval mode on a few images.

    Without patterns, the layers are all outermost activations with an output that depends on the image, except gates
    and the model's own output. The unit axis is the one that the *next* module with parameters takes as channels, if
    the ranks agree; otherwise the one that matches the channels of the previous such module.

    Args:
        model: any module on one image tensor; restored afterwards, even after an exception.
        images: (N, C, H, W), preprocessed for the model; two are enough, a single one is doubled.
        patterns: globs over module or layer names (``*`` also matches dots). Each picks the activations among the
            modules that it matches or, if there are none, all of these modules.

    Raises:
        CaptureError: there is nothing to record, a pattern matches nothing, or the output of a picked module is not a
            tensor of at least rank 2.
    """
    model = uncompiled(model)
    named = dict(model.named_modules())
    activations = rules.outermost_activations(model)
    if patterns is None:
        wanted: dict[str, set[str]] = {name: set() for name in _default(activations, named)}
    else:
        wanted = _matching(activations, named, patterns)
    calibration = Calibration({name: named[name] for name in wanted})
    calibration.run(model, images)
    layers = calibration.layers
    if patterns is None and not layers:
        raise CaptureError(
            f"none of the {plural(len(wanted), 'activation module')} ran on an image and returned a tensor (N, ...) of "
            f"units; choose other modules with --layers (layers=), globs over module names such as {_some(named)}"
        )
    if patterns is not None:
        layers = tuple(layer for layer in layers if any(_fits(p, layer) for p in wanted[layer.module]))
        for pattern in patterns:
            if not any(_fits(pattern, layer) for layer in layers if pattern in wanted[layer.module]):
                raise CaptureError(
                    f"--layers {pattern!r} selects no layer: expected modules that run on the image and return a "
                    f"tensor (N, ...), got {', '.join(name for name in wanted if pattern in wanted[name])}"
                )
    return layers


def _default(activations: Mapping[str, nn.Module], named: Mapping[str, nn.Module]) -> list[str]:
    units = [name for name, module in activations.items() if not rules.is_gate(module)]
    if not units:
        what = "only gates (Sigmoid, Tanh) as activation modules" if activations else "no activation module"
        raise CaptureError(
            f"the model has {what}, so there are no units by default (functional calls such as F.relu cannot be "
            f"recorded); choose modules with --layers (layers=), globs over module names such as {_some(named)}"
        )
    return units


def _matching(
    activations: Mapping[str, nn.Module], named: Mapping[str, nn.Module], patterns: Sequence[str]
) -> dict[str, set[str]]:
    """Module name -> the patterns that picked it, in the order of the model."""
    picked: dict[str, set[str]] = {}
    for pattern in patterns:
        module_pattern = pattern.partition("#")[0]
        matches = [name for name in named if name and fnmatch.fnmatchcase(name, module_pattern)]
        if not matches:
            raise CaptureError(f"--layers {pattern!r} matches no module; there are {_some(named, 40)}")
        units = [name for name in matches if name in activations and not rules.is_gate(named[name])]
        units = units or [name for name in matches if name in activations] or matches
        for name in units:
            picked.setdefault(name, set()).add(pattern)
    return {name: picked[name] for name in named if name in picked}


def _fits(pattern: str, layer: Layer) -> bool:
    """Whether a pattern that picked the layer's module also matches its call number."""
    return "#" not in pattern or fnmatch.fnmatchcase(layer.name, pattern)


def _some(named: Mapping[str, nn.Module], count: int = 12) -> str:
    names = [name for name in named if name]
    return ", ".join(names[:count]) + (f", ... ({len(names)} in all)" if len(names) > count else "")
