from __future__ import annotations

from dataclasses import dataclass

from .network_values import VALUES, Measured
from .training_facts import Training


@dataclass(frozen=True)
class Network:
    """One network of a comparison: its ``name``, how it was trained, and what was measured of it."""

    name: str
    training: Training
    measured: Measured

    def value(self, key: str) -> float | None:
        """One of :data:`~selplug.comparisons.network_values.VALUES`, or the accuracy under a condition."""
        return self.measured.values[key] if key in VALUES else self.measured.accuracies.get(key)
