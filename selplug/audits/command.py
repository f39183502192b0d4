from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import registry, specs
from ..core.clean import CLEAN
from ..run.config_file import read_config
from ..run.subject_flags import BatchSize, ChannelsLast, Device, Seed, SubjectName, declared, subject_options
from .plan import AuditPlan

if TYPE_CHECKING:
    from .request import AuditRequest

#: The defaults of all flags.
PLAN = AuditPlan("")


class AmpDtype(str, Enum):
    """Spellings of timm's ``--amp-dtype``."""

    float16 = "float16"
    bfloat16 = "bfloat16"


def audit(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(help="A timm model name (hf-hub: too), the folder of a timm training run, or FILE.py:factory."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="YAML or JSON with these flags, or a report; flags win.")
    ] = None,
    subject: SubjectName = str(PLAN.subject),
    perturb: Annotated[
        list[str] | None,
        typer.Option(help="A perturbation, repeatable: fgsm:eps=8/255; see `selplug plugins`."),
    ] = None,
    worst_case: Annotated[
        str, typer.Option(metavar="SPECS", help="More attacks on the survivors of all others alone: apgd,fab,square.")
    ] = "",
    baseline: Annotated[
        str | None, typer.Option(help="Report to relate corruption errors to (mCE), or alexnet for ImageNet's.")
    ] = PLAN.baseline,
    measure: Annotated[
        list[str] | None, typer.Option(help=f"A measure, repeatable; {' and '.join(PLAN.measure)} if empty.")
    ] = None,
    gradient_probes: Annotated[
        int | None, typer.Option(min=2, help="Directions per image of the measure gradients, even; 16 if empty.")
    ] = PLAN.gradient_probes,
    gradient_conditions: Annotated[
        list[str] | None,
        typer.Option(help="Glob over names of conditions that get gradients, repeatable: clean; all if empty."),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(help="Glob over module names, repeatable; every activation if empty."),
    ] = None,
    seed: Seed = PLAN.seed,
    batch_size: BatchSize = 128,
    device: Device = PLAN.device,
    amp: Annotated[bool, typer.Option("--amp", help="Measure in mixed precision; attacks run in float32.")] = PLAN.amp,
    amp_dtype: Annotated[
        AmpDtype | None, typer.Option(help="Lower precision of --amp: float16 on CUDA, bfloat16 elsewhere.")
    ] = None,
    channels_last: ChannelsLast = PLAN.channels_last,
    torchcompile: Annotated[
        str | None, typer.Option(metavar="[BACKEND]", help="Compile the attacked model: inductor, or a backend named.")
    ] = PLAN.torchcompile,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan, a file for --config, and the conditions; run nothing.")
    ] = False,
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
    plan = _plan(context, config)
    # What can be checked in no time is checked before torch is even imported.
    named = {specs.spec_name(spec) for spec in (*plan.perturb, *plan.worst_case)}
    for name in sorted(named - registry.plugins("selplug.perturbations").keys()):
        registry.load("selplug.perturbations", name)

    from ..report.hand_out import hand_out
    from .api import audit_request, request_of
    from .files import check_writable
    from .page.text import print_summary

    request = request_of(plan)
    if dry_run:
        _show(request)
        return
    check_writable(output)
    report = audit_request(request, progress=not quiet, settings={"command": context.obj})
    report.save(output)
    hand_out(report, print_summary, f"report: {output / 'report.html'}", json_file, quiet)


def _plan(context: typer.Context, config: Path | None) -> AuditPlan:
    """The plan of the file, if there is one, and of the flags that were given, which win."""
    in_file = read_config(config) if config else {}
    given = {
        name: value.value if isinstance(value, Enum) else value
        for name, value in context.params.items()
        if name in AuditPlan.__dataclass_fields__ and str(context.get_parameter_source(name)).endswith("COMMANDLINE")
    }
    subject = str(given.get("subject", in_file.get("subject", PLAN.subject)))
    entries: dict[str, Any] = {key.replace("-", "_"): value for key, value in in_file.items()}
    return AuditPlan.from_dict({**entries, **given, **subject_options(context)}, declared(subject).defaults())


def _show(request: AuditRequest) -> None:
    """The plan on standard output; its conditions with their options, and its digest, on the error stream."""
    import yaml
    from rich.console import Console

    from ..report.tables import Table, print_table

    typer.echo(yaml.safe_dump(request.plan.to_dict(), sort_keys=False), nl=False)
    rows = [(CLEAN, CLEAN, "")]
    for kind, chosen in ((None, request.perturbations), ("worst case", request.worst_case)):
        for one in chosen:
            options = ", ".join(f"{key}={value}" for key, value in one.options.items())
            rows.append((one.name, kind or one.kind, options))
    console = Console(stderr=True)
    print_table(Table("Conditions", ("condition", "kind", "options"), (False,) * 3, tuple(rows)), console)
    console.print(f"digest of what decides the numbers: {request.digest()}", soft_wrap=True, highlight=False)
