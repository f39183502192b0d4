"""Made-up reports of networks trained in different ways, for tests of what compares them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from sample_report import told

from selplug.audits.engine.results import AuditResult, Condition, LayerResult, WorstCase
from selplug.audits.report import Report

STDS, EPS = (0.05, 0.1, 0.15, 0.2), (0.5, 1, 2, 4)
PERTURBATIONS: tuple[dict[str, Any], ...] = (
    *(
        {"name": f"{c}@{s}", "kind": "corruption", "options": {"corruption": c, "severity": s, "strengths": "cifar"}}
        for c in ("fog", "snow")
        for s in (1, 2)
    ),
    *(
        {
            "name": f"fgsm:eps={e}/255",
            "kind": "attack",
            "options": {"eps": e / 255},
            "threat": {"norm": "Linf", "eps": e / 255, "option": "eps", "steps": 1},
        }
        for e in EPS
    ),
    *({"name": f"gaussian-noise:std={s}", "kind": "noise", "options": {"std": s}} for s in STDS),
)
FACTS = {"clean": {"kind": "clean"}} | {entry["name"]: told(entry) for entry in PERTURBATIONS}
KINDS = {"clean": "clean"} | {entry["name"]: entry["kind"] for entry in PERTURBATIONS}
FLAGS: dict[str, Any] = {"model": "resnet20_cifar", "epochs": 3, "lr": 0.1, "data_dir": "tmp/cifar"}


def trained_report(
    *,
    alpha: float = 0.0,
    seed: int = 0,
    adversarial: str | None = None,
    told: bool = True,
    flags: Mapping[str, Any] | None = None,
    epoch: int | None = 2,
    digest: str | None = "d" * 64,
    layers: int = 6,
    units: int = 8,
    selectivity: float = 0.3,
    accuracy: Mapping[str, float] | None = None,
    dimensions: Mapping[str, float] | None = None,
    differences: Mapping[str, float] | None = None,
    components: float = 0.5,
    exponents: Mapping[str, float] | None = None,
    variation: float = 0.5,
    closeness: float = 0.8,
    between: float = 0.5,
    score: float = 0.3,
) -> Report:
    """A report whose numbers are those given.

    Args:
        told: whether the report tells how the network was trained.
        accuracy, dimensions, differences, exponents: by condition or by kind of condition; dimensions of differences
            are by default those of responses, and components come on top of dimensions.
    """

    def of(table: Mapping[str, float] | None, name: str, default: float) -> float:
        return (table or {}).get(name, (table or {}).get(KINDS[name], default))

    def dimensionality(value: float) -> dict[str, float]:
        return {
            "participation_ratio": value - 0.5,
            "participation_ratio_corrected": value,
            "components_90": value + components,
            "components_95": value + components + 1,
        }

    conditions = tuple(
        Condition(name, name, of(accuracy, name, 0.5), (0.1, 0.9), 500, 0.1, 0.01, **FACTS[name]) for name in KINDS
    )
    results = tuple(
        LayerResult(
            f"act{index}",
            "ReLU",
            units,
            0,
            {
                name: {
                    "selectivity": {"mean": selectivity, "mean_alive": selectivity, "null": 0.04},
                    "dimensionality": dimensionality(of(dimensions, name, 4.0)),
                    "spectrum": {"exponent": of(exponents, name, 1.0), "stderr": 0.01},
                    "gradients": {"mean": 1.0, "cv_samples": variation, "cv_units": variation},
                    **({"cka": {"debiased": closeness}} if name != "clean" else {}),
                }
                for name in KINDS
            },
            {
                name: {"dimensionality": dimensionality(of(differences or dimensions, name, 4.0))}
                for name in KINDS
                if name != "clean"
            },
        )
        for index in range(layers)
    )
    similarity = np.full((layers, layers), between) + (1 - between) * np.eye(layers)
    result = AuditResult(
        conditions=conditions,
        worst_case=WorstCase(0.1, (0.0, 0.2), 500, ("clean", "fgsm:eps=4/255")),
        layers=results,
        samples_per_class=(50,) * 10,
        between_layers={
            "cka": {"debiased": similarity.tolist(), "block_structure": {"score": score, "blocks": [[0, 2]]}}
        },
        samples_digest=digest,
    )
    arguments = FLAGS | {"selectivity_alpha": alpha, "seed": seed, "adversarial": adversarial} | dict(flags or {})
    name = f"alpha{alpha:g}{'-adv' if adversarial else ''}-s{seed}"
    return Report(
        subject={
            "model": "resnet20_cifar",
            "num_classes": 10,
            "input_size": [3, 32, 32],
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "checkpoint": {"file": f"{name}/last.pth.tar", "sha256": None, "epoch": epoch},
            # As an audit tells them: flags that are 0, false or empty are not there.
            "training_run": {"file": f"{name}/args.yaml", "arguments": {k: v for k, v in arguments.items() if v}}
            if told
            else None,
            "data": {
                "source": "cifar/test",
                "samples": 500,
                "total": 10000,
                "samples_per_class": [50] * 10,
                "draw_seed": 0,
                **({"samples_digest": digest} if digest else {}),
            },
        },
        settings={
            "seed": 0,
            "batch_size": 128,
            "perturbations": [dict(entry) for entry in PERTURBATIONS],
            "measures": ["selectivity", "dimensionality", "gradients", "cka"],
            "layers": None,
        },
        environment={"selplug": "0.1.0", "torch": "2.15.0", "device": "cpu"},
        result=result,
    )


def with_settings(report: Report, **changes: Any) -> Report:
    return replace(report, settings={**report.settings, **changes})


def with_subject(report: Report, **changes: Any) -> Report:
    return replace(report, subject={**report.subject, **changes})


def family(seeds: int = 3) -> dict[str, Report]:
    """Nine networks at three alphas that bear out the claims of arXiv 2010.07693, and three robust ones."""
    rng = np.random.default_rng(0)
    found = {}
    for place, alpha in enumerate((-1.0, 0.0, 1.0)):
        for seed in range(seeds):
            noise = float(rng.uniform(-0.01, 0.01))
            found[f"alpha{alpha:+g}-s{seed}"] = trained_report(
                alpha=alpha,
                seed=seed,
                selectivity=0.2 + 0.1 * place + noise,
                accuracy={"clean": 0.8 + noise, "corruption": 0.6 - 0.1 * place + noise, "attack": 0.2 + 0.1 * place}
                | {f"fgsm:eps={e}/255": 0.45 + 0.1 * place - 0.1 * e for e in EPS},
                dimensions={"clean": 4 - place + noise, "attack": 5 - place, "corruption": 4.2 - place, "noise": 4.0},
                variation=0.4 + 0.1 * place + noise,
                exponents={
                    "clean": 1.5 + noise,
                    **{f"gaussian-noise:std={s}": 1.5 - s for s in STDS},
                    **{f"fgsm:eps={e}/255": 1.2 + 0.2 * (e > 1) for e in EPS},
                },
                score=0.3 + noise,
            )
    for seed in range(seeds):
        found[f"adv-s{seed}"] = trained_report(
            seed=seed, adversarial="ffgsm:eps=4/255", closeness=0.95, between=0.8, score=0.1 + 0.01 * seed
        )
    return found


def steps(alphas: int = 7, seeds: int = 3, sd: float = 0.3, seed: int = 0, **given: Any) -> dict[str, Report]:
    """Networks that bear out every claim on standard networks, and three robust ones; values move by one from alpha to
    alpha and seeds vary around them by ``sd``. ``given`` replaces what is given to :func:`trained_report`."""
    rng = np.random.default_rng(seed)
    found = {}
    for place in range(alphas):
        for number in range(seeds):
            move = [place + sd * float(value) for value in rng.standard_normal(6)]
            noise = 0.002 * float(rng.standard_normal())
            accuracy = {
                "clean": 0.8 + noise,
                "corruption": 0.6 - 0.02 * move[1],
                **{f"fgsm:eps={e}/255": 0.45 + 0.02 * move[2] - 0.1 * e for e in EPS},
                **{f"gaussian-noise:std={s}": 0.8 - 2 * s for s in STDS},
            }
            exponents = {
                "clean": 1.5 + noise,
                **{f"gaussian-noise:std={s}": 1.5 - 2 * s for s in STDS},
                **{f"fgsm:eps={e}/255": 1.3 + 0.3 * (e > 1) for e in EPS},
            }
            clean = 7 - 0.5 * move[3]
            dimensions = {"clean": clean, "attack": clean + 2 + noise, "corruption": clean + 1, "noise": clean}
            found[f"alpha{place}-s{number}"] = trained_report(
                **{
                    "alpha": place - alphas // 2,
                    "seed": number,
                    "selectivity": 0.2 + 0.05 * move[0],
                    "accuracy": accuracy,
                    "dimensions": dimensions,
                    "variation": 0.4 + 0.05 * move[4],
                    "exponents": exponents,
                    "score": 0.3 + noise,
                    "closeness": 0.8 + noise,
                    "between": 0.5 + noise,
                }
                | given
            )
    for number in range(seeds):
        level = 0.01 * float(rng.standard_normal())
        found[f"adv-s{number}"] = trained_report(
            seed=number, adversarial="ffgsm:eps=4/255", closeness=0.95 + level, between=0.8 + level, score=0.1 + level
        )
    return found
