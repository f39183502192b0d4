"""Class selectivity as a penalty of training (Leavitt & Morcos, arXiv 2003.01262). Definition: docs/methods.md."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor, distributed, nn

from ..errors import InputError
from ..measures.functional import class_sums, one_hot, selectivity_without_sync
from ..model.capture import find_layers, uncompiled
from ..model.recorder import Recorder
from ..model.state import frozen

_logger = logging.getLogger("selplug")


class SelectivityRegularizer:
    """The term ``-alpha * mean_over_layers(mean_over_units(SI))`` of a training loss.

    alpha > 0 promotes class selectivity, alpha < 0 reduces it, 0 is off.

    >>> regularizer = SelectivityRegularizer(model, alpha=-1.0, images=images[:2])  # before torch.compile and DDP
    >>> loss = criterion(model(images), targets) + regularizer(targets)

    Hooks stay on the model until :meth:`close` (or the end of ``with``). They record in training mode with gradients
    enabled, pooled responses (N, U) alone, and nothing else; of several forward passes the last one counts. Copies of
    the model, as for an average of its weights, record nothing, and its ``state_dict`` has no further keys.

    Args:
        model: any module on one image tensor, on its device; called as a whole while training.
        alpha: finite; may be set anew at any time, ``regularizer.alpha = ...``.
        images: (N, C, H, W) as the model takes them; two are enough. They show which layers there are.
        num_classes: C. None: as many as the model has outputs.
        layers: globs over module names, see :func:`~selplug.core.model.capture.find_layers`; None: every activation.
        ema: in [0, 1), decay per call of running class sums, which lower the null level of small batches. The value is
            that of the running sums, the gradient that of this batch's sums at that point (ours; stochastic
            compositional gradients, arXiv 1411.3803), so that alpha weighs as much as without. History is forgotten
            where alpha is set to 0. None: this batch alone.
        sync: sum classes over all ranks of the default process group, if there is one. The penalty is then that of the
            whole batch, and gradients are multiplied by the number of ranks, for DistributedDataParallel divides by it.
            All ranks must call with the same alpha.

    Attributes:
        layers: the layers that take part, each with the same weight.

    Raises:
        InputError: alpha, ema or num_classes is not as above.
        CaptureError: there are no layers, or a pattern matches nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        alpha: float,
        images: Tensor,
        *,
        num_classes: int | None = None,
        layers: Sequence[str] | None = None,
        ema: float | None = None,
        sync: bool = False,
    ) -> None:
        if ema is not None and not 0 <= ema < 1:
            raise InputError(f"expected ema in [0, 1) or None, got {ema}")
        _check(alpha)
        model = uncompiled(model)
        self.ema, self.sync = ema, sync
        self.num_classes = count_outputs(model, images) if num_classes is None else num_classes
        if self.num_classes < 2:
            raise InputError(f"class selectivity needs at least two classes, got num_classes={self.num_classes}")
        self.layers = find_layers(model, images, layers)
        # Every layer weighs the same, every unit the same within its layer.
        shares = [torch.full((layer.units,), 1 / layer.units, dtype=torch.float64) for layer in self.layers]
        self._shares = torch.cat(shares) / len(self.layers)
        self._index = torch.full_like(self._shares, math.nan)
        self._calls, self._warned = 0, False
        self._single: Tensor | None = None  # whether a batch so far had one class only; None: no batch so far
        self._history: tuple[Tensor, Tensor] | None = None  # running class sums (C, U + 1), and their bias ()
        self._recorder = Recorder(model, self.layers)
        self._enabled, self.alpha = True, alpha

    @property
    def alpha(self) -> float:
        """Weight of the term: > 0 promotes class selectivity, < 0 reduces it."""
        return self._alpha

    @alpha.setter
    def alpha(self, alpha: float) -> None:
        _check(alpha)
        self._alpha = float(alpha)
        # Compiled code depends on this flag and not on alpha, or each step of a schedule would compile anew.
        self._recorder.active = self._enabled and alpha != 0
        if not alpha:
            self._history = None

    @property
    def enabled(self) -> bool:
        """False does what alpha = 0 does, but keeps the running sums."""
        return self._enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        self._enabled = enabled
        self._recorder.active = enabled and self._alpha != 0

    @property
    def selectivity(self) -> Tensor:
        """Mean over layers at the last call, detached scalar on the device; NaN before the first call."""
        return (self._index * self._shares).sum()

    @property
    def per_layer(self) -> dict[str, Tensor]:
        """Layer name -> mean over its units, dead ones included, at the last call; as :attr:`selectivity`."""
        parts = torch.split(self._index, [layer.units for layer in self.layers])
        return {layer.name: part.mean() for layer, part in zip(self.layers, parts, strict=True)}

    def __call__(self, targets: Tensor) -> Tensor:
        """The penalty of the last forward pass in training mode, a scalar in float32 or wider.

        0 where alpha is 0, and where fewer than two classes are present (with one warning). The responses are gone
        afterwards, so each forward pass has one penalty.

        Args:
            targets: labels (N,), integers in [0, C), or soft targets (N, C) whose rows sum to 1 (mixup, smoothing).
                Values are checked at every call on the CPU, elsewhere at calls 1, 2, 4, 8, ..., since looking at them
                waits for the device; unchecked labels outside [0, C) belong to no class.

        Raises:
            InputError: targets do not fit, or are multi-label ones, for which the index is not defined.
            CaptureError: no forward pass was recorded since the last call, or a layer ran without gradients.
        """
        if not self._recorder.active:
            self._recorder.forget()
            return torch.zeros((), device=targets.device)
        recorded = self._recorder.take()
        # Autocast would take the products in half precision: sums are off, gradients near dead units overflow.
        with torch.autocast(recorded[0].device.type, enabled=False):
            responses = torch.cat(recorded, 1)
            self._calls += 1
            look = responses.device.type == "cpu" or self._calls & (self._calls - 1) == 0
            sums, weights = class_sums(responses, self._matrix(targets, len(responses), look))
            sums, weights = self._gathered(sums, weights)
            self._warn_of_single(weights, look)
            index = selectivity_without_sync(sums, weights)
            self._index = index.detach()
            self._shares = self._shares.to(index)
            return -self._alpha * (index * self._shares).sum()

    def close(self) -> None:
        """Removes the hooks."""
        self._recorder.close()

    def __enter__(self) -> SelectivityRegularizer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def state_dict(self) -> dict[str, Any]:
        """The running class sums, where there are any: ``sums`` (C, U over all layers + 1 for weights), ``bias`` ()."""
        return {} if self._history is None else {"sums": self._history[0].clone(), "bias": self._history[1].clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from the ``state_dict`` of a regularizer of the same model, layers and classes.

        Raises:
            InputError: its sums have another shape.
        """
        expected = (self.num_classes, len(self._shares) + 1)
        if state and tuple(state["sums"].shape) != expected:
            raise InputError(f"expected running class sums of shape {expected}, got {tuple(state['sums'].shape)}")
        self._history = (state["sums"].clone(), state["bias"].clone()) if state else None

    def _matrix(self, targets: Tensor, num_samples: int, look: bool) -> Tensor:
        """Targets as (N, C)."""
        matrix = one_hot(targets, self.num_classes, num_samples, check_values=look)
        # Rows in bfloat16 sum to 1 only roughly.
        if look and targets.ndim == 2 and ((matrix.float().sum(1) - 1).abs() > 0.02).any():
            raise InputError("expected soft targets (N, C) whose rows sum to 1, got multi-label targets")
        return matrix

    def _gathered(self, sums: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Class sums (C, U) and weights (C,) over all ranks and over past batches, as far as asked for."""
        ranks = self.sync and distributed.is_available() and distributed.is_initialized()
        if not ranks and self.ema is None:
            return sums, weights
        joined = torch.cat([sums, weights.unsqueeze(1)], 1)
        if ranks:
            joined = _SumOverRanks.apply(joined)
        if self.ema is not None:
            joined = self._averaged(joined, self.ema)
        return joined[:, :-1], joined[:, -1]

    def _averaged(self, batch: Tensor, decay: float) -> Tensor:
        value = batch.detach()
        past, bias = self._history or (torch.zeros_like(value), value.new_zeros(()))
        past, bias = past.to(value), bias.to(value)
        # A batch that overflowed in half precision, whose step the scaler skips, must not stay in the history.
        finite = value.isfinite().all()
        past = torch.where(finite, decay * past + (1 - decay) * value, past)
        bias = torch.where(finite, decay * bias + (1 - decay), bias)
        self._history = past, bias
        return past / bias + (batch - value)

    def _warn_of_single(self, weights: Tensor, look: bool) -> None:
        if self._warned:
            return
        single = (weights > 0).sum() < 2
        self._single = single if self._single is None else self._single | single
        if look and self._single:
            self._warned = True
            _logger.warning(
                "a batch had samples of fewer than two classes: its class selectivity is undefined and its penalty 0; "
                "shuffle the data or use larger batches (said once)"
            )


class _SumOverRanks(torch.autograd.Function):
    """Sum over ranks of a tensor that goes into a loss which is the same on all ranks.

    That loss has the same gradient everywhere, so the sum over ranks of it needs no communication.
    """

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        total = local.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * distributed.get_world_size()


def _check(alpha: object) -> None:
    if not isinstance(alpha, Real) or not math.isfinite(alpha):
        raise InputError(f"expected a finite number as alpha, got {alpha!r}")


def count_outputs(model: nn.Module, images: Tensor) -> int:
    """How many logits the model gives. Raises InputError if what it gives is no tensor (N, C)."""
    with frozen(model), torch.no_grad():
        output = model(images)
    if not isinstance(output, Tensor) or output.ndim != 2:
        raise InputError("the model's output is no tensor (N, C) that tells the number of classes: give num_classes")
    return output.shape[1]
