"""Input gradients of all units of all layers at a cost that does not grow with the number of units.

A derivative along a random direction costs one forward pass and says something about every unit at once.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..errors import InputError
from ..model.capture import Capture
from ..model.layers import Layer
from ..model.state import seeded
from ..model.unit_range import UnitRangeModel

logger = logging.getLogger("selplug")

#: Step of a difference, in pixels of [0, 1]: larger ones cross more kinks, smaller ones drown in float32 rounding.
STEP = 1e-4
#: Directional derivatives per image. An even number, for two halves that know nothing of each other.
DIRECTIONS = 16
#: Derivatives taken in one pass, which then computes the responses themselves once: so many, of so many pixels in all,
#: but at least two. On a CPU fewer: tensors beyond 32 MB come from the system each time, which costs what is saved.
TOGETHER, PIXELS, PIXELS_ON_CPU = 8, 2**24, 2**18

#: ``(model, capture, images, directions (K, N, C, H, W), seed) -> derivatives (K, N, U) by layer``
_Derivatives = Callable[[UnitRangeModel, Capture, Tensor, Tensor, int], dict[str, Tensor]]


@dataclass(frozen=True)
class UnitGradients:
    """What is known of ``g[n,u] = || d r[n,u] / d x[n] ||_2`` for a batch; x are images in [0, 1].

    Args:
        squares: (2, N, U), each half an estimate of g^2 without bias: the mean of squared derivatives along
            ``probes / 2`` directions v ~ N(0, I), since ``(grad . v)^2 ~ g^2 chi^2_1``. Directions are shared by the
            units and independent over samples and halves.
        probes: their number P; 0 where both halves hold g^2 itself.
        differences: whether the model allowed for no derivatives but differences.
    """

    squares: Tensor
    probes: int
    differences: bool = False

    def norms(self) -> Tensor:
        """g (N, U), without bias."""
        return self.squares.mean(0).sqrt() / chi_mean(self.probes)

    def half_norms(self) -> Tensor:
        """g (2, N, U) from each half alone, without bias."""
        return self.squares.sqrt() / chi_mean(self.probes // 2)


def chi_mean(probes: int) -> float:
    """``c = E sqrt(chi^2_P / P) = sqrt(2/P) Gamma((P+1)/2) / Gamma(P/2)``: by this a root of a mean square falls short.

    1 for ``probes=0``, which stands for exact values.
    """
    return math.sqrt(2 / probes) * math.exp(math.lgamma((probes + 1) / 2) - math.lgamma(probes / 2)) if probes else 1.0


def check_directions(probes: int) -> int:
    """``probes``; raises InputError unless it is an even number of at least 2."""
    if probes < 2 or probes % 2:
        raise InputError(f"expected an even number of at least 2 gradient probes, got {probes}")
    return probes


def unit_gradients(
    model: UnitRangeModel, layers: Sequence[Layer], images: Tensor, probes: int = DIRECTIONS, seed: int = 0
) -> dict[str, UnitGradients]:
    """Layer name -> input gradients of its units, in units of the response per pixel unit of [0, 1].

    Where all layers together have no more units than there are probes, a backward pass per unit gives them exactly.
    Else derivatives come from forward-mode differentiation, which agrees with backward passes at kinks too: flat parts
    of images are full of ties in max pooling. Where an operation of the model does not know it, they are differences
    ``(r(x + h v) - r(x - h v)) / 2 h`` with h = :data:`STEP`.

    Args:
        model: frozen and in eval mode. Lower precisions than float32 are lifted to it, and autocast is off.
        layers: of ``model.model``.
        images: (N, C, H, W) in [0, 1], on the device of the model.
        probes: P, even; the cost is about 2 P forward passes (4 P where derivatives cannot be taken together), whatever
            the number of units.
        seed: of the directions, and of the model if it draws random numbers.

    Raises:
        InputError: P is no even number of at least 2, or a derivative is not finite.
    """
    check_directions(probes)
    with seeded(seed, images.device), torch.autocast(images.device.type, enabled=False), _in_float32(model):
        if sum(layer.units for layer in layers) <= probes:
            exact = _backward(model, layers, images)
            if exact:
                return {name: UnitGradients(_finite(name, values), 0) for name, values in exact.items()}
        for way, derivatives in _WAYS.items():
            differences = derivatives is _differences
            try:
                found = _squares(derivatives, model, layers, images, probes, seed)
                break
            except RuntimeError as error:  # NotImplementedError is one
                if differences:
                    raise
                logger.info("%s do not work here, the next way is tried: %s", way, error)
    return {name: UnitGradients(_finite(name, values), probes, differences) for name, values in found.items()}


@torch.no_grad()
def _squares(
    derivatives: _Derivatives, model: UnitRangeModel, layers: Sequence[Layer], images: Tensor, probes: int, seed: int
) -> dict[str, Tensor]:
    generator = torch.Generator(images.device).manual_seed(seed)
    limit = PIXELS_ON_CPU if images.device.type == "cpu" else PIXELS
    # Even, so that both halves get as many.
    together = max(2, min(TOGETHER, limit // (len(images) * images.shape[2] * images.shape[3])) // 2 * 2)
    squares: dict[str, Tensor] = {}
    with Capture(model.model, layers) as capture:
        for start in range(0, probes, together):
            count = min(together, probes - start)
            directions = torch.stack(
                [torch.randn(images.shape, generator=generator, device=images.device) for _ in range(count)]
            )
            for name, values in derivatives(model, capture, images, directions, seed).items():
                halves = torch.stack([values[half::2].square().sum(0) for half in (0, 1)])
                squares[name] = squares[name] + halves if name in squares else halves
    return {name: values / (probes // 2) for name, values in squares.items()}


def _forward_mode_together(
    model: UnitRangeModel, capture: Capture, images: Tensor, directions: Tensor, seed: int
) -> dict[str, Tensor]:
    responses = partial(_responses, model, capture, seed)

    def derivative(direction: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = torch.func.jvp(responses, (images,), (direction,))[1]
        return found

    with _without_fused_attention():
        found: dict[str, Tensor] = torch.func.vmap(derivative, randomness="same")(directions)
    if not any(values.any() for values in found.values()):
        raise NotImplementedError("no layer depends on the image by a derivative")  # or all are 0: the next way knows
    return found


def _forward_mode(
    model: UnitRangeModel, capture: Capture, images: Tensor, directions: Tensor, seed: int
) -> dict[str, Tensor]:
    def derivative(direction: Tensor) -> dict[str, Tensor]:
        with forward_ad.dual_level(), _without_fused_attention():
            responses = _responses(model, capture, seed, forward_ad.make_dual(images, direction))
            found = {name: forward_ad.unpack_dual(values) for name, values in responses.items()}
        if all(dual.tangent is None for dual in found.values()):
            raise NotImplementedError("no layer depends on the image by a derivative")
        return {
            name: torch.zeros_like(dual.primal) if dual.tangent is None else dual.tangent
            for name, dual in found.items()
        }

    return _each(derivative, directions)


def _differences(
    model: UnitRangeModel, capture: Capture, images: Tensor, directions: Tensor, seed: int
) -> dict[str, Tensor]:
    responses = partial(_responses, model, capture, seed)

    def derivative(direction: Tensor) -> dict[str, Tensor]:
        above, below = (responses(images + step * direction) for step in (STEP, -STEP))
        return {name: (values - below[name]) / (2 * STEP) for name, values in above.items()}

    return _each(derivative, directions)


#: By the name that a message gives them, the best one first.
_WAYS: dict[str, _Derivatives] = {
    "forward-mode derivatives, several in a pass": _forward_mode_together,
    "forward-mode derivatives": _forward_mode,
    "differences": _differences,
}


def _responses(model: UnitRangeModel, capture: Capture, seed: int, images: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(seed)  # a model that draws random numbers draws the same ones
    model(images)
    return capture.responses


def _each(derivative: Callable[[Tensor], dict[str, Tensor]], directions: Tensor) -> dict[str, Tensor]:
    found = [derivative(direction) for direction in directions]
    return {name: torch.stack([values[name] for values in found]) for name in found[0]}


@contextmanager
def _without_fused_attention() -> Iterator[None]:
    """Of the fused attentions none has a forward-mode derivative."""
    with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.script")  # torch's own use of it
        yield


def _finite(name: str, squares: Tensor) -> Tensor:
    if not torch.isfinite(squares).all():
        raise InputError(f"{name}: the derivatives by the image are not finite; check the weights")
    return squares


def _backward(model: UnitRangeModel, layers: Sequence[Layer], images: Tensor) -> dict[str, Tensor] | None:
    """Exact values, None where the model gives no gradients."""
    leaf = images.detach().clone().requires_grad_()
    with torch.enable_grad(), Capture(model.model, layers) as capture:
        model(leaf * 1)  # no leaf, so that an in-place operation on it is allowed
        found = {}
        for name, responses in capture.responses.items():
            if not responses.requires_grad:
                return None
            sums = responses.sum(0)
            gradients = (torch.autograd.grad(value, leaf, retain_graph=True)[0] for value in sums)
            found[name] = torch.stack([gradient.square().sum((1, 2, 3)) for gradient in gradients], 1).detach()
    return {name: squares.expand(2, -1, -1) for name, squares in found.items()}


@contextmanager
def _in_float32(model: UnitRangeModel) -> Iterator[None]:
    """Parameters and buffers of a lower precision as float32 inside: small differences would vanish in it."""
    tensors = [t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]
    low = [(tensor, tensor.data) for tensor in tensors if tensor.dtype.itemsize < torch.float32.itemsize]
    dtype = model.dtype
    try:
        for tensor, data in low:
            tensor.data = data.float()
        model.dtype = torch.promote_types(dtype, torch.float32)
        yield
    finally:
        for tensor, data in low:
            tensor.data = data
        model.dtype = dtype
