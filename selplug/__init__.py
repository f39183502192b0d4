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
    from .audits.reading import read
    from .audits.report import Report
    from .comparisons.api import compare
    from .core.errors import SelplugError
    from .core.types import Perturbation, Subject
    from .similarities.api import similarity

__all__ = ["Perturbation", "Report", "SelplugError", "Subject", "__version__", "audit", "compare", "read", "similarity"]

# Loaded on first use: `selplug --help` has no need for torch.
_HOMES = {
    "audit": ".audits.api",
    "compare": ".comparisons.api",
    "Perturbation": ".core.types",
    "Report": ".audits.report",
    "SelplugError": ".core.errors",
    "Subject": ".core.types",
    "read": ".audits.reading",
    "similarity": ".similarities.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'selplug' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
