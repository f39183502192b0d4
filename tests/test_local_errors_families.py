"""Local errors on the smallest model of every timm family: which stages there are, and which models refuse."""

from __future__ import annotations

import warnings

import pytest
import torch
from test_families import FAMILIES, build
from torch.nn import functional as F

from selplug.core.errors import CaptureError
from selplug.core.training.local_errors import LocalErrors

timm = pytest.importorskip("timm")

#: The ends that timm lists lie inside cells or blocks that a connection leads past.
REFUSED = {"nasnet", "pnasnet", "xception", "xception_aligned"}
#: Listed stages that are no module, or are not listed by name: how many are left.
FEWER = {"hrnet": 3, "mobilenetv5": 4, "tresnet": 4}
#: Depths of models too large to be built whole.
SMALLER = {"deepseek_vit_412m": 2, "gemma4_vit_167m": 2}


@pytest.mark.parametrize("entry", FAMILIES.split(), ids=lambda entry: entry.partition(":")[0])
def test_family(entry: str) -> None:
    from selplug_timm.hooks.local_errors import stages_of

    family, _, rest = entry.partition(":")
    name, _, size = rest.partition("@")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the models, at construction
        if name in SMALLER:
            model = timm.create_model(name, img_size=int(size), depth=SMALLER[name])
        else:
            model = build(name, int(size))
    images, labels = torch.rand(2, 3, int(size), int(size), generator=torch.Generator().manual_seed(0)), torch.arange(2)
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
