"""Training by local errors (Mostafa et al., arXiv 1711.06756; Jiang et al., arXiv 2007.02047): docs/methods.md."""

from __future__ import annotations

import dataclasses
import fnmatch
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import CaptureError, InputError
from ..model.calibration import Calibration, _Call
from ..model.capture import uncompiled
from ..model.layers import Layer
from ..model.recorder import SKIP, Recorder
from ..model.state import seeded, untouched
from ..words import plural


class LocalErrors:
    """The sum of the local errors of a network's stages. No gradient flows between stages.

    The output of stage k, averaged over positions and multiplied by a fixed random matrix, gives local logits. Their
    criterion is the only error that trains the stage. The part after the last stage, the network's own classifier,
    learns from the loss of the task, with its input features fixed.

    >>> local_errors = LocalErrors(model, ["layer1", "layer2"], criterion, images[:2])  # before torch.compile and DDP
    >>> loss = criterion(model(images), targets) + local_errors(targets)

    Hooks stay on the model until :meth:`close` (or the end of ``with``). They stop gradients only in training mode with
    gradients enabled; in eval mode the network is unchanged. After several forward passes, the last one counts. Copies
    of the model, such as an average of its weights, have no hooks, and its ``state_dict`` has no additional keys.

    Args:
        model: any module on one image tensor, on its device; call it as a whole in training.
        stages: globs over module names (``*`` also matches dots). A stage includes everything that runs after the
            previous stages, up to the end of this module. If the members of a container are called one by one, the
            container stands for the last of them. All output tensors of a stage are averaged and joined.
        criterion: (logits (N, C) in float32 or wider, targets) -> scalar.
        images: (N, C, H, W), preprocessed for the model; two are enough.
        num_classes: C. None: the number of the model's outputs.
        channels: the number of output channels of stages, if known; it determines the channel axis.
        seed: seed of the matrices, at least 0.

    Attributes:
        stages: names in the order in which they run, without stages that have no trainable parameters of their own.
        losses: (K,), the local error of each stage at the last call, without gradients; NaN before the first call.
        accuracies: (K,), the share of samples with the largest local logit at the target (at the largest target if
            these are soft) at the last call; NaN before the first call.

    Raises:
        InputError: the number of classes or the seed is wrong.
        CaptureError: a pattern matches nothing, a stage does not run exactly once or has no output (N, ...) of units,
            or there are no stages. Also if a parameter learns from no error, or from two because a connection bypasses
            the end of a stage or stages share it.
    """

    def __init__(
        self,
        model: nn.Module,
        stages: Sequence[str],
        criterion: Callable[[Tensor, Tensor], Tensor],
        images: Tensor,
        *,
        num_classes: int | None = None,
        channels: Mapping[str, int] | None = None,
        seed: int = 0,
    ) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise InputError(f"expected a whole number >= 0 as seed of the local classifiers, got {seed!r}")
        model = uncompiled(model)
        if len(images) == 1:
            images = images.repeat(2, 1, 1, 1)
        self.criterion = criterion
        found, outputs = _find(model, _matching(model, stages), images, channels or {})
        self.num_classes = num_classes or outputs
        if not self.num_classes:
            raise InputError(
                "the number of classes is unknown, since the model's output is not a tensor (N, C): give num_classes"
            )
        with seeded(0, images.device):
            trained = _trained(model, found, images)
        self._layers = {stage: layers for stage, layers in found.items() if stage in trained}
        self.stages = tuple(self._layers)
        self._matrices = [
            random_classifier(sum(layer.units for layer in layers), self.num_classes, seed, number).to(images.device)
            for number, layers in enumerate(self._layers.values())
        ]
        self.losses = self.accuracies = torch.full((len(self.stages),), math.nan)
        self._cuts = _Cuts(model, _flat(self._layers))

    def __call__(self, targets: Tensor) -> Tensor:
        """The sum of all local errors of the last forward pass; its features are then forgotten.

        Args:
            targets: the targets of the criterion.

        Raises:
            CaptureError: no forward pass in training mode since the last call, or a stage ran without gradients.
        """
        responses = iter(self._cuts.take())
        losses, accuracies = [], []
        # Autocast would compute the products in half precision.
        with torch.autocast(targets.device.type, enabled=False):
            for layers, matrix in zip(self._layers.values(), self._matrices, strict=True):
                features = torch.cat([next(responses) for _ in layers], 1)
                logits = features @ matrix.to(features)
                losses.append(self.criterion(logits, targets))
                accuracies.append(_accuracy(logits.detach(), targets))
        stacked = torch.stack(losses)
        self.losses, self.accuracies = stacked.detach(), torch.stack(accuracies)
        return stacked.sum()

    def close(self) -> None:
        """Removes the hooks."""
        self._cuts.close()

    def __enter__(self) -> LocalErrors:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def random_classifier(units: int, num_classes: int, seed: int, number: int) -> Tensor:
    """The matrix (U, C) of stage ``number`` (from 0): independent normal entries with variance 1 / U.

    With this variance, logits have the scale of the features. ``numpy.random.SeedSequence`` changes the seed, since a
    network that was initialized with the same seed would otherwise have the same numbers in its weights.
    """
    spread = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    return torch.randn(units, num_classes, generator=torch.Generator().manual_seed(spread)) / math.sqrt(units)


