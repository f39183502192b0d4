"""What a terminal and a notebook tell of a report."""

from __future__ import annotations

from ...report.result import Shown
from ...report.style import interval, percent, printable
from ...report.tables import shortened
from ..engine.results import WorstCase
from ..record import AuditRecord
from .notes import notes
from .tables import conditions_table, layers_table, survivors_table


def shown(report: AuditRecord, files: str) -> Shown:
    """Accuracy, worst case, layers and warnings; ``files`` hold what is too long to show."""
    tables = [conditions_table(report), shortened(layers_table(report), files), survivors_table(report)]
    lines = [worst_case(report)]
    checked = report.attack_checks
    if checked:
        lines.append(f"Checks of the attacks: {sum(c['passed'] for c in checked)} of {len(checked)} passed.")
    if report.corruptions is not None:
        mean = percent(report.corruptions["mean_accuracy"])
        lines.append(f"Mean corruption accuracy {mean}: {'; '.join(corruption_lines(report))}.")
    return Shown([table for table in tables if table], lines, notes(report))


def title(report: AuditRecord) -> str:
    """Model, data and number of samples in one line."""
    data = report.subject.get("data")
    source = data.get("source") if isinstance(data, dict) else None
    name = printable(report.subject.get("model", "model"))
    return f"{name} on {printable(source) if source else 'the given data'}, {report.clean.samples} samples"


def worst_case(report: AuditRecord) -> str:
    """The worst-case accuracy as a sentence, with the conditions that it is taken over."""
    worst = report.result.worst_case
    if worst is None:
        return "Worst-case accuracy: none, no attack took part."
    names = ", ".join(printable(name) for name in worst.conditions)
    return (
        f"Worst-case accuracy {percent(worst.accuracy)} (95 % interval {interval(worst.accuracy_ci95)}): right under "
        f"all of {names}{ball(worst)}."
    )


def ball(worst: WorstCase) -> str:
    """Which images count, where not all do."""
    if worst.norm is None or worst.eps is None:
        return ""
    eps = f"{255 * worst.eps:.4g}/255" if worst.norm == "Linf" else f"{worst.eps:.4g}"
    return f"; images within {printable(worst.norm)} {eps} of the clean one count"


def corruption_lines(report: AuditRecord) -> list[str]:
    """How many corruptions with which strengths, and mCE and relative mCE if there is a baseline."""
    summary = report.corruptions
    if summary is None:
        return []
    lines = [f"{len(summary['accuracy'])} corruptions, strengths of {printable(summary['strengths'])}"]
    if summary["baseline"] is None:
        return lines
    base = printable(summary["baseline"])
    if summary["mce"] is None:
        return [*lines, f"no mCE: no corruption at the same severities and strengths in the baseline {base}"]
    relative = "not defined" if summary["relative_mce"] is None else percent(summary["relative_mce"])
    count = len(summary["corruption_error"])
    return [*lines, f"mCE {percent(summary['mce'])}, relative mCE {relative}, over {count} against {base}"]
