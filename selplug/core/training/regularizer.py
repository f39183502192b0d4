"""Class selectivity as a penalty in training (Leavitt & Morcos, arXiv 2003.01262). Definition: docs/methods.md."""

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

    Hooks stay on the model until :meth:`close` (or the end of ``with``). They record pooled responses (N, U) in
    training mode with gradients enabled; after several forward passes, the last one counts. Copies of the model, such
    as an average of its weights, record nothing, and its ``state_dict`` has no additional keys.

    Args:
        model: any module on one image tensor, on its device; call it as a whole in training.
        alpha: finite; can be changed at any time, ``regularizer.alpha = ...``.
        images: (N, C, H, W), preprocessed for the model, to find its layers; two are enough.
        num_classes: C. None: the number of the model's outputs.
        layers: globs over module names, see :func:`~selplug.core.model.capture.find_layers`; None: every activation.
        ema: in [0, 1), decay per call of running class sums, which lower the null level of small batches. The penalty
            is computed from the running sums, its gradient from the sums of this batch at that point (ours; stochastic
            compositional gradients, arXiv 1411.3803), so that alpha has the same effect as without ema. Setting alpha
            to 0 resets the running sums. None: only this batch.
        sync: sum classes over all ranks of the default process group, if there is one. The penalty is then that of the
            whole batch. Gradients are multiplied by the number of ranks, since DistributedDataParallel divides by it.
            All ranks must call with the same alpha.

    Attributes:
        layers: the layers of the penalty, all with the same weight.

    Raises:
        InputError: alpha, ema or num_classes is out of range.
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
        # All layers have the same weight, and all units within a layer.
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
        # Compiled code depends on this flag, not on alpha: otherwise each step of a schedule would compile again.
        self._recorder.active = self._enabled and alpha != 0
        if not alpha:
            self._history = None

    @property
    def enabled(self) -> bool:
        """False has the effect of alpha = 0, but keeps the running sums."""
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
        """Layer name -> mean over its units, including dead units, at the last call; like :attr:`selectivity`."""
        parts = torch.split(self._index, [layer.units for layer in self.layers])
        return {layer.name: part.mean() for layer, part in zip(self.layers, parts, strict=True)}

    def __call__(self, targets: Tensor) -> Tensor:
        """The penalty of the last forward pass in training mode, a scalar in float32 or wider.

        0 if alpha is 0 or fewer than two classes are present (with one warning). The responses are then forgotten, so
        each forward pass has one penalty.

        Args:
            targets: labels (N,), integers in [0, C), or soft targets (N, C) with rows that sum to 1 (mixup, smoothing).
                On the CPU values are checked at every call, elsewhere at calls 1, 2, 4, 8, ..., since a check waits for
                the device; unchecked labels outside [0, C) belong to no class.

        Raises:
            InputError: targets have a wrong shape or value, or are multi-label, for which the index is undefined.
            CaptureError: no forward pass was recorded since the last call, or a layer ran without gradients.
        """
        if not self._recorder.active:
            self._recorder.forget()
            return torch.zeros((), device=targets.device)
        recorded = self._recorder.take()
        # In half precision (autocast), sums would be inexact and gradients of nearly dead units would overflow.
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
        """The running class sums, if any: ``sums`` (C, U over all layers + 1 for weights), ``bias`` ()."""
        return {} if self._history is None else {"sums": self._history[0].clone(), "bias": self._history[1].clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from the ``state_dict`` of a regularizer of the same model, layers and classes.

        Raises:
            InputError: the sums have another shape.
        """
        expected = (self.num_classes, len(self._shares) + 1)
        if state and tuple(state["sums"].shape) != expected:
            raise InputError(f"expected running class sums of shape {expected}, got {tuple(state['sums'].shape)}")
        self._history = (state["sums"].clone(), state["bias"].clone()) if state else None

    def _matrix(self, targets: Tensor, num_samples: int, look: bool) -> Tensor:
        """Targets as (N, C)."""
        matrix = one_hot(targets, self.num_classes, num_samples, check_values=look)
        # Rows in bfloat16 sum to 1 only approximately.
        if look and targets.ndim == 2 and ((matrix.float().sum(1) - 1).abs() > 0.02).any():
            raise InputError("expected soft targets (N, C) with rows that sum to 1, got multi-label targets")
        return matrix

    def _gathered(self, sums: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Class sums (C, U) and weights (C,), with ``sync`` over all ranks, with ``ema`` over past batches."""
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
        # If a batch overflows in half precision, the scaler skips its step: keep it out of the history.
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
                "shuffle the data or use larger batches (this warning appears once)"
            )


class _SumOverRanks(torch.autograd.Function):
    """Sums over ranks a tensor that is used in a loss which is the same on all ranks.

    The gradient of this loss is the same on all ranks, so its sum over ranks needs no communication.
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
    """The number of logits of the model. Raises InputError if its output is not a tensor (N, C)."""
    with frozen(model), torch.no_grad():
        output = model(images)
    if not isinstance(output, Tensor) or output.ndim != 2:
        raise InputError(
            "the number of classes is unknown, since the model's output is not a tensor (N, C): give num_classes"
        )
    return output.shape[1]
