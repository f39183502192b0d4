"""The numbers of many small runs, to see that a change of the code leaves them as they are.

    python -m bench.results DIR             # one folder per run: its JSON, npz and csv files
    python -m bench.results --compare OLD NEW

The first makes every kind of run, each seeded and on one thread, through what users call alone: the command line,
``selplug.audit`` and its kin, entry points by name. Runs on real images need the shared data (``--shared``) and are
skipped without. The second lists all differences; it ends with 1 if a number differs or something is gone, and with 0
if there are new fields at most. What it does not look at is told in :mod:`bench.differences`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import sys
import tarfile
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric

import selplug
from selplug.cli import main as selplug_main

from .differences import count, differences

KEPT = (".json", ".npz", ".csv")
ARCHIVE, WEIGHTS = "cifar10-jpeg.tar.xz", "resnet20-12fca82f.th"
PER_CLASS = 20
CLASSES = ("blue", "green", "red", "white")
ALL = tuple(
    word for name in ("selectivity", "dimensionality", "cka", "gradients", "procrustes") for word in ("--measure", name)
)
QUIET = ("--quiet", "--workers", "0", "--device", "cpu")
#: Names in the working folder, so that reports hold the same paths wherever it is.
CIFAR = ("--data-dir", "cifar", "--split", "test", "--batch-size", "50", *QUIET)
RESNET20 = ("resnet20_cifar", "--checkpoint", WEIGHTS, *CIFAR)
TRAIN = (
    "--data-dir", "squares", "--model", "resnet20_cifar", "--num-classes", "4", "--img-size", "16", "--epochs", "4",
    "--warmup-epochs", "0", "-b", "16", "--lr", "0.05", "--workers", "0", "--device", "cpu", "--output", "out",
    "--log-interval", "2",
)  # fmt: skip
#: As many alphas, seeds and robust networks as the claims of a comparison need.
ALPHAS = {
    f"alpha{alpha}-seed{seed}": ("--selectivity-alpha", alpha, "--seed", str(seed))
    for alpha, seeds in {"0": 3, "-1": 2, "1": 2}.items()
    for seed in range(seeds)
}
ROBUST = {f"robust-seed{seed}": ("--adversarial", "fgsm:eps=4/255", "--seed", str(seed)) for seed in range(3)}

GROUPS: dict[str, Callable[[], None]] = {}
#: Those that need the shared data.
REAL: set[str] = set()


def group(name: str, real: bool = False) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Registers a function that makes one or more runs, each in a folder below ``out``."""

    def register(function: Callable[[], None]) -> Callable[[], None]:
        GROUPS[name] = function
        if real:
            REAL.add(name)
        return function

    return register


def run(*arguments: str) -> str:
    """A command of selplug in this process; what it prints."""
    seed()
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            selplug_main(arguments)
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"selplug {' '.join(arguments)} ended with {end.code}") from None
    return printed.getvalue()


def audit(name: str, *arguments: str) -> None:
    run("audit", *arguments, "--output", f"out/{name}")


def seed(number: int = 0) -> None:
    torch.manual_seed(number)
    np.random.seed(number)
    random.seed(number)


def plugin(kind: str, name: str) -> Any:
    return next(iter(entry_points(group=f"selplug.{kind}", name=name))).load()


# Runs on a network and images that others made.


@group("cifar", real=True)
def cifar() -> None:
    """All measures; the report as JSON once more, and as data frames after it was read back."""
    specs = ("fgsm:eps=4/255", "pgd:eps=2/255,steps=5", "gaussian-noise:std=0.1")
    perturb = [word for spec in specs for word in ("--perturb", spec)]
    how = (
        "--num-samples",
        "100",
        "--gradient-probes",
        "8",
        "--gradient-conditions",
        "clean",
        "--gradient-conditions",
        "pgd*",
    )
    audit("cifar", *RESNET20, *how, *perturb, *ALL, "--json", "out/cifar/printed.json")
    frames("cifar")


