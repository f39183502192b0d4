"""The corruptions of Hendrycks & Dietterich (arXiv 1903.12261) as perturbations: average-case robustness.

Each corruption has its name from the benchmark and severities 1 to 5 (``fog@3``). ``corruptions`` stands for the
benchmark's 15 corruptions and ``corruptions-extra`` for its 4 additional ones. They run in batches on the images'
device. :mod:`.strengths` has the numbers and their source, :mod:`.factory` what all corruptions share.
"""

from __future__ import annotations

from .factory import BENCHMARK, CORRUPTIONS, EXTRA, CorruptionFactory, CorruptionGroup

corruptions = CorruptionGroup("corruptions", tuple(BENCHMARK))
corruptions_extra = CorruptionGroup("corruptions-extra", tuple(EXTRA))


def __getattr__(name: str) -> CorruptionFactory:
    """PEP 562: the factory of a corruption."""
    if name in CORRUPTIONS:
        return CorruptionFactory(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
