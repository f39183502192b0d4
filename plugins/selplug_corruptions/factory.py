"""Perturbations for single corruptions and for groups of them."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from selplug.core.errors import InputError
from selplug.core.types import Perturb, Samples

from . import blur, color, digital, liquid, noise, strengths, weather
from .draws import Draws, sample_seed

Corrupt = Callable[..., Tensor]

#: The benchmark, in its order.
BENCHMARK: Mapping[str, Corrupt] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": color.brightness,
    "contrast": color.contrast,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
}
#: The additional corruptions, which the benchmark keeps for validation.
EXTRA: Mapping[str, Corrupt] = {
    "speckle_noise": noise.speckle_noise,
    "gaussian_blur": blur.gaussian_blur,
    "spatter": liquid.spatter,
    "saturate": color.saturate,
}
CORRUPTIONS = {**BENCHMARK, **EXTRA}
SEVERITIES = range(1, 6)
_SEVERITY = "    severity: 1 to 5, or several as 1-3; all five if not given. NAME@3 sets it, too."
_SEVERITIES = "    severities: 1 to 5, or several as 1-3; all five if not given."
_STRENGTHS = (
    "    strengths: those of imagenet, tiny-imagenet or cifar; auto takes the set whose images have the nearest size."
)
#: Smallest side of an image in pixels; the kernels of some corruptions do not fit into smaller ones.
SMALLEST = 16
#: On the CPU a batch is processed in parts of about this many values, which stay in the cache ...
PART = 2**18
#: ... but for those that share the images among threads themselves.
WHOLE = ("jpeg_compression",)


class CorruptionFactory:
    """``(model, severity=..., strengths=...) -> (images, labels, samples) -> images`` for one corruption.

    Options:
        severity: 1 to 5. In a spec also ``name@3``, ``name@1-3`` for several, and ``name`` for all five.
        strengths: "imagenet", "tiny-imagenet" or "cifar"; "auto" chooses the one with the nearest image size.
    """

    kind = "corruption"
    level = "severity"

    def __init__(self, name: str) -> None:
        self.name = self.__name__ = name
        self.__doc__ = _documented(CORRUPTIONS[name])

    def __call__(self, model: nn.Module, *, severity: Any = None, strengths: str = "auto") -> Perturb:
        return Corruption(self.name, severity, strengths)

    def expand(self, options: Mapping[str, Any]) -> list[str] | None:
        """Specs of the single severities; None if the options give one severity as a number.

        Raises:
            InputError: an option is wrong.
        """
        chosen = severities(self.name, options["severity"])
        if isinstance(options["severity"], int):
            check_strengths(self.name, options["strengths"])
            return None
        return specs([self.name], chosen, options["strengths"])


class CorruptionGroup:
    """Several corruptions under one name."""

    kind = "corruption"

    def __init__(self, name: str, members: Sequence[str]) -> None:
        self.name = self.__name__ = name
        self.__doc__ = f"{len(members)} corruptions: {', '.join(members)}.\n\nOptions:\n{_SEVERITIES}\n{_STRENGTHS}"
        self.members = members

    def __call__(self, model: nn.Module, *, severities: Any = None, strengths: str = "auto") -> Perturb:
        raise InputError(f"{self.name} stands for several perturbations; use it as a spec")

    def expand(self, options: Mapping[str, Any]) -> list[str]:
        """Specs of all members at all severities.

        Raises:
            InputError: an option is wrong.
        """
        check_strengths(self.name, options["strengths"])
        return specs(self.members, severities(self.name, options["severities"]), options["strengths"])


class Corruption:
    """One corruption at one severity, see :class:`CorruptionFactory`.

    Images (N, 3, H, W) float32 in [0, 1] on any device, H and W >= 16. The result for an image depends on the run's
    seed and the image's index, not on the rest of its batch. ``facts`` are for the report: ``corruption``,
    ``severity``, and after a call the ``strengths`` used.

    Raises:
        InputError: an option is wrong, or the images are too small or not in colour.
    """

    by_sample = True
    kind = "corruption"

    def __init__(self, name: str, severity: int, strengths: str = "auto") -> None:
        if not isinstance(severity, int):
            raise InputError(f"{name}: expected one severity from 1 to 5, got {severity!r}")
        severities(name, severity)
        check_strengths(name, strengths)
        if name == "jpeg_compression" and importlib.util.find_spec("PIL") is None:
            raise InputError('jpeg_compression needs Pillow: pip install "selplug[corruptions]"')
        self.name, self.severity, self.strengths = name, severity, strengths
        self.__name__ = f"{name}@{severity}"
        self.facts: dict[str, Any] = {"corruption": name, "severity": severity}

    def __call__(self, images: Tensor, labels: Tensor, samples: Samples) -> Tensor:
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < SMALLEST:
            raise InputError(
                f"{self.name}: expected colour images (N, 3, H, W) with H and W >= {SMALLEST}, got "
                f"{tuple(images.shape)}; gray images can be repeated three times along the channels"
            )
        chosen = strengths.choose(*images.shape[2:]) if self.strengths == "auto" else self.strengths
        self.facts["strengths"] = chosen
        parameters = strengths.STRENGTHS[chosen][self.name][self.severity - 1]
        seeds = [sample_seed(samples.seed, index, self.name, self.severity) for index in samples.indices]
        each = len(images) if images.is_cuda or self.name in WHOLE else max(1, PART // images[0].numel())
        results = []
        with torch.no_grad():
            for start in range(0, len(images), each):
                draws = Draws(seeds[start : start + each], images.device)
                part = CORRUPTIONS[self.name](images[start : start + each], draws, *parameters)
                results.append(part.clamp(0, 1))
        return torch.cat(results)


def _documented(corrupt: Corrupt) -> str:
    """What a corruption does, and the options of all of them; the numbers behind a severity are none."""
    text = inspect.cleandoc(corrupt.__doc__ or "").partition("\n\nArgs:")[0]
    return f"{text}\n\nOptions:\n{_SEVERITY}\n{_STRENGTHS}"


def severities(name: str, value: Any) -> Sequence[int]:
    """3, "1-3" or None for all, as a range.

    Raises:
        InputError: another form, or a severity outside 1 to 5.
    """
    if value is None:
        return SEVERITIES
    first, dash, last = str(value).partition("-")
    if first.isdecimal() and (not dash or last.isdecimal()) and not isinstance(value, bool):
        chosen = range(int(first), int(last if dash else first) + 1)
        if chosen and chosen[0] in SEVERITIES and chosen[-1] in SEVERITIES:
            return chosen
    raise InputError(f"{name}: expected a severity from 1 to 5, or several as 1-5, got {value}")


def check_strengths(name: str, value: str) -> None:
    """Raises InputError unless the value is "auto" or the name of a set of strengths."""
    if value != "auto" and value not in strengths.STRENGTHS:
        raise InputError(f"{name}: expected strengths of auto, {', '.join(strengths.STRENGTHS)}, got {value!r}")


def specs(names: Sequence[str], chosen: Sequence[int], strengths: str) -> list[str]:
    suffix = "" if strengths == "auto" else f":strengths={strengths}"
    return [f"{name}@{severity}{suffix}" for name in names for severity in chosen]