@group("worst-case", real=True)
def worst_case() -> None:
    attacks = "apgd:eps=1/255,steps=10,fab:steps=10,square:n_queries=200"
    audit("worst-case", *RESNET20, "--num-samples", "60", "--worst-case", attacks, "--seed", "3")
    perturb = (
        "--perturb",
        "pgdl2:eps=0.2,steps=5",
        "--perturb",
        "deepfool",
        "--worst-case",
        "apgd:norm=L2,fab:norm=L2",
    )
    audit("worst-case-l2", *RESNET20, "--num-samples", "40", *perturb)


@group("corruptions", real=True)
def corruptions() -> None:
    """The 75 corruptions, over the same of an untrained network."""
    base = ("--perturb", "corruptions:strengths=cifar", "--num-samples", "64")
    audit("corruptions-untrained", "resnet20_cifar", "--no-pretrained", *CIFAR, *base)
    audit(
        "corruptions",
        *RESNET20,
        *base,
        *ALL[:8],
        "--gradient-conditions",
        "clean",
        "--baseline",
        "out/corruptions-untrained",
    )
    extra = ("--perturb", "corruptions-extra", "--perturb", "fog@1-5", "--perturb", "imagenetc:imagenetc")
    audit("corruptions-extra", *RESNET20, *extra, "--num-samples", "64")


@group("shift", real=True)
def shift() -> None:
    """Images of their own, and sweeps."""
    specs = ("shift:shifted", "fgsm:eps=0..8/255*3", "gaussian-noise:std=0.05..0.2*3")
    perturb = [word for spec in specs for word in ("--perturb", spec)]
    audit("shift", *RESNET20, "--num-samples", "60", *perturb, "--measure", "selectivity", "--measure", "cka")
    audit("shift-present", *RESNET20, "--num-samples", "60", "--perturb", "shift:few,classes=present,samples=all")


@group("targeted", real=True)
def targeted() -> None:
    """Attacks with a target, on some layers."""
    specs = (
        "pgd:eps=4/255,steps=5,target=least-likely",
        "fgsm:eps=4/255,target=random",
        "pgd:eps=4/255,steps=3,target=3",
    )
    perturb = [word for spec in specs for word in ("--perturb", spec)]
    layers = ("--layers", "layer3*", "--layers", "layer1.?.act2")
    audit("targeted", *RESNET20, "--num-samples", "80", *perturb, *layers, *ALL, "--gradient-probes", "4")


@group("explain", real=True)
def explain() -> None:
    methods = (
        "layer-class-selectivity",
        "layer-dimensionality",
        "class-selectivity",
        "saliency:abs=false",
        "layer-gradcam",
    )
    chosen = [word for method in methods for word in ("--method", method)]
    where = ("--max-images", "4", "--num-samples", "100", "--layer", "layer2.2.act2", "--layer", "layer3*act2")
    model, *data = RESNET20
    run("explain", model, "cifar/test", *data, *chosen, *where, "--output", "out/explain")
    perturb = ("--perturb", "fgsm:eps=8/255", "--target", "true", "--method", "integrated-gradients:n_steps=5")
    run("explain", model, "cifar/test/cat", *data, *perturb, "--max-images", "2", "--output", "out/explain-true")


# Runs on networks and images made here.


