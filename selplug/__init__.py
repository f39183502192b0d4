"""What units and layers represent, beside whether a vision network survives corruptions and attacks.

>>> report = selplug.audit(model, loader, perturbations=["fgsm:eps=8/255"], normalize=(mean, std))
>>> report.save("selplug-report")
>>> report = selplug.read("selplug-report")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .audits.api import audit
    from .audits.report import Report
    from .comparisons.api import compare
    from .comparisons.comparison import Comparison
    from .core.errors import SelplugError
    from .core.types import Perturbation, Subject
    from .explanations.api import explain
    from .explanations.explanation import Explanation
    from .reading import read
    from .similarities.api import similarity
    from .similarities.report import SimilarityReport

__all__ = [
    "Comparison",
    "Explanation",
    "Perturbation",
    "Report",
    "SelplugError",
    "SimilarityReport",
    "Subject",
    "__version__",
    "audit",
    "compare",
    "explain",
    "read",
    "similarity",
]

# Loaded on first use: `selplug --help` has no need for torch.
_HOMES = {
    "audit": ".audits.api",
    "compare": ".comparisons.api",
    "Comparison": ".comparisons.comparison",
    "explain": ".explanations.api",
    "Explanation": ".explanations.explanation",
    "Perturbation": ".core.types",
    "Report": ".audits.report",
    "SelplugError": ".core.errors",
    "SimilarityReport": ".similarities.report",
    "Subject": ".core.types",
    "read": ".reading",
    "similarity": ".similarities.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'selplug' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
