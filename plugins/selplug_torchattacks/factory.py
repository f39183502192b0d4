"""Makes a perturbation of each attack class of torchattacks."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from selplug.core.errors import InputError
from selplug.core.model.state import frozen
from selplug.core.types import Perturb

from .ensemble import build as build_ensemble
from .ensemble import describe as describe_ensemble
from .ensemble import targets
from .limits import MANY_CLASSES, ONE_BY_ONE, check_classes, check_images
from .meanings import documentation
from .options import check, is_linf, signature
from .repairs import REPAIRS
from .targets import check_class, choose_targets
from .victim import Victim

logger = logging.getLogger("selplug")

NOISE = frozenset({"gn", "vanila"})
ONE_STEP = frozenset({"fgsm", "ffgsm"})
NOT_BY_GRADIENT = frozenset({"onepixel", "pixle"})


def exported() -> dict[str, type]:
    """The attack classes of the installed torchattacks by name in lower case. Raises ImportError without it."""
    import torchattacks

    return {
        name.lower(): getattr(torchattacks, name)
        for name in torchattacks.__all__
        if name not in torchattacks.__wrapper__
    }


class AttackFactory:
    """``(model, **options) -> (images, labels) -> images`` for one attack class.

    Options and defaults are those of the class in torchattacks; sizes (``eps``, ``alpha`` ...) are in pixel units of
    [0, 1]. Attacks with a targeted mode also take ``target``: "least-likely", "random" or a class. There is no option
    ``seed`` (drawn anew for each batch from torch's generator), ``n_classes`` (taken from the model) or ``verbose``.
    ``deepfool``, ``sparsefool`` and ``jsma`` process images one by one, with a backward pass per class and step. This
    takes hours on 100 classes.

    Args of a call:
        model: any module that maps images (N, C, H, W) in [0, 1] to logits (N, K), normally
            :class:`selplug.core.perturb.UnitRangeModel`. Its ``num_classes`` is K; without it, K is the number of
            logits in the first batch.

    Raises:
        InputError: an option is wrong, or the attack does not work with so few classes.
    """

    def __init__(self, name: str, attack: type) -> None:
        self.name = name
        self.attack = attack
        self.kind = "noise" if name in NOISE else "attack"
        self.__name__ = name
        self.__signature__ = signature(attack)
        self.__doc__ = documentation(name, attack, [key for key in self.__signature__.parameters if key != "model"])

    def __call__(self, model: nn.Module, **options: Any) -> Perturb:
        return Attacker(self, model, check(self.name, self.__signature__, options))

    def __repr__(self) -> str:
        return f"{self.name}{self.__signature__}"

    def build(self, victim: Victim, options: Mapping[str, Any], num_classes: int) -> Any:
        """The attack object of torchattacks, repaired. Raises InputError if its class refuses the options."""
        if self.name == "autoattack":
            import torchattacks

            return build_ensemble(torchattacks, victim, options, num_classes)
        target = options.get("target")
        try:
            attack = self.attack(victim, **{key: value for key, value in options.items() if key != "target"})
        except ValueError as error:
            raise InputError(f"{self.name}: {error}") from error
        if self.name in REPAIRS:
            REPAIRS[self.name](attack, num_classes)
        if target is not None:
            attack.set_mode_targeted_by_label(quiet=True)
        return attack

    def threat(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The threat model, ready for JSON; keys that do not apply are left out.

        ``norm`` and ``eps`` define the ball that the attack stays in, ``option`` is the option that sets its size.
        ``steps`` is the number of gradient steps.
        """
        options = check(self.name, self.__signature__, options)
        found: dict[str, Any] = {}
        for option in ("eps", "max_epsilon"):
            if option in options:
                norm = "Linf" if is_linf(self.name, options) else "L2"
                found = {"norm": norm, "eps": options[option], "option": option}
        if self.name in ONE_STEP:
            found["steps"] = 1
        elif "steps" in options and self.name not in NOT_BY_GRADIENT:
            found["steps"] = options["steps"]
        return found

    def describe(self, options: Mapping[str, Any], num_classes: int) -> dict[str, Any]:
        """The settings used with a model of K classes, for a report; ready for JSON.

        Contains all options, and settings that are not options: the ``targets`` tried, ``target`` or ``early_stop``,
        and for AutoAttack its ``parts`` and those ``left_out``.
        """
        settings = check(self.name, self.__signature__, options)
        if self.name == "autoattack":
            return settings | describe_ensemble(settings, num_classes)
        if self.name == "apgdt" or settings.get("multi_targeted"):
            settings["targets"] = targets(num_classes)
        elif self.name == "jsma" and settings["target"] is None:
            settings["target"] = f"(label + 1) modulo {num_classes}"
        elif self.name in ("cw", "eadl1", "eaden"):
            settings["early_stop"] = False
        return {key: value for key, value in settings.items() if key != "target" or value is not None}


class Attacker:
    """One attack on one model: ``(images, labels) -> images``. The attack object is built once and kept.

    Images (N, C, H, W) float32 in [0, 1], labels (N,). The model is left unchanged, and so is torch's generator if the
    attack seeds it itself. If an attack returns values that are not finite for a sample (DeepFool on a gradient of
    zero), the sample is returned unperturbed and a warning is logged.
    """

    def __init__(self, factory: AttackFactory, model: nn.Module, options: dict[str, Any]) -> None:
        self.factory = factory
        self.model = model
        self.options = options
        #: The target class of each sample in the last batch, (N,); None for an untargeted attack.
        self.targets: Tensor | None = None
        self._attack: Any = None
        self._seeded: list[Any] = []
        num_classes = getattr(model, "num_classes", None)
        if isinstance(num_classes, int):
            self._build(num_classes)

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        with frozen(self.model), torch.enable_grad():
            if self._attack is None:
                self._build(self._count_classes(images))
            self.check(images)
            if self._attack.device != images.device:
                self._attack.set_device(images.device)
            with reseeded(self._seeded, images.device):
                output = self._perturbed(images.contiguous(), labels.to(images.device, torch.int64))
        return self._finite(output.detach(), images)

    def check(self, images: Tensor) -> None:
        """Raises InputError if the attack does not work with images of this shape."""
        check_images(self.factory.name, self.options, images)

    def _perturbed(self, images: Tensor, labels: Tensor) -> Tensor:
        target = self.options.get("target")
        if target is None:
            output: Tensor = self._attack(images, labels)
            return output
        self.targets = choose_targets(self.model, images, labels, target)
        aimed = self.targets != labels  # samples of the target class are not attacked
        output = images.clone()
        if aimed.any():
            output[aimed] = self._attack(images[aimed], self.targets[aimed]).to(output.dtype)
        return output

    def _build(self, num_classes: int) -> None:
        name = self.factory.name
        if self.factory.kind == "attack":
            check_classes(name, self.options, num_classes)
            check_class(name, self.options.get("target"), num_classes)
        if name in ONE_BY_ONE and num_classes >= MANY_CLASSES:
            logger.warning(
                "%s processes images one by one, with a backward pass for each of %d classes in each step; "
                "expect hours on more than a few images",
                name,
                num_classes,
            )
        self._attack = self.factory.build(Victim(self.model), self.options, num_classes)
        self._seeded = [part for part in (self._attack, *self._attack._attacks.values()) if hasattr(part, "seed")]

    def _count_classes(self, images: Tensor) -> int:
        with torch.no_grad():
            return int(self.model(images[:1]).shape[1])

    def _finite(self, output: Tensor, images: Tensor) -> Tensor:
        finite = torch.isfinite(output).flatten(1).all(1)
        if finite.all():
            return output
        logger.warning(
            "%s returned values that are not finite for %d of %d images, which are left unperturbed; "
            "the model's gradient may be zero there",
            self.factory.name,
            int((~finite).sum()),
            len(images),
        )
        return torch.where(finite.view(-1, 1, 1, 1), output, images)


@contextmanager
def reseeded(attacks: list[Any], device: torch.device) -> Iterator[None]:
    """Gives a new seed to each attack that seeds torch's generators itself, and restores these generators afterwards.

    torchattacks itself seeds from a fixed number, which gives every batch the same start noise, or from the clock. The
    new seeds come from torch's generator on the CPU, which the runner seeds for each batch.
    """
    if not attacks:
        yield
        return
    for attack, seed in zip(attacks, torch.randint(2**63 - 1, (len(attacks),)).tolist(), strict=True):
        attack.seed = seed
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
