"""Our corruptions over those of the package imagecorruptions, on the same images of 224 pixels, at five severities.

That package runs in an environment of its own (``make reference-corruptions``); without it nothing is compared.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np
import torch

from selplug import specs
from selplug.core.types import Samples

from .harness import Row

PLACE = Path.home() / ".cache/selplug/corruptions"
IMAGES, ROUNDS = 4, 3
#: Prints {corruption: mean milliseconds per image over severities}; the median of rounds, after one call to warm up.
THEIRS = """
import json, statistics, sys, time
import numpy as np
from PIL import Image
from imagecorruptions import corruptions
images = [Image.fromarray(image) for image in np.load(sys.argv[1])[: int(sys.argv[3])]]
result = {}
for name in sys.argv[4:]:
    corrupt, total = getattr(corruptions, name), 0.0
    for severity in range(1, 6):
        corrupt(images[0], severity)
        rounds = []
        for _ in range(int(sys.argv[2])):
            start = time.perf_counter()
            for image in images:
                np.uint8(corrupt(image, severity))
            rounds.append(time.perf_counter() - start)
        total += statistics.median(rounds)
    result[name] = 1000 * total / len(images) / 5
print(json.dumps(result))
"""


def rows() -> list[Row]:
    python = PLACE / "venv/bin/python"
    if not python.exists():
        print("corruptions: no reference to compare with; make reference-corruptions makes it")
        return []
    names = [
        p.name[:-2]
        for group in ("corruptions", "corruptions-extra")
        for p in specs.perturbations(f"{group}:severities=1")
    ]
    command = [str(python), "-W", "ignore", "-c", THEIRS, str(PLACE / "images.npy"), str(ROUNDS), str(IMAGES), *names]
    theirs = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603
    ours = _ours(names)
    shown = {
        "all 19": names,
        "without glass_blur": [name for name in names if name != "glass_blur"],
    }
    result = []
    for what, chosen in shown.items():
        mine, base = (statistics.mean(times[name] for name in chosen) for times in (ours, theirs))
        ratios = sorted((ours[name] / theirs[name], name) for name in chosen)
        detail = (
            f"{mine:.1f} and {base:.1f} ms per image; median ratio {statistics.median(r for r, _ in ratios):.2f}; "
            f"largest {', '.join(f'{name} {ratio:.2f}' for ratio, name in ratios[-4:])}"
        )
        result.append(Row(f"corruptions, selplug / imagecorruptions: {what}, 224 px, cpu", mine / base, 1 / 3, detail))
    return result


def _ours(names: list[str]) -> dict[str, float]:
    pixels = torch.from_numpy(np.load(PLACE / "images.npy", mmap_mode="r")[: 4 * IMAGES].copy())
    images, samples = pixels.permute(0, 3, 1, 2).float() / 255, Samples(range(len(pixels)), 0)
    result = {}
    for name in names:
        total = 0.0
        for perturbation in specs.perturbations(name):
            perturb = perturbation.factory(torch.nn.Identity(), **perturbation.options)
            labels = torch.zeros(len(images), dtype=torch.long)
            perturb(images[:1], labels[:1], samples)
            rounds = []
            for _ in range(ROUNDS):
                start = time.perf_counter()
                perturb(images, labels, samples)
                rounds.append(time.perf_counter() - start)
            total += statistics.median(rounds)
        result[name] = 1000 * total / len(images) / 5
    return result
