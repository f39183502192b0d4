"""What a terminal and a notebook tell of a report."""

from __future__ import annotations

from ...report.result import Shown
from ...report.style import interval, percent, plural, printable
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
    return f"{name} on {printable(source) if source else 'the given data'}, {plural(report.clean.samples, 'sample')}"


def worst_case(report: AuditRecord) -> str:
    """The worst-case accuracy as a sentence, with its conditions."""
    worst = report.result.worst_case
    if worst is None:
        return "Worst-case accuracy: none, since there was no attack."
    names = ", ".join(printable(name) for name in worst.conditions)
    return (
        f"Worst-case accuracy {percent(worst.accuracy)} (95 % interval {interval(worst.accuracy_ci95)}): correct under "
        f"all of {names}{ball(worst)}."
    )


def ball(worst: WorstCase) -> str:
    """The ball that images must be in to count, as text; empty if all images count."""
    if worst.norm is None or worst.eps is None:
        return ""
    eps = f"{255 * worst.eps:.4g}/255" if worst.norm == "Linf" else f"{worst.eps:.4g}"
    return f"; only images within {printable(worst.norm)} {eps} of the clean image count"


def corruption_lines(report: AuditRecord) -> list[str]:
    """The number of corruptions and their strengths, and with a baseline mCE and relative mCE."""
    summary = report.corruptions
    if summary is None:
        return []
    count = plural(len(summary["accuracy"]), "corruption")
    lines = [f"{count}, strengths of {printable(summary['strengths'])}"]
    if summary["baseline"] is None:
        return lines
    base = printable(summary["baseline"])
    if summary["mce"] is None:
        return [*lines, f"no mCE: the baseline {base} has no corruption with the same severities and strengths"]
    relative = "undefined" if summary["relative_mce"] is None else percent(summary["relative_mce"])
    count = plural(len(summary["corruption_error"]), "corruption")
    return [*lines, f"mCE {percent(summary['mce'])}, relative mCE {relative}, over {count}, baseline {base}"]
