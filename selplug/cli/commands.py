"""The ``selplug`` command. Heavy imports happen only when a command runs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from .. import registry
from .._version import __version__
from ..audits.command import audit
from ..comparisons.command import compare
from ..explanations.command import explain
from ..run.subject_flags import SubjectCommand
from ..similarities.command import similarity
from .arguments import TRAINING, Commands
from .errors import clear_errors
from .plugins import plugins
from .view import view

app = typer.Typer(
    cls=Commands,
    help="Class selectivity and dimensionality of vision networks, and their robustness to corruptions and attacks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; exit code 0, 2 on bad input, 130 on Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    app(args=given, obj=["selplug", *given])


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
    verbose: Annotated[bool, typer.Option("--verbose", help="Show more messages.")] = False,
) -> None:
    # Only our own logger: host libraries configure theirs.
    logger = logging.getLogger("selplug")
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    # A train script sets up the root logger, which also shows our messages.
    if not logger.handlers and context.invoked_subcommand not in TRAINING:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        logger.addHandler(handler)


for command in (audit, explain, similarity):
    app.command(cls=SubjectCommand, no_args_is_help=True)(clear_errors(command))
app.command(no_args_is_help=True)(clear_errors(compare))
app.command(no_args_is_help=True)(clear_errors(view))


app.command()(clear_errors(plugins))


@app.command()
@clear_errors
def demo(
    name: Annotated[str, typer.Argument(help="Name of the demo.")] = "digits",
    output: Annotated[Path, typer.Option(help="Folder for the reports.")] = Path("selplug-demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, batches and perturbations.")] = 0,
) -> None:
    """Train three small networks at alpha < 0, 0 and > 0 on real digits, audit and compare them."""
    run = registry.load("selplug.demos", name)
    run(output, seed)


@app.command(add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@clear_errors
def train(
    arguments: Annotated[list[str] | None, typer.Argument(help="Flags of timm's train script.")] = None,
) -> None:
    """Train with timm and training hooks: a short command that does not need timm's train script."""
    run = registry.load("selplug.launchers", "timm")
    run("train", arguments or ["--help"])


@app.command(
    "timm-train",
    no_args_is_help=True,
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
)
@clear_errors
def timm_train(
    script: Annotated[str, typer.Argument(help="timm's train.py, of timm 1.0.27 or later, edited or not.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="Flags of the script and of training hooks.")] = None,
) -> None:
    """Run timm's own train script with the flags of training hooks added to its parser.

    `selplug timm-train SCRIPT --help` shows all flags. The exit code is that of the script.
    """
    run = registry.load("selplug.launchers", "timm")
    run(Path(script), arguments or [])  # a path, since the text "train" stands for our own script


if __name__ == "__main__":
    main()