@group("python")
def python() -> None:
    """``selplug.audit`` of a small network: gradients, callables and a measure of one's own, memory formats, amp."""
    from selplug import Perturbation

    model, loader = small(), batches()
    blend = Perturbation("blend", blended, {"share": 0.3}, "noise")
    options: dict[str, Any] = {"normalize": ((0.5,) * 3, (0.25,) * 3), "progress": False}
    names = ("selectivity", "dimensionality", "cka", "gradients", "procrustes")
    selplug.audit(
        model,
        loader,
        ["fgsm:eps=8/255", invert, blend],
        names,
        class_names=CLASSES,
        name="small",
        gradient_probes=8,
        gradient_conditions=["clean", "fgsm*"],
        **options,
    ).save("out/python")
    frames("python")
    measures = {"mean": MeanResponse, "selectivity": plugin("measures", "selectivity")}
    selplug.audit(model, loader, [invert], measures, layers=["1", "*4"], seed=5, **options).save("out/python-measure")
    formats: dict[str, Any] = {"channels_last": True, "amp": torch.bfloat16}
    selplug.audit(
        model, loader, ["pgd:eps=8/255,steps=3"], worst_case="apgd:steps=5,square:n_queries=50", **formats, **options
    ).save("out/python-amp")
    selplug.audit(model, loader, ["fgsm:eps=8/255"], torchcompile="eager", **options).save("out/python-compiled")
    integers = [((images * 255).to(torch.uint8), labels) for images, labels in loader]
    selplug.audit(model, integers, ["gaussian_noise@2"], **options).save("out/python-integers")
    for name, estimator, flatten in (("cka", "biased", True), ("procrustes", "debiased", False)):
        choice: dict[str, Any] = {"measures": [name], "estimator": estimator, "flatten": flatten}
        report = selplug.similarity(model, small(7), loader, **choice, **options)
        report.save(f"out/python-similarity-{name}")
        report.frame(name).to_csv(f"out/python-similarity-{name}/frame.csv")


@group("attributions")
def attributions() -> None:
    """Our Captum methods on a small network."""
    model, loader = small(), batches()
    images, layer = loader[0][0][:8], [model[1], model[4]]
    found = {"input-unit-gradient": plugin("attributions", "input-unit-gradient")(model, layer).attribute(images)}
    for name in ("layer-class-selectivity", "class-selectivity"):
        found[name] = plugin("attributions", name)(model, layer).fit(loader).attribute(images, target=1)
    found["layer-dimensionality"] = (
        plugin("attributions", "layer-dimensionality")(model, layer).fit(loader).attribute(images)
    )
    arrays = {
        f"{name}|{place}": each.detach().numpy() for name, both in found.items() for place, each in enumerate(both)
    }
    Path("out/attributions").mkdir(parents=True)
    np.savez("out/attributions/attributions.npz", **arrays)


@group("vit")
def vit() -> None:
    """A small transformer of timm with random weights, in mixed precision."""
    model = ("test_vit", "--no-pretrained", "--num-classes", "4", "--data-dir", "squares", *QUIET)
    chosen = (
        "--perturb",
        "fgsm:eps=2/255",
        "--measure",
        "selectivity",
        "--measure",
        "dimensionality",
        "--measure",
        "cka",
    )
    audit("vit", *model, *chosen, "--amp", "--amp-dtype", "bfloat16", "--num-samples", "32")
    audit("vit-gradients", *model, "--measure", "gradients", "--measure", "procrustes", "--num-samples", "16")


@group("training")
def training() -> None:
    """Several alphas and seeds, robust training, local errors; then similarity, audits and a comparison of them."""
    for name, arguments in {**ALPHAS, **ROBUST}.items():
        train(f"train-{name}", "--no-aug", *arguments)
    train("train-schedule", "--selectivity-schedule", "0:0,1:1", "--selectivity-ema", "0.5")
    train("train-pgd", "--adversarial", "pgd:eps=4/255,steps=2", "--selectivity-alpha", "-0.5", "--epochs", "2")
    train("train-trades", "--adversarial", "trades:eps=4/255,steps=2", "--epochs", "2")
    train("train-local-errors", "--local-errors", "--selectivity-alpha", "-0.5")
    pair = ("out/train-alpha0-seed0/last.pth.tar", "out/train-alpha-1-seed0/last.pth.tar", *QUIET)
    run("similarity", *pair, "--measure", "cka", "--measure", "procrustes", "--output", "out/similarity")
    flat = ("--flatten", "--layers", "layer1*", "--layers-b", "layer2*", "--batch-size", "32")
    run("similarity", *pair, *flat, "--output", "out/similarity-flat")
    specs = (
        "corruptions:severities=3",
        "pgd:eps=2/255,steps=5",
        "fgsm:eps=1/255..8/255*3",
        "gaussian-noise:std=0.02..0.2*3",
    )
    perturb = [word for spec in specs for word in ("--perturb", spec)]
    measures = (*ALL[:8], "--gradient-conditions", "clean", "--num-samples", "48")
    audited = {f"out/audit-{name}": f"out/train-{name}/last.pth.tar" for name in (*ALPHAS, *ROBUST)}
    audited |= {f"out/audit-{name}-early": f"out/train-{name}/checkpoint-1.pth.tar" for name in ROBUST}
    for name, checkpoint in audited.items():
        audit(name.removeprefix("out/"), checkpoint, *perturb, *measures, *QUIET)
    run("compare", *audited, "--resamples", "500", "--quiet", "--output", "out/compare")
    compared = selplug.compare({Path(name).name: name for name in audited}, resamples=200, seed=1)
    compared.save("out/compare-python")
    compared.frame().to_csv("out/compare-python/frame.csv")


