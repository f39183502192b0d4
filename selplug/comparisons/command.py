"""The command ``selplug compare``. Heavy imports wait until it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    context: typer.Context,
    reports: Annotated[
        list[str],
        typer.Argument(metavar="[LABEL=]REPORT...", help="Folders of audits or report.json files; two or more."),
    ],
    robust: Annotated[
        list[str] | None,
        typer.Option(help="Glob over names or labels of robust networks, if reports do not tell; repeatable."),
    ] = None,
    leave_out: Annotated[
        bool, typer.Option("--leave-out", help="Leave out, and name, reports that do not fit, instead of stopping.")
    ] = False,
    protocol: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML, JSON or TOML that fixes claims, alphas and conditions beforehand."),
    ] = None,
    train_set: Annotated[
        list[str] | None,
        typer.Option(metavar="REPORT", help="Audit of a network on training images, for overfitting; repeatable."),
    ] = None,
    resamples: Annotated[
        int, typer.Option(min=100, help="Permutations drawn where there are too many to try all.")
    ] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Of these permutations.")] = 0,
    output: Annotated[Path, typer.Option(help="Folder for compare.html and its files.")] = Path("selplug-comparison"),
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Also write the JSON here; - for standard output.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No tables.")] = False,
) -> None:
    """Compare audited networks: groups of seeds, linking plots, and the claims of the papers, on one page.

    The training runs behind the reports say which networks differ in the seed alone. A LABEL names a network, and given
    to several a group of seeds.
    """
    from ..report.hand_out import hand_out
    from ..report.saving import check_writable
    from .api import compare_labelled

    check_writable(output)
    pairs = [_labelled(report) for report in reports]
    comparison = compare_labelled(
        pairs,
        robust=robust or [],
        leave_out=leave_out,
        resamples=resamples,
        seed=seed,
        train_set=train_set or [],
        protocol=protocol,
        settings={"command": context.obj},
    )
    comparison.save(output)
    hand_out(comparison, output, json_file, quiet)


def _labelled(report: str) -> tuple[str, str]:
    """``LABEL=REPORT`` -> (label, report); a path that is there may hold a ``=`` of its own."""
    label, equals, path = report.partition("=")
    return (label, path) if equals and not Path(report).exists() else ("", report)
