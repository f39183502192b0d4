"""What the options of attacks mean, where the docstrings of torchattacks 3.5.1 do not say it or say it wrongly."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping

from .options import WORDS

#: option -> meaning, for all attacks that have it.
COMMON: Mapping[str, str] = {
    "amplification": "factor of the step size.",
    "batch_max": "at most so many noisy copies at once; more are taken in parts.",
    "c": "weight of misclassification against the size of the change.",
    "decay": "momentum factor.",
    "diversity_prob": "probability of resizing and padding the images at random, in [0, 1].",
    "eot_iter": "over how many passes each gradient is averaged (expectation over transformation).",
    "eps": "largest change, in pixel units of [0, 1]: of any value (Linf), or the length of the change (L2).",
    "eps_for_division": "added to the norm of a gradient before it divides.",
    "kappa": "confidence: how far the logit of another class has to be above the label's.",
    "loss": "the loss that is maximized.",
    "max_epsilon": "largest change of any value, in pixel units of [0, 1].",
    "multi_targeted": "go for the likeliest other classes one after the other.",
    "noise_batch_size": "over how many noisy copies of an image each gradient is averaged.",
    "noise_sd": "standard deviation of gaussian noise, half the range of uniform noise, in pixel units of [0, 1].",
    "noise_type": "noise of the copies.",
    "norm": "norm of the ball around the image.",
    "overshoot": "how far to go beyond the boundary, as a share of the way to it.",
    "project_factor": "weight of the projected excess.",
    "random_start": "start at a random place of the ball instead of at the image.",
    "rho": "share of steps that have to raise the loss, else the step size is halved.",
    "target": "the class to drive images to: least-likely, random or a class number; none for any wrong class.",
    "version": "which ensemble of attacks.",
    "x_dimensions": "width of the patch that is moved, in pixels or as a share below 1; by default 2 to 10.",
    "y_dimensions": "height of the patch that is moved, in pixels or as a share below 1; by default 2 to 10.",
}
#: (attack, option) -> meaning, where it is a matter of its own.
OWN: Mapping[tuple[str, str], str] = {
    ("fab", "alpha_max"): "largest weight of the step from the given image, against that from the current one; 0 to 1.",
    ("fab", "beta"): "share of the change that is kept when a success steps back towards the image.",
    ("fab", "eta"): "overshoot: factor of each step.",
    ("gn", "std"): "standard deviation of the noise, in pixel units of [0, 1].",
    ("jitter", "scale"): "factor of the logits before the softmax, once they are divided by the largest of them.",
    ("jitter", "std"): "standard deviation of the noise on the probabilities.",
    (
        "jsma",
        "target",
    ): "the class to drive images to: least-likely, random or a class number; none for the label's next.",
    ("pixle", "pixel_mapping"): "how the new place of a pixel is chosen.",
}


def documentation(name: str, attack: type, options: list[str]) -> str:
    """The docstring of an attack: the first paragraph of its class, and every option that it has here."""
    doc = inspect.getdoc(attack) or ""
    first = re.split(r"\n\s*\n|\n\s*Distance Measure", doc, maxsplit=1)[0].strip()
    entries = [f"    {option}: {_meaning(name, option, doc)}" for option in options]
    return "\n".join([first, "", *(["Args:", *entries] if entries else [])]).strip()


def _meaning(name: str, option: str, doc: str) -> str:
    said = re.search(rf"^\s+{option} ?\([^)]*\) ?: ?(.*?)\s*(?:\(Default.*)?$", doc, re.MULTILINE)
    text = OWN.get((name, option)) or COMMON.get(option) or (said[1].strip() if said else "")
    words = WORDS.get(name, {}).get(option)
    return f"{text} One of {', '.join(words)}." if words else text
