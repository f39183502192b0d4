"""The command ``selplug similarity``. Heavy imports wait until it runs."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import InputError, SelplugError
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

_MODEL = "A timm model name (hf-hub: too), the folder or a checkpoint of a timm training run, or FILE.py:factory."


class Measure(str, Enum):
    """The measures between two networks."""

    cka = "cka"
    procrustes = "procrustes"


class Estimator(str, Enum):
    """The estimators of linear CKA."""

    debiased = "debiased"
    biased = "biased"


def similarity(
    context: typer.Context,
    model_a: Annotated[str, typer.Argument(help=_MODEL)],
    model_b: Annotated[str, typer.Argument(help="The same for the other model.")],
    checkpoint_a: Annotated[Path | None, typer.Option(help="Weights of MODEL_A.")] = None,
    checkpoint_b: Annotated[Path | None, typer.Option(help="Weights of MODEL_B.")] = None,
    measure: Annotated[list[Measure] | None, typer.Option(help="A measure, repeatable; cka if empty.")] = None,
    estimator: Annotated[Estimator, typer.Option(help="Estimator of CKA.")] = Estimator.debiased,
    flatten: Annotated[
        bool, typer.Option("--flatten", help="Compare whole maps instead of their means over positions.")
    ] = False,
    layers: Annotated[
        list[str] | None, typer.Option(help="Glob over module names, repeatable; every activation if empty.")
    ] = None,
    layers_b: Annotated[list[str] | None, typer.Option(help="The same for MODEL_B, if it differs.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for similarity.html and its files.")] = Path(
        "selplug-similarity"
    ),
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Also write the JSON here; - for standard output.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar and no tables.")] = False,
    subject: SubjectName = DEFAULT,
    device: Device = None,
    batch_size: BatchSize = 128,
    channels_last: ChannelsLast = False,
    seed: Seed = 0,
) -> None:
    """Compare two networks, or two checkpoints of one, layer by layer on the same images.

    Flags of model and data are those of audit, for both models.
    """
    import torch

    from ..core.measures.alignment import MIN_SAMPLES
    from ..core.measures.similarity import BLOCK
    from ..report.hand_out import hand_out
    from ..report.saving import check_writable
    from ..run.device import resolve_device
    from .api import similarity_of_subjects

    check_writable(output)
    place = resolve_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    options = subject_options(context) | {"batch_size": batch_size, "seed": seed, "channels_last": channels_last}
    subjects = []
    for key, model, checkpoint in (("a", model_a, checkpoint_a), ("b", model_b, checkpoint_b)):
        try:
            subjects.append(
                load_subject(subject, model, options | {"checkpoint": str(checkpoint) if checkpoint else None})
            )
        except SelplugError as error:
            raise InputError(f"{model} ({key}): {error}") from error
    whole_maps = {"block": max(MIN_SAMPLES, min(batch_size, BLOCK))} if flatten else {}
    report = similarity_of_subjects(
        subjects[0],
        subjects[1],
        layers,
        layers_b,
        measures=[one.value for one in measure or [Measure.cka]],
        estimator=estimator.value,
        flatten=flatten,
        **whole_maps,
        device=place,
        channels_last=channels_last,
        progress=not quiet,
        settings={"seed": seed, "command": context.obj},
    )
    report.save(output)
    hand_out(report, output, json_file, quiet)
