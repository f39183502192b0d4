"""Captum-style maps of a real network in one figure: where classes are distinguished, and where an attack is visible.

    python examples/captum_maps.py --checkpoint resnet20-12fca82f.th --data-dir CIFAR10 --output maps.png

``--data-dir`` contains CIFAR-10 as image files, ``train/<class>/*`` and ``test/<class>/*``; the checkpoint is the CIFAR
ResNet20 of akamaster/pytorch_resnet_cifar10. Needs the extras timm, captum and torchattacks. On 2 CPU cores it takes a
few minutes.

Rows A: an image, Captum's Grad-CAM, the class selectivity of the last block for the true class and for the class
predicted under attack, the pixels behind the former, and the energy outside the clean subspace, clean and under PGD.
Below: accuracy without a quarter of a layer's units (B), this energy over depth (C), and the variability of the units'
input gradients (D).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from captum.attr import LayerAttribution, LayerGradCam
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from torch import Tensor, nn

from selplug import registry, specs
from selplug.core.model.unit_range import UnitRangeModel
from selplug.core.perturb import run_perturbation

BLOCKS = [f"layer{stage}.{block}.act2" for stage in (1, 2, 3) for block in (0, 1, 2)]
MAPS, ENERGY = "layer3.1.act2", "layer2.0.act2"
ATTACK = "pgd:eps=4/255,alpha=1/255,steps=10"
RED, BLUE, GREY = "#c0392b", "#2463a8", "#8a8f98"

LayerClassSelectivity = registry.load("selplug.attributions", "layer-class-selectivity")
ClassSelectivity = registry.load("selplug.attributions", "class-selectivity")
LayerDimensionality = registry.load("selplug.attributions", "layer-dimensionality")
InputUnitGradient = registry.load("selplug.attributions", "input-unit-gradient")


@dataclass
class Study:
    """The network for images in [0, 1], its data, and the methods fitted to all blocks at once."""

    model: UnitRangeModel
    classes: tuple[str, ...]
    train: list[tuple[Tensor, Tensor]]
    images: Tensor
    attacked: Tensor
    labels: Tensor
    answers: Tensor
    attacked_answers: Tensor
    blocks: list[nn.Module]
    selectivity: Any
    dimensionality: Any


def prepare(checkpoint: Path, data: Path, samples: int, train_samples: int) -> Study:
    """Loads, attacks and fits."""
    subject, train = images_of(checkpoint, data, "train", train_samples)
    subject, test = images_of(checkpoint, data, "test", samples)
    model = UnitRangeModel(subject.model, subject.normalize, 10).eval()
    spec = specs.perturbation(ATTACK)
    attack = spec.factory(model, **spec.options)
    attacked = torch.cat([run_perturbation(model, attack, x, y).images for x, y in test])
    images, labels = (torch.cat(parts) for parts in zip(*test, strict=True))
    with torch.no_grad():
        answers, attacked_answers = model(images).argmax(1), model(attacked).argmax(1)
    blocks = [subject.model.get_submodule(name) for name in BLOCKS]
    return Study(
        model,
        subject.class_names,
        train,
        images,
        attacked,
        labels,
        answers,
        attacked_answers,
        blocks,
        LayerClassSelectivity(model, blocks).fit(train),
        LayerDimensionality(model, blocks).fit(train),
    )


def images_of(checkpoint: Path, data: Path, split: str, count: int) -> tuple[Any, list[tuple[Tensor, Tensor]]]:
    """The network and ``count`` images of a split in batches, in [0, 1]."""
    load = registry.load("selplug.subjects", "timm")
    options = {"checkpoint": str(checkpoint), "data_dir": str(data), "split": split, "num_samples": count}
    subject = load("resnet20_cifar", {**options, "batch_size": 100, "workers": 0})
    return subject, list(subject.loader)


def accuracy_without(model: nn.Module, layer: nn.Module, scores: Tensor, images: Tensor, labels: Tensor) -> float:
    """Accuracy in percent when, for each image, the quarter of units with the highest scores (N, U) is set to 0."""
    mask = torch.ones_like(scores).scatter_(1, scores.topk(scores.shape[1] // 4, dim=1).indices, 0)
    handle = layer.register_forward_hook(lambda _, __, output: output * mask[:, :, None, None])
    try:
        with torch.no_grad():
            return 100 * float((model(images).argmax(1) == labels).float().mean())
    finally:
        handle.remove()


def grid(part: SubFigure, rows: list[list[tuple[Tensor, float | None]]], titles: list[str], names: list[str]) -> None:
    """Images (3, H, W), and maps (H, W) over a faint copy of the image in their row; a column has one scale."""
    axes = part.subplots(len(rows), len(titles), squeeze=False)
    part.subplots_adjust(left=0.07, right=0.99, top=0.86, bottom=0.06, wspace=0.06, hspace=0.06)
    for r, row in enumerate(rows):
        picture = row[0][0].permute(1, 2, 0).numpy()
        for c, (values, scale) in enumerate(row):
            axis = axes[r][c]
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
            axis.imshow(picture if c == 0 else np.repeat(picture.mean(2, keepdims=True), 3, 2) * 0.25 + 0.75)
            if scale is not None:
                strength = values.abs() / scale
                colours = mpl.colormaps["RdBu_r"](0.5 + 0.5 * (values / scale).clamp(-1, 1).numpy())
                colours[..., 3] = (1.3 * strength).clamp(0, 1).numpy()
                axis.imshow(colours, interpolation="bilinear")
            if r == 0:
                axis.set_title(titles[c], fontsize=8)
        axes[r][0].set_ylabel(names[r], fontsize=8)


def maps(study: Study, part: SubFigure) -> None:
    """A: images of four classes that are misclassified under the attack."""
    turned = (study.answers == study.labels) & (study.attacked_answers != study.labels)
    kinds = sorted(set(study.labels[turned].tolist()))
    if not kinds:
        sys.exit("the attack changed no prediction: use more --samples")
    kinds = kinds[:: max(1, len(kinds) // 4)][:4]
    shown = [int((turned & (study.labels == kind)).nonzero()[0]) for kind in kinds]
    x, y, wrong = study.images[shown], study.labels[shown], study.attacked_answers[shown]
    layer = study.blocks[BLOCKS.index(MAPS)]
    means = study.selectivity.class_means[BLOCKS.index(MAPS)]
    selectivity = LayerClassSelectivity(study.model, layer, class_means=means)
    energy = LayerDimensionality(study.model, study.blocks[BLOCKS.index(ENERGY)]).fit(study.train)
    columns = {
        "Grad-CAM": LayerGradCam(study.model, layer).attribute(x, y),
        "class selectivity\ntrue class": selectivity.attribute(x, y),
        "class selectivity\nattack's class": selectivity.attribute(x, wrong),
        "pixels behind\nthe true class": ClassSelectivity(study.model, layer, class_means=means).attribute(x, y),
        "outside clean\nsubspace: clean": energy.attribute(x),
        "outside clean\nsubspace: PGD": energy.attribute(study.attacked[shown]),
    }
    upsampled = [
        LayerAttribution.interpolate(each.sum(1, keepdim=True), (32, 32), "bilinear")[:, 0].detach()
        for each in columns.values()
    ]
    scales = [float(column.abs().flatten().quantile(0.99)) for column in upsampled]
    scales[2], scales[4] = scales[1], scales[5]  # maps to compare have the same scale
    rows: list[list[tuple[Tensor, float | None]]] = [
        [(image, None), *((column[r], scale) for column, scale in zip(upsampled, scales, strict=True))]
        for r, image in enumerate(x)
    ]
    names = [f"{study.classes[int(a)]}\n→ {study.classes[int(b)]}" for a, b in zip(y, wrong, strict=True)]
    grid(part, rows, ["image", *columns], names)
    key = "red: for the class, or energy; blue: against. One scale for both maps of class selectivity, one for both of "
    part.text(0.07, 0.015, key + "energy", fontsize=6.5, color=GREY)


def deletions(study: Study, panel: Axes) -> None:
    """B: how much the true class depends on the units with the highest attribution."""
    others = (study.labels + torch.randint(1, 10, study.labels.shape)) % 10
    curves: dict[str, list[float]] = {"true class": [], "another class": [], "at random": []}
    true_maps = study.selectivity.attribute(study.images, study.labels)
    other_maps = study.selectivity.attribute(study.images, others)
    for block, true, other in zip(study.blocks, true_maps, other_maps, strict=True):
        scores = (true.sum((2, 3)), other.sum((2, 3)), torch.rand(true.shape[:2]))
        for curve, score in zip(curves.values(), scores, strict=True):
            curve.append(accuracy_without(study.model, block, score, study.images, study.labels))
    for (name, curve), colour in zip(curves.items(), (RED, BLUE, GREY), strict=True):
        line(panel, curve, name, colour)
    panel.axhline(100 * float((study.answers == study.labels).float().mean()), color="k", linewidth=0.6, linestyle=":")
    panel.set_ylabel("accuracy without a quarter\nof the units (%)")
    panel.set_ylim(0, 140)
    panel.set_yticks(range(0, 101, 20))
    panel.legend(frameon=False, fontsize=7, title="units taken: the top ones for", title_fontsize=7, loc="upper left")


def energies(study: Study, panel: Axes) -> float:
    """C: energy outside the clean subspace, median and quartiles over images; returns the largest ratio of means."""
    both = [study.dimensionality.attribute(images) for images in (study.images, study.attacked)]
    values = torch.stack([torch.stack([each.flatten(1).sum(1) for each in maps]) for maps in both])
    for energy, name, colour in zip(values, ("clean", "PGD, 4/255"), (BLUE, RED), strict=True):
        low, middle, high = energy.quantile(torch.tensor([0.25, 0.5, 0.75]), dim=1).tolist()
        line(panel, middle, name, colour)
        panel.fill_between(range(1, len(middle) + 1), low, high, color=colour, alpha=0.15, linewidth=0)
    panel.set_yscale("log")
    panel.set_ylabel("energy outside the\nclean subspace")
    panel.legend(frameon=False, fontsize=7, loc="upper left")
    return float((values[1].mean(1) / values[0].mean(1)).amax())


def gradients(study: Study, panel: Axes) -> None:
    """D: coefficient of variation of the input gradient of units."""
    norms = InputUnitGradient(study.model, study.blocks).attribute(study.images[:20])
    for axis, name, colour in ((0, "over images", BLUE), (1, "over units", RED)):
        line(panel, [float((g.std(axis) / g.mean(axis).clamp_min(1e-12)).mean()) for g in norms], name, colour)
    panel.set_ylabel("variation of the\ninput-unit gradient")
    panel.set_ylim(0, None)
    panel.legend(frameon=False, fontsize=7)


def line(panel: Axes, values: list[float], name: str, colour: str) -> None:
    """A curve over depth."""
    depth = range(1, len(values) + 1)
    panel.plot(depth, values, "o-", color=colour, markersize=3, linewidth=1.2, label=name)
    panel.set_xlabel("block")
    panel.set_xticks(depth)


def main() -> None:
    parser = argparse.ArgumentParser(description="Captum-style maps of a CIFAR-10 network, clean and under attack.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path, required=True, help="contains train/<class> and test/<class>")
    parser.add_argument("--output", type=Path, default=Path("maps.png"), help="the figure, png or pdf")
    parser.add_argument("--samples", type=int, default=300, help="test images (default: 300)")
    parser.add_argument("--train-samples", type=int, default=1000, help="images to fit on (default: 1000)")
    options = parser.parse_args()
    for path in (options.checkpoint, options.data_dir / "train", options.data_dir / "test"):
        if not path.exists():
            sys.exit(f"{path} does not exist: this example needs a checkpoint and CIFAR-10 as image files")

    mpl.use("Agg")
    torch.manual_seed(0)
    study = prepare(options.checkpoint, options.data_dir, options.samples, options.train_samples)
    plt.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})
    figure = plt.figure(figsize=(7.2, 7.6), dpi=200)
    parts: Any = figure.subfigures(2, 1, height_ratios=[4.8, 2.8])
    upper, lower = parts
    maps(study, upper)
    panels = lower.subplots(1, 3)
    lower.subplots_adjust(left=0.09, right=0.99, top=0.9, bottom=0.16, wspace=0.42)
    deletions(study, panels[0])
    ratio = energies(study, panels[1])
    gradients(study, panels[2])
    upper.text(0.005, 0.97, "A", fontsize=11, fontweight="bold", va="top")
    for letter, place in zip("BCD", (0.005, 0.335, 0.665), strict=True):
        lower.text(place, 0.98, letter, fontsize=11, fontweight="bold", va="top")
    figure.savefig(options.output)
    print(
        f"{options.samples} test images; energy outside the clean subspace under PGD: up to {ratio:.1f} times the clean"
    )
    print(f"figure: {options.output}")


if __name__ == "__main__":
    main()
