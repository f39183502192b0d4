"""What all tests share."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, settings

# No example has a time to keep: a busy machine takes as long as it takes. The same examples at every run.
settings.register_profile(
    "selplug", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("selplug")


@pytest.fixture(autouse=True)
def _fresh_compiler(request: pytest.FixtureRequest) -> None:
    """Compiled code is kept per class of module, and the number of its versions is limited."""
    if "compile" in request.node.name:
        torch.compiler.reset()
