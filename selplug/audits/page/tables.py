"""The tables of terminal, notebook and page, with cells of plain text."""

from __future__ import annotations

from collections.abc import Callable

from ...report.style import interval, percent, printable, short_number
from ...report.tables import Table
from ..engine.results import LayerResult, TargetSuccess
from ..record import AuditRecord


def conditions_table(report: AuditRecord) -> Table:
    """Accuracy per condition, the measured sizes of the perturbations, and the worst case."""
    aimed = any(c.targeted is not None for c in report.result.conditions)
    rows = [
        (
            printable(c.name),
            percent(c.accuracy),
            interval(c.accuracy_ci95),
            str(c.samples),
            short_number(c.l2_mean, spec="#.3g"),
            short_number(c.linf_max, spec="#.3g"),
            *([_hits(c.targeted)] if aimed else []),
        )
        for c in report.result.conditions
    ]
    worst = report.result.worst_case
    if worst is not None:
        name = f"worst case of {len(worst.conditions)}"
        sizes = ("–",) * (3 if aimed else 2)
        rows.append((name, percent(worst.accuracy), interval(worst.accuracy_ci95), str(worst.samples), *sizes))
    columns = ("condition", "accuracy", "95 % interval", "samples", "mean L2", "max Linf", "target hit")
    return Table(
        title="Accuracy, and measured size of the perturbations (pixels in [0, 1])",
        columns=columns if aimed else columns[:-1],
        numeric=(False, *(True,) * (6 if aimed else 5)),
        rows=tuple(rows),
    )


def _hits(targeted: TargetSuccess | None) -> str:
    if targeted is None or targeted.success is None:
        return "–"
    return f"{percent(targeted.success)} of {targeted.samples}"


def survivors_table(report: AuditRecord) -> Table | None:
    """The attacks that ran only on survivors, in order; None without such attacks."""
    worst = report.result.worst_case
    if worst is None or not worst.steps:
        return None
    return Table(
        title="Worst case, step by step: each attack runs only on images that are still classified correctly",
        columns=("attack", "images", "broken", "still correct", "of all"),
        numeric=(False, True, True, True, True),
        rows=tuple(
            (
                printable(step.name),
                str(step.samples),
                str(step.samples - step.survived),
                str(step.survived),
                percent(step.survived / worst.samples),
            )
            for step in worst.steps
        ),
    )


def checks_table(report: AuditRecord) -> Table | None:
    """The checks of the attacks; None without an attack."""
    found = report.attack_checks
    if not found:
        return None
    return Table(
        title="Checks of the attacks",
        columns=("check", "passed", "detail"),
        numeric=(False, False, False),
        rows=tuple((check["name"], "yes" if check["passed"] else "no", check["detail"]) for check in found),
    )


def layers_table(report: AuditRecord, condition: str | None = None) -> Table:
    """A row per layer, with what was measured under one condition, clean unless said otherwise."""
    name = report.clean.name if condition is None else condition
    layers = report.result.layers
    measured = {section for layer in layers for section in layer.sections(name)}

    def cell(section: str, key: str, spec: str, missing: str = "–") -> Callable[[LayerResult], str]:
        def read(layer: LayerResult) -> str:
            measured = layer.has(name, section, key)
            return short_number(layer.value(name, section, key), missing if measured else "–", spec)

        return read

    columns: list[tuple[str, bool, Callable[[LayerResult], str]]] = [
        ("layer", False, lambda layer: printable(layer.name)),
        ("kind", False, lambda layer: printable(layer.kind)),
        ("units", True, lambda layer: str(layer.units)),
        ("dead", True, lambda layer: short_number(layer.dead_units)),
    ]
    if "selectivity" in measured:
        columns.append(("selectivity", True, cell("selectivity", "mean", ".3f")))
        columns.append(("null level", True, cell("selectivity", "null", ".3f")))
    if "dimensionality" in measured:
        columns.append(("part. ratio", True, cell("dimensionality", "participation_ratio", ".2f")))
        corrected = cell("dimensionality", "participation_ratio_corrected", ".2f", "not resolved")
        columns.append(("corrected", True, corrected))
    if "spectrum" in measured:
        columns.append(("exponent", True, lambda layer: _exponent(layer, name)))
    if "gradients" in measured:
        columns.append(("gradient", True, cell("gradients", "mean", ".3g")))
        columns.append(("CV samples", True, cell("gradients", "cv_samples", ".3f")))
        columns.append(("CV units", True, cell("gradients", "cv_units", ".3f")))
    return Table(
        title=f"Layers, {printable(name)}" + (" images" if name == report.clean.name else ""),
        columns=tuple(title for title, _, _ in columns),
        numeric=tuple(numeric for _, numeric, _ in columns),
        rows=tuple(tuple(cell(layer) for _, _, cell in columns) for layer in layers),
    )


def _exponent(layer: LayerResult, condition: str) -> str:
    value, error = (layer.value(condition, "spectrum", key) for key in ("exponent", "stderr"))
    if value is None:
        return "–"
    return f"{value:.3f}" + (f" ± {error:.3f}" if error is not None else "")