@group("plugins")
def plugins() -> None:
    """By name, so that one more does not move all others."""
    found = {f"{each['group']}: {each['name']}": each for each in json.loads(run("plugins", "--json"))}
    Path("out/plugins").mkdir(parents=True)
    Path("out/plugins/plugins.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


def train(name: str, *arguments: str) -> None:
    """A training run, with the weights that it ends with as arrays."""
    from timm.models import load_state_dict

    run("train", *TRAIN, "--experiment", name, *arguments)
    weights = load_state_dict(f"out/{name}/last.pth.tar", weights_only=False)
    np.savez(f"out/{name}/weights.npz", **{key: value.numpy() for key, value in weights.items()})


def frames(name: str) -> None:
    """The data frames of a report that is read back."""
    report = selplug.read(f"out/{name}")
    report.conditions_frame().to_csv(f"out/{name}/conditions.csv", index=False)
    report.layers_frame().to_csv(f"out/{name}/layers.csv", index=False)
    report.units_frame().to_csv(f"out/{name}/units.csv", index=False)
    report.eigenvalues_frame().to_csv(f"out/{name}/eigenvalues.csv", index=False)


# What the runs are made of.


class MeanResponse(Metric):
    """The measure of ``docs/plugins.md``."""

    full_state_update = False
    on_differences = True
    total: Tensor
    seen: Tensor

    def __init__(self, num_units: int, num_classes: int, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros(num_units, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("seen", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, responses: Tensor, targets: Tensor) -> None:
        self.total += responses.double().sum(0)
        self.seen += len(responses)

    def compute(self) -> dict[str, Tensor]:
        mean = self.total / self.seen
        return {"mean": mean.mean(), "largest": mean.max(), "mean_response": mean}


def invert(images: Tensor, labels: Tensor) -> Tensor:
    return 1 - images


def blended(model: nn.Module, *, share: float = 0.5) -> Callable[[Tensor, Tensor], Tensor]:
    """Towards random pixels."""
    return lambda images, labels: (1 - share) * images + share * torch.rand_like(images)


def small(number: int = 0) -> nn.Sequential:
    torch.manual_seed(number)
    first = (nn.Conv2d(3, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(24, 40, 3), nn.ReLU())
    return nn.Sequential(*first, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(160, 4)).eval()


def batches() -> list[tuple[Tensor, Tensor]]:
    images = torch.from_numpy(squares(24, 0)).permute(0, 3, 1, 2).float() / 255
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(len(images)) // 24
    return [(images[part], labels[part]) for part in torch.split(order, 40)]


def squares(per_class: int, number: int) -> np.ndarray:
    """(4 * per_class, 16, 16, 3) uint8: noise with a square in the colour of the class, class by class."""
    draw = np.random.default_rng(number)
    images = draw.integers(0, 120, (len(CLASSES) * per_class, 16, 16, 3))
    for place, image in enumerate(images):
        kind = place // per_class
        top, left = draw.integers(0, 8, 2)
        channels = slice(None) if CLASSES[kind] == "white" else slice(2 - kind, 3 - kind)
        image[top : top + 8, left : left + 8, channels] += 120
    return images.astype(np.uint8)


def write_squares() -> None:
    from PIL import Image

    for number, (split, per_class) in enumerate({"train": 24, "validation": 16}.items()):
        for place, image in enumerate(squares(per_class, number)):
            folder = Path("squares", split, CLASSES[place // per_class])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{place % per_class:03}.png")


def write_cifar(shared: Path) -> None:
    """The first test images of every class, some of them shifted, and the weights."""
    from PIL import Image, ImageFilter, ImageOps

    shutil.copy(shared / WEIGHTS, WEIGHTS)
    with tarfile.open(shared / ARCHIVE) as archive:
        for member in archive:
            parts = Path(member.name).parts
            if member.isfile() and parts[-3] == "test" and int(Path(parts[-1]).stem) < PER_CLASS:
                archive.extract(member, "cifar", filter="data")
    for path in sorted(Path("cifar/test").glob("*/*.jpg")):
        image, number = Image.open(path), int(path.stem)
        copies = {f"imagenetc/fog/{severity}": ImageOps.posterize(image, 6 - severity) for severity in (1, 2)}
        if number < 8:
            copies["shifted"] = image.filter(ImageFilter.GaussianBlur(1))
        if number < 12 and path.parent.name in ("cat", "dog", "ship"):
            copies["few"] = ImageOps.mirror(image)
        for folder, copy in copies.items():
            target = Path(folder, path.parent.name, path.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            copy.save(target, quality=95)


def make(folder: Path, shared: Path, only: str) -> int:
    """All groups of runs; how many of them failed."""
    if folder.exists() and any(folder.iterdir()):
        raise SystemExit(f"expected an empty or a new folder, got {folder}")
    torch.set_num_threads(1)
    failed, began = 0, time.perf_counter()
    there = all((shared / name).is_file() for name in (ARCHIVE, WEIGHTS))
    with working_folder() as work:
        write_squares()
        if there:
            write_cifar(shared)
        for name, function in GROUPS.items():
            if not fnmatch(name, only):
                continue
            if name in REAL and not there:
                print(f"{name}: skipped, needs {ARCHIVE} and {WEIGHTS} in {shared} (--shared)")
                continue
            start = time.perf_counter()
            try:
                function()
            except Exception:  # the others are wanted all the same
                traceback.print_exc()
                failed += 1
            print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
        for path in sorted((work / "out").rglob("*")):
            if path.suffix in KEPT:
                target = folder / path.relative_to(work / "out")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
    runs = len(list(folder.iterdir())) if folder.is_dir() else 0
    files, values = count(folder)
    print(f"{runs} runs, {files} files, {values:,} values, {time.perf_counter() - began:.0f} s; {failed} groups failed")
    return failed


@contextlib.contextmanager
def working_folder() -> Iterator[Path]:
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        try:
            yield Path(work)
        finally:
            os.chdir(home)


def compare(old: Path, new: Path) -> int:
    """Prints all differences; how many there are beside new fields."""
    for folder in (old, new):
        if not folder.is_dir():
            raise SystemExit(f"there is no folder {folder}")
    found = list(differences(old, new))
    for kind, where, what in found:
        print(f"{kind}: {where}: {what}")
    kinds = [kind for kind, _, _ in found]
    files, values = count(old)
    print(
        f"{files} files with {values:,} values: {kinds.count('differs')} differ, {kinds.count('gone')} are gone, "
        f"{kinds.count('new')} are new"
    )
    return len(found) - kinds.count("new")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.results", description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="where the results go")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("OLD", "NEW"), help="two folders of results")
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"), help="the shared data (%(default)s)")
    parser.add_argument("--only", default="*", metavar="GLOB", help=f"groups of runs: {', '.join(GROUPS)}")
    arguments = parser.parse_args()
    if bool(arguments.folder) == bool(arguments.compare):
        parser.error("expected DIR or --compare OLD NEW")
    if arguments.compare:
        sys.exit(compare(*arguments.compare) > 0)
    sys.exit(make(arguments.folder.absolute(), arguments.shared.absolute(), arguments.only) > 0)


if __name__ == "__main__":
    main()
