"""Made-up results of the other kinds, for tests of what is written, shown and read."""

from __future__ import annotations

import numpy as np

from selplug.core.measures.alignment import BlockStructure
from selplug.explanations.explanation import Explanation
from selplug.explanations.run import ADVERSARIAL, CLEAN, ExplainedImage, Map
from selplug.similarities.report import SimilarityReport
from selplug.similarities.run import ComparedLayer, SimilarityResult


def sample_similarity(name: str = "layer") -> SimilarityReport:
    """Two networks of 5 and 3 layers by CKA and Procrustes, some numbers of them not defined."""
    rng = np.random.default_rng(0)
    sizes = {"a": 5, "b": 3}
    layers = {key: tuple(ComparedLayer(f"{name}{i}", "ReLU", 3 + i) for i in range(n)) for key, n in sizes.items()}
    between = rng.random((5, 3))
    between[2] = np.nan
    maps = {
        ("cka", "a", "b"): between,
        ("cka", "a", "a"): np.eye(5),
        ("cka", "b", "b"): np.full((3, 3), np.nan),
        ("procrustes", "a", "b"): 2 * rng.random((5, 3)),
    }
    blocks = {"a": BlockStructure(0.5, ((1, 3),)), "b": BlockStructure(float("nan"), ())}
    settings = {"estimator": "debiased", "responses": "mean over positions", "measures": ["cka", "procrustes"]}
    subjects = {"a": {"model": f"net {name}"}, "b": {"model": "net", "parameters": 7}}
    return SimilarityReport(subjects, settings, {"torch": "2"}, SimilarityResult(layers, maps, blocks, 40))


def sample_explanation(name: str = "cat", classes: int = 8, size: tuple[int, int] = (8, 12)) -> Explanation:
    """Two images with two maps each; of one the class is not known, and one map is zero."""
    rng = np.random.default_rng(0)

    def image(place: int, label: int | None) -> ExplainedImage:
        clean = rng.random((3, *size)).astype(np.float32)
        first = {c: rng.standard_normal(size) for c in (CLEAN, ADVERSARIAL)}
        second = {CLEAN: rng.standard_normal((4, 6)), ADVERSARIAL: np.zeros((4, 6))}
        return ExplainedImage(
            name=f"{name}/{place}.png",
            label=label,
            target=1,
            attacked=0,
            images={CLEAN: clean, ADVERSARIAL: (clean + np.float32(2 / 255)).clip(0, 1)},
            probabilities={c: rng.dirichlet(np.ones(classes)) for c in (CLEAN, ADVERSARIAL)},
            l2=0.1,
            linf=2 / 255,
            maps=(Map("saliency", None, first), Map("a|b", f"{name}.1", second)),
        )

    subject = {"model": f"net {name}", "num_classes": classes, "class_names": [f"{name} {k}" for k in range(classes)]}
    settings = {"perturbation": "pgd:eps=2/255", "target": "predicted", "seed": 0, "methods": ["saliency", "a|b"]}
    return Explanation(subject, settings, {"selplug": "0"}, (image(1, 0), image(2, None)))
