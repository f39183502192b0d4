"""A made-up report with every part filled, for tests of what is written and shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from selplug.audits.engine.results import AuditResult, Condition, Examples, LayerResult, WorstCase
from selplug.audits.report import Report

NAMES = ("clean", "fgsm:eps=8/255", "gaussian-noise:std=0.1")
ENTRIES: tuple[dict[str, Any], ...] = (
    {"name": "fgsm:eps=8/255", "kind": "attack", "options": {"eps": 8 / 255}},
    {"name": "gaussian-noise:std=0.1", "kind": "noise", "options": {"std": 0.1}},
)


def told(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What a condition tells of itself, out of an entry of the settings."""
    return {key: value for key, value in entry.items() if key != "name"}


def with_perturbations(report: Report, entries: Iterable[Mapping[str, Any]]) -> Report:
    """Other perturbations behind the conditions of the same names, in the settings too."""
    entries = [dict(entry) for entry in entries]
    by_name = {entry["name"]: told(entry) for entry in entries}
    conditions = tuple(replace(c, **by_name.get(c.name, {})) for c in report.result.conditions)
    settings = {**report.settings, "perturbations": entries}
    return replace(report, settings=settings, result=replace(report.result, conditions=conditions))


def sample_report(layers: int = 5, units: int = 32, classes: int = 10, names: tuple[str, ...] = NAMES) -> Report:
    rng = np.random.default_rng(0)
    facts = {"clean": {"kind": "clean"}} | {entry["name"]: told(entry) for entry in ENTRIES}
    conditions = tuple(
        Condition(
            name,
            name,
            0.8 - 0.1 * i,
            (0.75 - 0.1 * i, 0.85 - 0.1 * i),
            500,
            0.9 * i,
            0.031 * i,
            **facts.get(name, {"kind": "attack"}),
        )
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
            "perturbations": [dict(entry) for entry in ENTRIES],
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


CORRUPTIONS = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip


def large_report(layers: int = 200, units: int = 512, examples: int = 8, size: int = 32) -> Report:
    """90 conditions: clean, 15 corruptions at 5 severities, a sweep of an attack, one of a noise, a few more attacks.

    All measures were on, and no two numbers are alike, so that nothing gets small by repeating itself.
    """
    rng = np.random.default_rng(0)
    settings: list[dict[str, Any]] = [
        {
            "name": f"{name}@{s}",
            "kind": "corruption",
            "options": {"corruption": name, "severity": s, "strengths": "cifar"},
        }
        for name in CORRUPTIONS
        for s in range(1, 6)
    ]
    settings += [
        {
            "name": f"pgd:eps={i}/255",
            "kind": "attack",
            "options": {"eps": i / 255},
            "threat": {"norm": "Linf", "option": "eps", "eps": i / 255, "steps": 10},
        }
        for i in range(1, 7)
    ]
    settings += [{"name": name, "kind": "attack", "options": {}} for name in ("apgd", "square", "cw")]
    settings += [
        {"name": f"gaussian-noise:std={i / 20}", "kind": "noise", "options": {"std": i / 20}} for i in range(1, 6)
    ]
    names = ("clean", *(str(entry["name"]) for entry in settings))
    levels = [0.92, *rng.uniform(0.05, 0.9, len(settings))]
    facts = [{"kind": "clean"}, *map(told, settings)]
    conditions = tuple(
        Condition(
            name, name, level, (max(0, level - 0.03), min(1, level + 0.03)), 1000, rng.random(), rng.random(), **fact
        )
        for name, level, fact in zip(names, levels, facts, strict=True)
    )

    def spread(mean: float) -> float:
        return float(mean * np.exp(0.1 * rng.standard_normal()))

    def sections(depth: float, name: str, difference: bool) -> dict[str, Any]:
        found: dict[str, Any] = {
            "dimensionality": {
                "samples": 1000,
                "rank_limited": False,
                **{f"components_{share}": int(spread(units * share / 400)) for share in (90, 95, 99)},
                "participation_ratio": spread(units / 10),
                "participation_ratio_corrected": spread(units / 9),
            },
            "spectrum": {
                "exponent": spread(1.1),
                "stderr": spread(0.02),
                "r2": 1 - spread(0.02),
                "first": 11,
                "last": 500,
            },
        }
        if difference:
            return found
        found["selectivity"] = {
            "mean": spread(0.2 + 0.5 * depth),
            "mean_alive": spread(0.22 + 0.5 * depth),
            "null": spread(0.04),
            "dead_units": int(rng.integers(9)),
            "classes": 10,
        }
        found["gradients"] = {
            key: spread(0.3) for value in ("mean", "cv_samples", "cv_units") for key in (value, f"{value}_stderr")
        }
        if name != "clean":
            found["cka"] = {"debiased": rng.random()}
            found["procrustes"] = {"distance": 2 * rng.random()}
        return found

    def arrays(name: str) -> dict[tuple[str, str], np.ndarray]:
        power = np.arange(1, units + 1) ** -1.1
        found = {
            (name, "selectivity"): rng.beta(2, 5, units),
            (name, "selectivity_null"): rng.beta(2, 30, units),
            (name, "eigenvalues"): np.sort(power * np.exp(0.05 * rng.standard_normal(units)))[::-1],
        }
        if name != "clean":
            found[f"difference:{name}", "eigenvalues"] = np.sort(power * np.exp(0.05 * rng.standard_normal(units)))[
                ::-1
            ]
        return found

    results = tuple(
        LayerResult(
            name=f"stages.{index // 12}.blocks.{index % 12}.act{index % 3}",
            kind="ReLU",
            units=units,
            dead_units=int(rng.integers(9)),
            conditions={name: sections(index / layers, name, False) for name in names},
            differences={name: sections(index / layers, name, True) for name in names[1:]},
            arrays={key: array for name in names for key, array in arrays(name).items()},
        )
        for index in range(layers)
    )
    report = sample_report(layers=1)
    between = rng.random((layers, layers))
    result = AuditResult(
        conditions=conditions,
        worst_case=WorstCase(0.04, (0.03, 0.06), 1000, ("clean", *(n for n in names if "pgd" in n), "apgd")),
        layers=results,
        samples_per_class=(100,) * 10,
        examples=Examples(
            labels=tuple(range(examples)),
            images={name: rng.integers(0, 256, (examples, 3, size, size), dtype=np.uint8) for name in names},
            predictions={name: tuple(rng.integers(0, 10, examples).tolist()) for name in names},
        ),
        between_layers={"cka": {"debiased": ((between + between.T) / 2).tolist()}},
    )
    return Report(report.subject, {**report.settings, "perturbations": settings}, report.environment, result)