class _Cuts(Recorder):
    """Records the outputs of stages and passes them on detached; tensor k of an output counts as call k."""

    _before_others = False  # recorders see the output that has gradients

    def _fired(self, name: str, calls: Mapping[int, Layer], module: nn.Module, inputs: Any, output: Any) -> Any:
        if self._mode == SKIP or not self._model.training:
            return None
        for tensor in _tensors(output):
            super()._fired(name, calls, module, inputs, tensor)
        return _detached(output)


class _Stages(Calibration):
    """Finds the unit axis of every output tensor of a stage, and counts the calls of stages."""

    def __init__(self, picked: Mapping[str, nn.Module], channels: Mapping[str, int]) -> None:
        super().__init__(picked)
        self.channels = channels
        self.runs: dict[str, int] = {}

    def _fired(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        name = self._names[id(module)]
        self.runs[name] = self.runs.get(name, 0) + 1
        for tensor in _tensors(output):
            super()._fired(module, inputs, tensor)

    def _layer(self, call: _Call, runs: int, batch: int) -> Layer:
        layer = super()._layer(call, runs, batch)
        known = self.channels.get(call.name, layer.units)
        matches = [axis for axis in range(1, len(call.shape)) if call.shape[axis] == known]
        if runs == 1 and layer.units != known and len(matches) == 1:
            return dataclasses.replace(layer, axes=(matches[0],), units=known)
        return layer


def _matching(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Names of the modules that the patterns match."""
    names = [name for name, _ in model.named_modules() if name]
    found: dict[str, None] = {}
    for pattern in patterns:
        matches = fnmatch.filter(names, pattern)
        if not matches:
            shown = ", ".join(names[:12])
            raise CaptureError(f"--local-errors-stages {pattern!r} (stages=) matches no module; there are {shown}, ...")
        found.update(dict.fromkeys(matches))
    return list(found)


def _find(
    model: nn.Module, stages: Sequence[str], images: Tensor, channels: Mapping[str, int]
) -> tuple[dict[str, tuple[Layer, ...]], int | None]:
    """Stage -> one layer per output tensor, in the order in which they run; and the number of the model's outputs."""
    named = dict(model.named_modules())
    ends = {stage: _ends(stage, named) for stage in stages}
    picked = {name: named[name] for names in ends.values() for name in names}
    known = {name: channels[stage] for stage, names in ends.items() if stage in channels for name in names}
    calibration = _Stages(picked, known)
    with seeded(0, images.device):
        output = calibration.run(model, images)
    layers: dict[str, list[Layer]] = {}
    for layer in calibration.layers:
        # The features themselves: negative values count too.
        layers.setdefault(layer.module, []).append(dataclasses.replace(layer, rectified=False))
    by_end: dict[str, str] = {}
    for stage, names in ends.items():
        end = next((name for name in names if name in calibration.runs), stage)
        runs = calibration.runs.get(end, 0)
        if runs != 1 or end not in layers:
            problem = f"runs {runs} times in a forward pass" if runs != 1 else "returns no features (N, ...) of images"
            raise CaptureError(
                f"the stage {stage} {problem}, so it cannot have its own error; choose modules that run once and "
                "return features with --local-errors-stages (stages=)"
            )
        by_end.setdefault(end, stage)
    found = {by_end[end]: tuple(layers[end]) for end in calibration.runs if end in by_end}
    return found, output.shape[1] if isinstance(output, Tensor) and output.ndim == 2 else None


def _ends(stage: str, named: Mapping[str, nn.Module]) -> list[str]:
    """A module, its last member if it is a container, the last member of that one, and so on.

    The first of them that is called marks the end of the stage.
    """
    names = [stage]
    while isinstance(named[names[-1]], (nn.Sequential, nn.ModuleList)) and len(named[names[-1]]._modules):
        names.append(f"{names[-1]}.{next(reversed(named[names[-1]]._modules))}")
    return names


def _trained(model: nn.Module, found: Mapping[str, tuple[Layer, ...]], images: Tensor) -> set[str]:
    """The stages with errors that train a parameter; each parameter must learn from exactly one error."""
    layers = _flat(found)
    cuts = _Cuts(model, layers)
    try:
        with untouched(model), torch.enable_grad():
            model.eval()
            model.training = True  # the hooks check only this flag; the other modules stay in eval mode
            output = list(_tensors(model(images)))
            responses = dict(zip(layers, cuts.take(), strict=True))
            sources = {stage: [responses[layer] for layer in parts] for stage, parts in found.items()}
            reached = {stage: _reached(model, tensors) for stage, tensors in sources.items()}
            behind = _reached(model, output)
            cuts.active = False
            plain = _reached(model, list(_tensors(model(images))))
    finally:
        cuts.close()
    _check_sources(found, reached, behind, plain)
    return {stage for stage, names in reached.items() if names}


def _reached(model: nn.Module, tensors: Iterable[Tensor]) -> set[str]:
    """Names of the parameters that tensors depend on."""
    model.zero_grad(set_to_none=True)
    sums = [tensor.sum() for tensor in tensors if tensor.requires_grad]
    if sums:
        torch.autograd.backward(sums, retain_graph=True)
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None}


def _check_sources(found: Iterable[str], reached: Mapping[str, set[str]], behind: set[str], plain: set[str]) -> None:
    stages = ", ".join(found)
    advice = "choose other stages with --local-errors-stages (stages=)"
    if not any(reached.values()):
        raise CaptureError(f"none of the stages {stages} has a parameter to train; {advice}")
    owners: dict[str, str] = {}
    for stage, names in {**reached, "the network's output": behind}.items():
        for name in sorted(names):
            if name in owners:
                raise CaptureError(
                    f"the stages {stages} cannot be separated: the parameter {name} learns from the error of "
                    f"{owners[name]} and from that of {stage}, since a connection bypasses the end of a stage or "
                    f"stages share weights; {advice}"
                )
            owners[name] = stage
    orphans = sorted(plain - owners.keys())
    if orphans:
        raise CaptureError(
            f"with the stages {stages}, {plural(len(orphans), 'parameter')} would learn from no error, the first is "
            f"{orphans[0]}; "
            f"{advice}"
        )


def _accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    labels = targets.argmax(1) if targets.ndim == 2 else targets
    # With augmentation splits there are targets only for the first, clean split.
    return (logits[: len(labels)].argmax(1) == labels).float().mean()


def _flat(found: Mapping[str, tuple[Layer, ...]]) -> list[Layer]:
    return [layer for layers in found.values() for layer in layers]


def _tensors(output: Any) -> Iterator[Tensor]:
    """The tensors in an output that can be features."""
    if isinstance(output, Tensor):
        if output.ndim >= 2 and output.is_floating_point():
            yield output
    elif isinstance(output, (list, tuple, dict)):
        for item in output.values() if isinstance(output, dict) else output:
            yield from _tensors(item)


def _detached(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.detach()
    if isinstance(output, dict):
        return type(output)({key: _detached(item) for key, item in output.items()})
    if isinstance(output, (list, tuple)):
        items = [_detached(item) for item in output]
        return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)
    return output
