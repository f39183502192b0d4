"""Whether the attacks of a run can be trusted, by what little its first batch costs to ask.

Source: the checklist of Carlini et al., *On evaluating adversarial robustness*, arXiv 1902.06705: gradients that are
masked, models that answer at random, attacks that do less than noise.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.model.state import frozen, seeded
from ...core.perturb import batch_seed
from ...core.types import Perturbation
from .results import AttackProbe

#: Logits of one image in two passes may differ by as much through the order of sums alone.
RTOL, ATOL = 1e-3, 1e-4


def probe_attacks(
    model: nn.Module, images: Tensor, labels: Tensor, attacks: Iterable[Perturbation], seed: int
) -> AttackProbe:
    """Two forward passes and a backward pass, and a forward pass per norm and eps among the attacks.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K); left as it was.
        attacks: those with a ball (see ``Perturbation.threat``) are held against random noise of its size.
        seed: of the run.

    Returns:
        The probe; the second number of each pair in ``noise`` is 0 until the attack has run.
    """
    noise: dict[str, tuple[int, int]] = {}
    with frozen(model), seeded(batch_seed(seed, 0), images.device), torch.enable_grad():
        inputs = images.detach().clone().requires_grad_()
        logits = model(inputs)
        gradient = _gradient(F.cross_entropy(logits, labels.clone(), reduction="sum"), inputs)
        with torch.no_grad():
            again = model(images)
            balls: dict[tuple[str, float], int] = {}
            for attack in attacks:
                if "eps" in attack.threat:
                    ball = (attack.threat["norm"], float(attack.threat["eps"]))
                    if ball not in balls:
                        right = model(random_noise(images, *ball)).argmax(1) == labels
                        balls[ball] = int(right.sum())
                    noise[attack.name] = (balls[ball], 0)
    logits = logits.detach()
    return AttackProbe(
        samples=len(images),
        zero_gradient=float((gradient.flatten(1).abs().amax(1) == 0).float().mean()),
        randomized=not torch.allclose(logits, again, rtol=RTOL, atol=ATOL),
        probabilities=bool((logits >= 0).all() and ((logits.sum(1) - 1).abs() < 1e-3).all()),
        noise=noise,
    )


def _gradient(loss: Tensor, inputs: Tensor) -> Tensor:
    """0 where the loss does not depend on the inputs in a way that can be differentiated."""
    found = torch.autograd.grad(loss, inputs, allow_unused=True)[0] if loss.requires_grad else None
    return torch.zeros_like(inputs) if found is None else found


def random_noise(images: Tensor, norm: str, eps: float) -> Tensor:
    """Images plus random noise on the rim of the ball, clipped: +-eps per value for Linf, else of length eps."""
    draw = torch.randn_like(images)
    if norm == "Linf":
        change = eps * draw.sign()
    else:
        change = eps * draw / draw.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
    return (images + change).clamp(0, 1)
