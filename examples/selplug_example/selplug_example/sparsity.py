"""How sparsely units respond over images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class Sparsity(Metric):
    """Lifetime sparseness of every unit: ``1 - (mean r)^2 / mean r^2`` over samples (Rolls & Tovee 1995).

    0: the same response to every image; near 1: responses to few images only. A unit that never responds has 0.

    Args:
        num_units: U.
        num_classes, seed: ignored; every measure gets them.
        kwargs: for :class:`torchmetrics.Metric`.

    ``update(responses (N, U), targets (N,))``: responses non-negative.

    ``compute()``: ``mean`` over units in [0, 1], ``silent_units``, and per unit (U,) ``sparsity``.
    """

    full_state_update = False
    #: A difference of responses has both signs, so the ratio would have no meaning.
    on_differences = False

    total: Tensor
    squares: Tensor
    seen: Tensor

    def __init__(self, num_units: int, num_classes: int | None = None, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, shape in (("total", (num_units,)), ("squares", (num_units,)), ("seen", ())):
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, responses: Tensor, targets: Tensor) -> None:
        """Adds a batch."""
        responses = responses.double()
        self.total += responses.sum(0)
        self.squares += responses.square().sum(0)
        self.seen += len(responses)

    def compute(self) -> dict[str, Tensor]:
        """The values named above."""
        silent = self.squares == 0
        ratio = self.total.square() / (self.seen * torch.where(silent, 1, self.squares))
        sparsity = torch.where(silent, 0.0, 1 - ratio).clamp(0, 1)
        return {"mean": sparsity.mean(), "silent_units": silent.sum(), "sparsity": sparsity}
