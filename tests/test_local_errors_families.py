"""Local errors on the smallest model of every timm family: which stages there are, and which models refuse."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from selplug.core.errors import CaptureError
from selplug.core.training.local_errors import LocalErrors

pytest.importorskip("timm")

from families import build, each_family
from selplug_timm.hooks.local_errors import stages_of

#: The ends that timm lists lie inside cells or blocks that a connection leads past.
REFUSED = {"nasnet", "pnasnet", "xception", "xception_aligned"}
#: Listed stages that are no module, or are not listed by name: how many are left.
FEWER = {"hrnet": 3, "mobilenetv5": 4, "tresnet": 4}


@each_family("tresnet", "xception")
def test_family(family: str, name: str, size: int) -> None:
    model = build(family, name, size)
    images, labels = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)), torch.arange(2)
    if family in REFUSED:
        with pytest.raises(CaptureError, match=r"the stages .* cannot be separated"):
            LocalErrors(model, [*stages_of(model)], F.cross_entropy, images, channels=stages_of(model))
        assert all(parameter.grad is None for parameter in model.parameters())
        return
    local = LocalErrors(model, [*stages_of(model)], F.cross_entropy, images, channels=stages_of(model))
    channels = {entry["module"]: entry["num_chs"] for entry in model.feature_info}
    assert len(local.stages) == FEWER.get(family, len([s for s in channels if s != "features.20"])), local.stages
    for stage, layers in local._layers.items():
        if len(layers) == 1 and stage in channels:
            assert layers[0].units == channels[stage], stage
    model.train()
    (F.cross_entropy(model(images), labels) + local(labels)).backward()
    assert local.losses.isfinite().all()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]
