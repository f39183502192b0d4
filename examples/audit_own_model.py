"""Audits your own model from Python: a small network on handwritten digits, clean, under attacks and under noise.

    python examples/audit_own_model.py my-report

trains for a few seconds on scikit-learn's digits (1,797 images of 8 x 8 pixels, 10 classes), prints the tables and
writes ``report.html``, ``report.json`` and ``units.npz`` into the folder ``my-report``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import selplug

MEAN, STD = (0.3,), (0.35,)
PERTURBATIONS = ["fgsm:eps=16/255", "pgd:eps=16/255,alpha=4/255,steps=10", "gaussian-noise:std=0.3"]


class SmallNet(nn.Module):
    """Normalized images (N, 1, 8, 8) -> logits (N, 10). Every nonlinearity is a module, so that it can be recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.act1 = nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()
        self.conv2, self.act2 = nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()
        self.hidden, self.act3 = nn.Linear(32 * 4 * 4, 64), nn.ReLU()
        self.logits = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act2(self.conv2(self.act1(self.conv1(x))))
        return self.logits(self.act3(self.hidden(x.flatten(1))))


def digits() -> tuple[TensorDataset, TensorDataset]:
    """Training and test images (N, 1, 8, 8) in [0, 1] with their labels; every fourth image is for testing."""
    pixels, classes = load_digits(return_X_y=True)
    images, labels = torch.from_numpy(pixels).float().reshape(-1, 1, 8, 8) / 16, torch.from_numpy(classes).long()
    test = torch.arange(len(labels)) % 4 == 0
    return TensorDataset(images[~test], labels[~test]), TensorDataset(images[test], labels[test])


def train(data: TensorDataset, epochs: int) -> SmallNet:
    torch.manual_seed(0)
    model = SmallNet()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(epochs):
        for images, labels in DataLoader(data, 64, shuffle=True):
            loss = F.cross_entropy(model((images - MEAN[0]) / STD[0]), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a small network on digits and audit it.")
    parser.add_argument("folder", type=Path, help="where to write the report")
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()

    train_data, test_data = digits()
    report = selplug.audit(
        train(train_data, arguments.epochs),
        DataLoader(test_data, 128),  # not shuffled: it is read more than once
        perturbations=PERTURBATIONS,
        normalize=(MEAN, STD),  # the images above are in [0, 1]; this is the normalization of the model
        name="SmallNet",
    )
    print(report.summary())
    report.save(arguments.folder)
    print(f"report: {arguments.folder / 'report.html'}")


if __name__ == "__main__":
    main()
