"""The published ResNet20 on the JPEG images of CIFAR-10 that the shared data set holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from selplug_timm.subject import load

CHECKPOINT = "resnet20-12fca82f.th"
PUBLISHED_ACCURACY = 0.8103


@pytest.mark.slow
@pytest.mark.data
def test_published_weights_on_real_images(shared: Path, cifar: Path) -> None:
    options = {"data_dir": str(cifar), "split": "test", "checkpoint": str(shared / CHECKPOINT), "workers": 0}
    subject = load("resnet20_cifar", options)
    assert subject.normalize is not None
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in subject.normalize)
    right = 0
    with torch.no_grad():
        for images, labels in subject.loader:
            right += int((subject.model((images - mean) / std).argmax(1) == labels).sum())
    assert subject.info["data"]["samples_per_class"] == [100] * 10
    assert right / 1000 == pytest.approx(PUBLISHED_ACCURACY, abs=0.03)
    assert subject.info["checkpoint"]["sha256"].startswith("12fca82f"), "the file's name holds the start of its digest"
    assert json.loads(json.dumps(subject.info)) == subject.info
    assert str(cifar.parent) not in json.dumps(subject.info)
