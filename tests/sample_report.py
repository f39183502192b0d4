"""A made-up report with every part filled, for tests of what is written and shown."""

from __future__ import annotations

import numpy as np

from selplug.core.types import AuditResult, Condition, Examples, LayerResult, WorstCase
from selplug.reports.report import Report

NAMES = ("clean", "fgsm:eps=8/255", "gaussian-noise:std=0.1")


def sample_report(layers: int = 5, units: int = 32, classes: int = 10, names: tuple[str, ...] = NAMES) -> Report:
    rng = np.random.default_rng(0)
    conditions = tuple(
        Condition(name, name, 0.8 - 0.1 * i, (0.75 - 0.1 * i, 0.85 - 0.1 * i), 500, 0.9 * i, 0.031 * i)
        for i, name in enumerate(names)
    )

    def dimensionality(i: int) -> dict[str, dict[str, float | int | bool | None]]:
        return {
            "dimensionality": {
                "samples": 500,
                "rank_limited": False,
                "components_90": 5 + i,
                "components_95": 8 + i,
                "components_99": 14 + i,
                "components_90_fraction": (5 + i) / units,
                "components_95_fraction": (8 + i) / units,
                "components_99_fraction": (14 + i) / units,
                "participation_ratio": 4.2 + i,
                "participation_ratio_fraction": (4.2 + i) / units,
                "participation_ratio_corrected": 4.3 + i if i else None,
            },
            "spectrum": {"exponent": 1.1, "stderr": 0.02, "r2": 0.98, "first": 1, "last": units},
        }

    results = []
    for index in range(layers):
        arrays: dict[tuple[str, str], np.ndarray] = {}
        for name in names:
            arrays[name, "selectivity"] = rng.random(units)
            arrays[name, "eigenvalues"] = np.arange(1, units + 1) ** -1.1
            if name != "clean":
                arrays["difference:" + name, "eigenvalues"] = np.arange(1, units + 1) ** -0.9
        results.append(
            LayerResult(
                name=f"layer{index}.act",
                kind="ReLU",
                units=units,
                dead_units=index,
                conditions={
                    name: {
                        "selectivity": {
                            "mean": 0.2 + 0.05 * index,
                            "mean_alive": 0.22 + 0.05 * index,
                            "null": 0.04,
                            "dead_units": index,
                            "classes": classes,
                        },
                        **dimensionality(index),
                    }
                    for name in names
                },
                differences={name: dimensionality(index + 1) for name in names if name != "clean"},
                rectified=index == 1,
                arrays=arrays,
            )
        )
    examples = Examples(
        labels=(0, 1, 2, 3),
        images={name: rng.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8) for name in names},
        predictions=dict.fromkeys(names, (0, 1, 2, 7)),
    )
    result = AuditResult(
        conditions=conditions,
        worst_case=WorstCase(0.61, (0.57, 0.65), 500, ("clean", "fgsm:eps=8/255")),
        layers=tuple(results),
        samples_per_class=(500 // classes,) * classes,
        examples=examples,
    )
    return Report(
        subject={
            "model": "resnet20_cifar",
            "parameters": 272474,
            "num_classes": classes,
            "class_names": [f"class {index}" for index in range(classes)],
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "data": {"source": "cifar/test", "samples": 500, "samples_per_class": [50] * classes, "skipped": []},
        },
        settings={
            "seed": 0,
            "batch_size": 128,
            "perturbations": [
                {"name": "fgsm:eps=8/255", "kind": "attack", "options": {"eps": 8 / 255}},
                {"name": "gaussian-noise:std=0.1", "kind": "noise", "options": {"std": 0.1}},
            ],
            "measures": ["selectivity", "dimensionality"],
            "layers": None,
            "rectified_layers": ["layer1.act"],
        },
        environment={
            "selplug": "0.1.0",
            "torch": "2.15.0",
            "python": "3.11.7",
            "device": "cpu",
            "started": "2026-01-01T00:00:00+00:00",
            "seconds": 12.5,
        },
        result=result,
    )
