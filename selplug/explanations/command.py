"""The command ``selplug explain``. Heavy imports wait until it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import registry, specs
from ..core.errors import InputError
from ..run.subject_flags import (
    DEFAULT,
    BatchSize,
    ChannelsLast,
    Device,
    Seed,
    SubjectName,
    load_subject,
    subject_options,
)
from .defaults import MAX_IMAGES, PERTURBATION


def explain(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(help="A timm model name (hf-hub: too), the folder of a timm training run, or FILE.py:factory."),
    ],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files, or folders of them.")],
    method: Annotated[
        list[str] | None, typer.Option(help="A method, repeatable: saliency:abs=false; see `selplug plugins`.")
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", "--layers", help="Glob over module names, repeatable; the last few if empty."),
    ] = None,
    target: Annotated[str, typer.Option(help="Class to explain: name, number, predicted, or true.")] = "predicted",
    perturb: Annotated[str, typer.Option(help="Perturbation for the adversarial image.")] = PERTURBATION,
    max_images: Annotated[int, typer.Option(min=1, help="Use at most this many images, evenly spaced.")] = MAX_IMAGES,
    output: Annotated[Path, typer.Option(help="Folder for explain.html and its files.")] = Path("selplug-report"),
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Also write the JSON here; - for standard output.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar and no table.")] = False,
    subject: SubjectName = DEFAULT,
    device: Device = None,
    batch_size: BatchSize = 128,
    channels_last: ChannelsLast = False,
    seed: Seed = 0,
) -> None:
    """Show what a network looks at: attribution maps of images, clean and adversarial, layer by layer.

    Flags of model and data are those of audit. The data has the class names, and methods that must be fitted read it.
    """
    # Quick checks run before torch is imported.
    for group, given in (("selplug.attributions", method or []), ("selplug.perturbations", [perturb])):
        for name in sorted({specs.spec_name(spec) for spec in given} - registry.plugins(group).keys()):
            registry.load(group, name)
    if not method:
        known = ", ".join(registry.plugins("selplug.attributions"))
        raise InputError(f"give one or more --method NAME; there are: {known or 'none'}")

    import torch

    from ..report.hand_out import hand_out
    from ..report.saving import check_writable
    from ..run.device import resolve_device
    from .api import explain_subject, find_images
    from .explanation import check_fits

    files, found = find_images(images, max_images)
    check_writable(output)
    place = resolve_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    options = subject_options(context) | {"batch_size": batch_size, "seed": seed, "channels_last": channels_last}
    explained = load_subject(subject, model, options | {"optional_data": True})
    check_fits(output, {"model": explained.name, **explained.info})
    if not quiet:
        typer.echo(f"images: {len(files)} of {found}; target: {target}; adversarial images by {perturb}", err=True)
    explanation = explain_subject(
        explained,
        files,
        method,
        perturb,
        layers=layer,
        target=target,
        device=place,
        seed=seed,
        channels_last=channels_last,
        progress=not quiet,
        settings={"images_found": found, "command": context.obj},
    )
    explanation.save(output)
    hand_out(explanation, output, json_file, quiet)
