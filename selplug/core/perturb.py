"""Runs any perturbation with a seed per batch, checks the result, measures its size and restores the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from .errors import InputError, PerturbationError
from .model.state import frozen, seeded
from .model.unit_range import UnitRangeModel as UnitRangeModel  # noqa: PLC0414
from .plugins.perturbation import BuiltPerturbation
from .types import Perturb, Samples

#: Pixels up to this far outside [0, 1] are rounding errors and are clamped.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Perturbed:
    """Perturbed images (N, C, H, W) in [0, 1] and the measured sizes ``l2`` and ``linf`` (N,), in pixel units.

    ``targets`` (N,) are the target classes of a targeted attack.
    """

    images: Tensor
    l2: Tensor
    linf: Tensor
    targets: Tensor | None = None


def batch_seed(seed: int, *batch: int) -> int:
    """The seed of all random generators for one batch. It is the same for all perturbations, so that they are paired.

    ``int(numpy.random.SeedSequence([seed, *batch]).generate_state(1)[0])``, in [0, 2**32). ``batch`` is the number of
    the batch in an audit; elsewhere several numbers may identify a batch.
    """
    return int(np.random.SeedSequence([seed, *batch]).generate_state(1)[0])


def run_perturbation(
    model: nn.Module,
    perturb: Perturb | BuiltPerturbation,
    images: Tensor,
    labels: Tensor,
    *,
    seed: int = 0,
    name: str = "perturbation",
    samples: Samples | None = None,
) -> Perturbed:
    """Perturbs one batch and checks the result.

    Args:
        model: the module that ``perturb`` attacks; its training flags, ``requires_grad``
            and gradients are restored afterwards, and so are the random generators.
        perturb: ``(images, labels) -> images``, or ``(images, labels, samples) -> images`` if it is ``by_sample``;
            or what :meth:`Perturbation.build` made, whose errors name the plugin.
        images: (N, C, H, W), float32, in [0, 1].
        labels: (N,).
        seed: seeds all generators for this batch, see :func:`batch_seed`.
        name: the name of the perturbation in errors.
        samples: the samples of the batch, for a perturbation that is ``by_sample``; the default is 0 to N - 1 with
            ``seed``.

    Raises:
        InputError: the images given are not float32 in [0, 1].
        PluginError: a built perturbation raised an error that is none of selplug.
        PerturbationError: what came back has another shape or dtype, is not finite, or leaves [0, 1].
    """
    check_images(images)
    inputs = images.detach().clone()
    built = BuiltPerturbation.of(perturb)
    which = samples or Samples(range(len(images)), seed)
    no_autocast = torch.autocast(images.device.type, enabled=False)
    with frozen(model), seeded(seed, images.device), torch.enable_grad(), no_autocast:
        output = built(inputs, labels.clone(), which)
    if not isinstance(output, Tensor) or output.shape != images.shape:
        came = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise PerturbationError(f"{name}: expected images of shape {tuple(images.shape)}, got {came}")
    if output.dtype != images.dtype:
        raise PerturbationError(f"{name}: expected images of {images.dtype}, got {output.dtype}")
    output = output.detach().to(images.device)
    low, high = (float(bound) for bound in output.aminmax())
    if not (torch.isfinite(output).all() and low >= -TOLERANCE and high <= 1 + TOLERANCE):
        raise PerturbationError(f"{name}: expected finite pixels in [0, 1], got values from {low:.4g} to {high:.4g}")
    output = output.clamp(0, 1)
    change = (output - images).flatten(1)
    return Perturbed(output, change.norm(dim=1), change.abs().amax(1), built.targets)


def check_images(images: Tensor) -> None:
    """Raises InputError unless ``images`` are (N, C, H, W), float32, finite and in [0, 1]."""
    if images.ndim != 4 or images.dtype != torch.float32 or not images.numel():
        raise InputError(f"expected images (N, C, H, W) in float32, got {images.dtype} of shape {tuple(images.shape)}")
    low, high = (float(bound) for bound in images.aminmax())
    if not (0 <= low <= high <= 1):  # NaN fails every comparison
        raise InputError(
            f"expected images in [0, 1], got values from {low:.4g} to {high:.4g}; "
            "give images before normalization, and the normalization as normalize=(mean, std)"
        )
