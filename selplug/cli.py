"""The ``selplug`` command. Heavy imports wait until a command runs."""

from __future__ import annotations

import functools
import json
import logging
import re
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, NoReturn, ParamSpec, TypeVar

import typer

from . import __version__, registry
from .compare_cli import compare
from .core.errors import SelplugError
from .explain_cli import explain, with_shared_flags
from .similarity_cli import similarity
from .view_cli import view

P = ParamSpec("P")
R = TypeVar("R")

app = typer.Typer(
    help="What units and layers represent, beside whether a vision network survives corruptions and attacks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
#: timm's options that take any number of values, and what such a value looks like.
_MANY_VALUES = {"--mean": r"[-+]?\.?\d", "--std": r"[-+]?\.?\d", "--model-kwargs": r"\w+="}

#: timm's options that take a value or none, and what none means.
_OPTIONAL_VALUE = {"--torchcompile": "inductor"}

#: Commands whose flags are a script's.
_TRAINING = ("train", "timm-train")


class AmpDtype(str, Enum):
    """Spellings of timm's ``--amp-dtype``."""

    float16 = "float16"
    bfloat16 = "bfloat16"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; exit code 0, 2 on bad input, 130 on Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = next((argument for argument in given if not argument.startswith("-")), None)
    # What follows a script is the script's.
    app(args=given if command in _TRAINING else _one_value_each(given), obj=["selplug", *given])


def _one_value_each(arguments: Sequence[str]) -> list[str]:
    """As timm spells it, ``--mean 0.5 0.4 0.3`` -> ``--mean 0.5 --mean 0.4 --mean 0.3``, and an option without a value
    that may have one -> with its default."""
    result: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument in _OPTIONAL_VALUE and (not rest or rest[0].startswith("-")):
            result += [argument, _OPTIONAL_VALUE[argument]]
            continue
        if argument not in _MANY_VALUES or not (rest and re.match(_MANY_VALUES[argument], rest[0])):
            result.append(argument)
            continue
        while rest and re.match(_MANY_VALUES[argument], rest[0]):
            result += [argument, rest.pop(0)]
    return result


def _clear_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Bad input ends with one message and exit code 2, Ctrl-C with 130; a traceback means a defect of ours."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except SelplugError as error:
            _fail(str(error))
        except OSError as error:
            _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        except KeyboardInterrupt:
            typer.echo("stopped; no half-written report is left", err=True)
            raise typer.Exit(130) from None

    return wrapped


def _fail(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(2)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and stop.", is_eager=True, callback=_show_version)
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Say more about what is going on.")] = False,
) -> None:
    # Our own logger alone: what host libraries log is theirs to show.
    logger = logging.getLogger("selplug")
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    # A train script sets up the root logger, which shows ours as well.
    if not logger.handlers and context.invoked_subcommand not in _TRAINING:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        logger.addHandler(handler)


@app.command(no_args_is_help=True)
@_clear_errors
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
        "model_kwargs": registry.keyword_arguments(model_kwargs or [], "--model-kwargs"),
        "seed": seed,
        "skip_bad": skip_bad,
    }
    # What can be checked in no time is checked before torch is even imported.
    names = {registry.spec_name(spec) for spec in [*(perturb or []), *registry.split_specs(worst_case)]}
    known = registry.plugins("selplug.perturbations")
    for name in sorted(names - known.keys()):
        registry.load("selplug.perturbations", name)
    load_subject = registry.load("selplug.subjects", subject)

    import torch

    from .api import MEASURES, audit_subject
    from .budgets import worst_case_attacks
    from .core.compiled import resolve_backend
    from .reports import check_writable
    from .reports.corruptions import load_baseline
    from .reports.files import hand_out
    from .reports.text import print_summary
    from .running import resolve_device

    check_writable(output)
    related = {"baseline": load_baseline(baseline)} if baseline else {}
    perturbations = [each for spec in perturb or [] for each in registry.perturbations(spec)]
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
    hand_out(report, print_summary, f"report: {output / 'report.html'}", json_file, quiet)


app.command(no_args_is_help=True)(_clear_errors(with_shared_flags(audit, explain)))
app.command(no_args_is_help=True)(_clear_errors(with_shared_flags(audit, similarity, without=("checkpoint",))))
app.command(no_args_is_help=True)(_clear_errors(compare))
app.command(no_args_is_help=True)(_clear_errors(view))


@app.command()
@_clear_errors
def plugins(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List every plugin that is installed, and what a missing one needs."""
    rows = [plugin for group in registry.GROUPS for plugin in registry.plugins(group).values()]
    if as_json:
        fields = ("group", "name", "target", "distribution", "version", "extra", "missing")
        typer.echo(json.dumps([{field: getattr(row, field) for field in fields} for row in rows], indent=1))
        return
    width = max(len(row.name) for row in rows)
    for group, what in registry.GROUPS.items():
        found = [row for row in rows if row.group == group]
        if not found:
            continue
        typer.echo(f"{group}: {what}")
        for row in found:
            state = f"  needs {', '.join(row.missing)}: {row.install_hint}" if row.missing else ""
            typer.echo(f"  {row.name:{width}}  {row.distribution} {row.version}{state}")


@app.command()
@_clear_errors
def demo(
    name: Annotated[str, typer.Argument(help="Which demo.")] = "digits",
    output: Annotated[Path, typer.Option(help="Folder for the reports.")] = Path("selplug-demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of weights, batches and perturbations.")] = 0,
) -> None:
    """Train three small networks at alpha < 0, 0 and > 0 on real digits, audit and compare them."""
    run = registry.load("selplug.demos", name)
    run(output, seed)


@app.command(add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_clear_errors
def train(
    arguments: Annotated[list[str] | None, typer.Argument(help="Flags as of timm's train script.")] = None,
) -> None:
    """Train on timm's parts, with training hooks: a short command for those without timm's train script."""
    run = registry.load("selplug.launchers", "timm")
    run("train", arguments or ["--help"])


@app.command(
    "timm-train",
    no_args_is_help=True,
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
)
@_clear_errors
def timm_train(
    script: Annotated[str, typer.Argument(help="timm's train.py, of timm 1.0.27 or later, edited or not.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(help="Those of the script, and the flags of training hooks.")
    ] = None,
) -> None:
    """Run timm's own train script with the flags of training hooks added to its parser.

    `selplug timm-train SCRIPT --help` shows them all. Ends with the exit code of the script.
    """
    run = registry.load("selplug.launchers", "timm")
    run(script, arguments or [])


if __name__ == "__main__":
    main()
