from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .. import registry, specs


class AmpDtype(str, Enum):
    """Spellings of timm's ``--amp-dtype``."""

    float16 = "float16"
    bfloat16 = "bfloat16"


def audit(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(help="A timm model name (hf-hub: too), the folder of a timm training run, or FILE.py:factory."),
    ],
    data_dir: Annotated[Path | None, typer.Option(help="Path to the data set (root dir).")] = None,
    dataset: Annotated[str, typer.Option(help="Type and name, as in hfds/NAME; a folder or tar if empty.")] = "",
    split: Annotated[str | None, typer.Option(help="Data set split; validation if empty.")] = None,
    class_map: Annotated[str, typer.Option(help="File that maps class names to indices.")] = "",
    dataset_download: Annotated[
        bool, typer.Option("--dataset-download", help="Allow torch/ and tfds/ to load.")
    ] = False,
    input_key: Annotated[str | None, typer.Option(help="Data set key of the images.")] = None,
    target_key: Annotated[str | None, typer.Option(help="Data set key of the labels.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Weights: .pth, .pt, .th, .tar or .safetensors.")] = None,
    pretrained: Annotated[
        bool | None, typer.Option(help="timm's own weights; by default if there is no --checkpoint.")
    ] = None,
    use_ema: Annotated[bool, typer.Option("--use-ema", help="Use the EMA weights of the checkpoint.")] = False,
    num_classes: Annotated[int | None, typer.Option(min=2, help="Number of classes of the model.")] = None,
    in_chans: Annotated[int | None, typer.Option(min=1, help="Number of input channels.")] = None,
    gp: Annotated[str | None, typer.Option("--gp", help="Global pool type.")] = None,
    img_size: Annotated[int | None, typer.Option(min=1, help="Input image size; the model's own if empty.")] = None,
    input_size: Annotated[tuple[int, int, int] | None, typer.Option(help="All input dimensions (d h w).")] = None,
    mean: Annotated[list[float] | None, typer.Option(help="Mean pixel value, one or one per channel.")] = None,
    std: Annotated[list[float] | None, typer.Option(help="Std deviation, one or one per channel.")] = None,
    crop_pct: Annotated[float | None, typer.Option(help="Centre crop, as a share of the image.")] = None,
    crop_mode: Annotated[str | None, typer.Option(help="squash, border or center.")] = None,
    interpolation: Annotated[str, typer.Option(help="Resize interpolation.")] = "",
    batch_size: Annotated[int, typer.Option("-b", "--batch-size", min=1, help="Images per batch.")] = 128,
    num_samples: Annotated[
        int | None, typer.Option(min=2, help="Use this many images: a seeded, class-balanced draw.")
    ] = None,
    workers: Annotated[int, typer.Option("-j", "--workers", min=0, help="Processes that read images.")] = 2,
    device: Annotated[str | None, typer.Option(help="cuda, cuda:1, cpu ...; CUDA if there is one.")] = None,
    amp: Annotated[bool, typer.Option("--amp", help="Measure in mixed precision; attacks run in float32.")] = False,
    amp_dtype: Annotated[
        AmpDtype | None, typer.Option(help="Lower precision of --amp: float16 on CUDA, bfloat16 elsewhere.")
    ] = None,
    channels_last: Annotated[bool, typer.Option("--channels-last", help="Channels-last memory layout.")] = False,
    torchcompile: Annotated[
        str | None, typer.Option(metavar="[BACKEND]", help="Compile the attacked model: inductor, or a backend named.")
    ] = None,
    model_kwargs: Annotated[list[str] | None, typer.Option(help="key=value arguments of the model.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw, the perturbations and the null level.")] = 0,
    perturb: Annotated[
        list[str] | None,
        typer.Option(help="A perturbation, repeatable: fgsm:eps=8/255; see `selplug plugins`."),
    ] = None,
    worst_case: Annotated[
        str, typer.Option(metavar="SPECS", help="More attacks on the survivors of all others alone: apgd,fab,square.")
    ] = "",
    baseline: Annotated[
        str | None, typer.Option(help="Report to relate corruption errors to (mCE), or alexnet for ImageNet's.")
    ] = None,
    measure: Annotated[
        list[str] | None, typer.Option(help="A measure, repeatable; selectivity and dimensionality if empty.")
    ] = None,
    gradient_probes: Annotated[
        int | None, typer.Option(min=2, help="Directions per image of the measure gradients, even; 16 if empty.")
    ] = None,
    gradient_conditions: Annotated[
        list[str] | None,
        typer.Option(help="Glob over names of conditions that get gradients, repeatable: clean; all if empty."),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(help="Glob over module names, repeatable; every activation if empty."),
    ] = None,
    subject: Annotated[str, typer.Option(help="Plugin that makes model and data out of these options.")] = "timm",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be read.")] = False,
    output: Annotated[Path, typer.Option(help="Folder for report.json, units.npz and report.html.")] = Path(
        "selplug-report"
    ),
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Also write the JSON here; - for the terminal.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar and no tables.")] = False,
) -> None:
    """Measure a network clean and under attacks and noise, and write a report.

    Flags are spelled as in timm's validation script. Epsilons are in pixel units of [0, 1].
    """
    options = {
        "data_dir": str(data_dir) if data_dir else None,
        "dataset": dataset,
        "split": split,
        "class_map": class_map,
        "dataset_download": dataset_download,
        "input_key": input_key,
        "target_key": target_key,
        "checkpoint": str(checkpoint) if checkpoint else None,
        "pretrained": pretrained,
        "use_ema": use_ema,
        "num_classes": num_classes,
        "in_chans": in_chans,
        "gp": gp,
        "img_size": img_size,
        "input_size": input_size or None,
        "mean": mean or None,
        "std": std or None,
        "crop_pct": crop_pct,
        "crop_mode": crop_mode,
        "interpolation": interpolation,
        "batch_size": batch_size,
        "num_samples": num_samples,
        "workers": workers,
        "channels_last": channels_last,
        "model_kwargs": specs.keyword_arguments(model_kwargs or [], "--model-kwargs"),
        "seed": seed,
        "skip_bad": skip_bad,
    }
    # What can be checked in no time is checked before torch is even imported.
    names = {specs.spec_name(spec) for spec in [*(perturb or []), *specs.split_specs(worst_case)]}
    known = registry.plugins("selplug.perturbations")
    for name in sorted(names - known.keys()):
        registry.load("selplug.perturbations", name)
    load_subject = registry.load("selplug.subjects", subject)

    import torch

    from ..core.model.compiled import resolve_backend
    from ..report.hand_out import hand_out
    from ..report.saving import check_writable
    from ..run.device import resolve_device
    from ..specs.budgets import worst_case_attacks
    from .api import MEASURES, audit_subject
    from .facts.corruptions import load_baseline

    check_writable(output)
    related = {"baseline": load_baseline(baseline)} if baseline else {}
    perturbations = [each for spec in perturb or [] for each in specs.perturbations(spec)]
    attacks = worst_case_attacks(worst_case, perturbations)
    place = resolve_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    backend = resolve_backend(torchcompile)
    dtype = amp_dtype.value if amp_dtype else ("float16" if place and place.type == "cuda" else "bfloat16")
    report = audit_subject(
        load_subject(model, options),
        perturbations,
        measure or MEASURES,
        layers,
        device=place,
        seed=seed,
        worst_case=attacks,
        amp=getattr(torch, dtype) if amp else None,
        channels_last=channels_last,
        torchcompile=backend,
        gradient_probes=gradient_probes,
        gradient_conditions=gradient_conditions,
        progress=not quiet,
        settings={"command": context.obj, **related},
    )
    report.save(output)
    hand_out(report, output, json_file, quiet)
