"""What units and layers represent, beside whether a vision network survives corruptions and attacks.

>>> report = selplug.audit(model, loader, perturbations=["fgsm:eps=8/255"], normalize=(mean, std))
>>> report.save("selplug-report")
>>> report = selplug.read("selplug-report")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .api import audit
    from .compare_api import compare
    from .core.errors import SelplugError
    from .core.types import Perturbation, Subject
    from .reports.reading import read
    from .reports.report import Report
    from .similarity_api import similarity

__all__ = ["Perturbation", "Report", "SelplugError", "Subject", "__version__", "audit", "compare", "read", "similarity"]

# Loaded on first use: `selplug --help` has no need for torch.
_HOMES = {
    "audit": ".api",
    "compare": ".compare_api",
    "Perturbation": ".core.types",
    "Report": ".reports.report",
    "SelplugError": ".core.errors",
    "Subject": ".core.types",
    "read": ".reports.reading",
    "similarity": ".similarity_api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'selplug' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name], __name__), name)
