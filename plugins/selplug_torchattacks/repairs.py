"""Corrections of single attacks of torchattacks 3.5.1; tests/torchattacks/test_attack_traps.py has a test for each.

The faults:

cw
    Masks logits by multiplying with 0 or 1 before taking the maximum, so a masked logit counts as 0: if all logits are
    negative the attack does nothing and the model looks robust. Pixels at exactly 0 or 1 never move. The early stop
    compares the cost summed over the batch, so a sample's result depends on the other samples.
eadl1, eaden
    The same mask for the label's logit. The same early stop, which also divides by zero below 10 iterations. The first
    step also moves the clean images that sizes are measured from, and the result leaves [0, 1]. With kappa > 0 success
    is tested against every label of the batch, not the sample's own.
upgd
    The same mask with loss=margin. It also indexes a tensor on the CPU with labels that may be on another device.
deepfool
    Overshoots each step instead of their sum (arXiv 1511.04599, algorithm 2). Where pixels are clipped at 0 or 1 the
    result then lies exactly on the decision boundary, and rounding decides: about 40 % of these images seemed robust.
jsma
    Its target is (label + 1) modulo 10 for any number of classes.
apgdt, fab
    Try K - 1 targets, which takes hours with 1,000 classes. Here: the most likely min(9, K - 1), as in AutoAttack.
pixle
    With update_each_iteration it works on single images only.
pgdrs, pgdrsl2
    The noise type is misspelled "guassian"; an unknown word fails in the middle of a run.
sparsefool
    Passes a tensor to numpy in a way that numpy 2 warns about at every step.

With cw, pixels at 0 or 1 now start 1e-6 inside the range, as in the authors' program. tanh is so flat there that they
need more steps or a larger ``lr`` than the defaults to move visibly.

Not corrected: where the gradient in float32 is exactly 0, a gradient attack does nothing, and attacks with momentum
(mifgsm, nifgsm, difgsm, tifgsm ...) never move that sample again. spsa takes a single step of 0.01 by default. apgdt
with norm=L2 moves all samples by the step size of the first. eadl1 and eaden continue from the end of the last constant
instead of starting again. Random starts depend on a sample's place in its batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .ensemble import targets

#: The attack object and the number of classes.
Repair = Callable[[Any, int], None]
#: The smallest distance from 0 and 1 at which CW starts.
INSIDE = 1e-6


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """The label's logit minus the largest other logit, (N,), from logits (N, K)."""
    own = logits.gather(1, labels[:, None])
    return (own - logits.scatter(1, labels[:, None], -torch.inf).max(1, keepdim=True).values).squeeze(1)


def to_lower(attack: Any, logits: Tensor, labels: Tensor) -> Tensor:
    """The quantity that an attack minimizes, (N,): the label's margin, or minus the margin of the target class.

    For a targeted attack ``labels`` are the targets.
    """
    return -margins(logits, labels) if attack.targeted else margins(logits, labels)


class Unstopped(int):
    """A number of steps for which ``steps // 10`` is ``steps``. It switches the early stop of CW off.

    CW tests for its early stop every ``steps // 10`` steps, so here only at step 0, where it cannot stop.
    """

    def __floordiv__(self, other: Any) -> int:
        return int(self)


def cw(attack: Any, num_classes: int) -> None:
    def f(logits: Tensor, labels: Tensor) -> Tensor:
        return to_lower(attack, logits, labels).clamp(min=-attack.kappa)

    def to_w(images: Tensor) -> Tensor:
        return torch.atanh(2 * images.clamp(INSIDE, 1 - INSIDE) - 1)

    attack.f, attack.inverse_tanh_space = f, to_w
    attack.steps = Unstopped(attack.steps)


def ead(attack: Any, num_classes: int) -> None:
    def loss(logits: Tensor, one_hot: Tensor, l1: Tensor | None, l2: Tensor, const: Tensor) -> Tensor:
        f = to_lower(attack, logits, one_hot.argmax(1)).clamp(min=-attack.kappa)
        return (const * f + l2 + (0.0 if l1 is None else attack.beta * l1)).sum()

    def succeeded(output: Tensor, labels: Tensor) -> Tensor:
        if output.ndim == 1:  # the classes of the best images so far, -1 where there is none
            return output == labels if attack.targeted else output != labels
        kappa = -attack.kappa if attack.targeted else attack.kappa
        shifted = output.scatter_add(1, labels[:, None], torch.full_like(output[:, :1], kappa)).argmax(1)
        return shifted == labels if attack.targeted else shifted != labels

    def logits_of(inputs: Tensor) -> Tensor:
        if isinstance(inputs, nn.Parameter):  # y, which first shares its memory with the clean images
            inputs.data = inputs.data.clone()
        return attack.model(inputs)

    attack.EAD_loss, attack.compare, attack.get_logits = loss, succeeded, logits_of
    attack.abort_early = False


def upgd(attack: Any, num_classes: int) -> None:
    def margin_loss(images: Tensor, labels: Tensor, target_labels: Tensor | None) -> Tensor:
        return -to_lower(attack, attack.get_logits(images), labels).clamp(min=0).sum()

    attack.margin_loss = margin_loss


def deepfool(attack: Any, num_classes: int) -> None:
    to_boundary = attack.forward

    def beyond(images: Tensor, labels: Tensor) -> Tensor:
        moved = to_boundary(images, labels) - images
        return (images + (1 + attack.overshoot) * moved).clamp(0, 1)

    attack.forward = beyond


def jsma(attack: Any, num_classes: int) -> None:
    attack.set_mode_targeted_by_function(lambda images, labels: (labels + 1) % num_classes, quiet=True)


def few_targets(attack: Any, num_classes: int) -> None:
    attack.n_target_classes = targets(num_classes)


def pixle(attack: Any, num_classes: int) -> None:
    if attack.update_each_iteration:
        whole = attack.forward

        def one_by_one(images: Tensor, labels: Tensor) -> Tensor:
            return torch.cat([whole(images[i : i + 1], labels[i : i + 1]) for i in range(len(images))])

        attack.forward = one_by_one


def smoothing(attack: Any, num_classes: int) -> None:
    if attack.noise_func.noise_type == "gaussian":
        attack.noise_func.noise_type = "guassian"


def sparsefool(attack: Any, num_classes: int) -> None:
    noisy = attack.forward

    def quiet(images: Tensor, labels: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
            return noisy(images, labels)

    attack.forward = quiet


REPAIRS: dict[str, Repair] = {
    "apgdt": few_targets,
    "cw": cw,
    "deepfool": deepfool,
    "eaden": ead,
    "eadl1": ead,
    "fab": few_targets,
    "jsma": jsma,
    "pgdrs": smoothing,
    "pgdrsl2": smoothing,
    "pixle": pixle,
    "sparsefool": sparsefool,
    "upgd": upgd,
}
