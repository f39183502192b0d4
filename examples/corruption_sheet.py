"""A contact sheet of every corruption at every severity, as in docs/corruptions.jpg.

Usage: python examples/corruption_sheet.py OUTPUT.jpg [IMAGE]

Without an image it takes scikit-learn's photograph of a flower (Creative Commons BY, see its datasets/images).
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_image

from selplug import specs
from selplug.core.perturb import run_perturbation

SHOWN, LABEL = 112, 130


def load(path: str | None) -> Image.Image:
    if path:
        return Image.open(path).convert("RGB")
    return Image.fromarray(load_sample_image("flower.jpg"))


def main() -> None:
    image = load(sys.argv[2] if len(sys.argv) > 2 else None)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    pixels = np.array(image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC))
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    perturbations = [p for group in ("corruptions", "corruptions-extra") for p in specs.perturbations(group)]
    rows = len(perturbations) // 5
    sheet = Image.new("RGB", (LABEL + 5 * SHOWN, rows * SHOWN), "white")
    pen = ImageDraw.Draw(sheet)
    for number, perturbation in enumerate(perturbations):
        row, column = divmod(number, 5)
        model = torch.nn.Identity()
        perturb = perturbation.factory(model, **perturbation.options)
        changed = run_perturbation(model, perturb, batch, torch.zeros(1)).images[0]
        shown = Image.fromarray((changed.permute(1, 2, 0) * 255).round().byte().numpy())
        sheet.paste(shown.resize((SHOWN, SHOWN), Image.Resampling.LANCZOS), (LABEL + column * SHOWN, row * SHOWN))
        if column == 0:
            pen.text((6, row * SHOWN + SHOWN // 2 - 5), perturbation.name.partition("@")[0], fill="black")
    sheet.save(sys.argv[1], quality=80, optimize=True)


if __name__ == "__main__":
    main()
