"""``report.html``: one file to read, with everything inside; it never touches the network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...report.page import command_line, flat, interactive, template
from ...report.plots import Plot
from ...report.style import color, interval, listing, percent, printable, symbol
from ..figures.accuracy import accuracy_plots
from ..figures.dimensionality import dimensionality_plots, exponent_plots
from ..figures.gradients import gradient_plots
from ..figures.one_layer import spectrum_plots, unit_plots
from ..figures.other import other_plots
from ..figures.overview import overview_plots
from ..figures.selectivity import selectivity_plots
from ..figures.similarity import similarity_plots
from ..record import SCHEMA_VERSION, AuditRecord
from .condition_groups import condition_groups, presets
from .gallery import gallery
from .notes import notes
from .tables import checks_table, conditions_table, layers_table, survivors_table
from .text import ball, corruption_lines, title

#: Bytes that a page should stay below, and those that its example images may take at most.
SIZE, IMAGES = 14_000_000, 8_000_000


@dataclass(frozen=True)
class Section:
    """Plots under one heading. ``definition`` is the anchor that explains them, ``empty`` what to say without any."""

    id: str
    title: str
    definition: str
    plots: list[Plot]
    empty: str


def write_html(report: AuditRecord, folder: Path) -> Path:
    """Writes ``report.html``.

    Raises:
        ReportError: the example images do not fit together.
        OSError: the file cannot be written.
    """
    path = Path(folder) / "report.html"
    path.write_bytes(render(report).encode("utf-8"))
    return path


def render(report: AuditRecord) -> str:
    """The page as text."""
    sections = _sections(report)
    overview = overview_plots(report)
    plots = [*overview, *(plot for section in sections for plot in section.plots)]
    conditions = [
        {"name": printable(c.name), "color": color(i), "symbol": symbol(i)}
        for i, c in enumerate(report.result.conditions)
    ]
    frame = interactive(plots, conditions)
    size = sum(map(len, frame["scripts"])) + len(frame["data"])
    return template("selplug.audits.page", "report.html.jinja").render(
        title=title(report),
        headline=headline(report),
        notes=[printable(note) for note in notes(report)],
        overview=overview,
        sections={section.id: section for section in sections},
        condition_names=[condition["name"] for condition in conditions],
        groups=condition_groups(report),
        presets=presets(report),
        layers=[printable(layer.name) for layer in report.result.layers],
        accuracy_tables=[t for t in (conditions_table(report), survivors_table(report), checks_table(report)) if t],
        layers_table=layers_table(report),
        gallery=gallery(report, min(IMAGES, max(1_500_000, SIZE - size))),
        facts={
            "Subject": list(flat(report.subject)),
            "Settings": list(flat(report.settings)),
            "Environment": list(flat(report.environment)),
        },
        command=command_line(report.settings),
        schema_version=SCHEMA_VERSION,
        **frame,
    )


def headline(report: AuditRecord) -> list[tuple[str, str, list[str]]]:
    """``(what, value, lines of detail)`` of the numbers to see first."""
    result = report.result

    found: list[tuple[str, str, list[str]]] = []
    clean = report.clean
    detail = [f"95 % interval {interval(clean.accuracy_ci95)}"]
    found.append((f"Accuracy, {printable(clean.name)}", percent(clean.accuracy), detail))
    worst = result.worst_case
    if worst is None:
        found.append(("Worst-case accuracy", "–", ["no attack took part"]))
    else:
        names = listing(worst.conditions)
        detail = [f"95 % interval {interval(worst.accuracy_ci95)}", f"right under all of: {names}{ball(worst)}"]
        found.append(("Worst-case accuracy", percent(worst.accuracy), detail))
    corruptions = report.corruptions
    if corruptions is not None:
        found.append(("Mean corruption accuracy", percent(corruptions["mean_accuracy"]), corruption_lines(report)))
    found.append(("Samples", str(clean.samples), [_per_class(report)]))
    units = sum(layer.units for layer in result.layers)
    found.append(("Layers", str(len(result.layers)), [f"{units} units, output layer excluded"]))
    measured = [layer.value(clean, "selectivity", "mean") for layer in result.layers]
    if measured and all(level is not None for level in measured):
        mean = report.network_selectivity(clean.name)
        found.append(
            ("Class selectivity", f"{mean:.3f}", [f"{printable(clean.name)}; mean over layers, each counts the same"])
        )
    return found


def _sections(report: AuditRecord) -> list[Section]:
    absent = "Not measured in this run: add the measure {} to see this."
    return [
        Section("accuracy", "Accuracy per condition", "def-accuracy", accuracy_plots(report), ""),
        Section(
            "selectivity",
            "Class selectivity",
            "def-selectivity",
            selectivity_plots(report),
            absent.format("selectivity"),
        ),
        Section(
            "dimensionality",
            "Dimensionality",
            "def-dimensionality",
            dimensionality_plots(report),
            absent.format("dimensionality"),
        ),
        Section(
            "spectra",
            "Eigenspectra",
            "def-spectrum",
            exponent_plots(report),
            absent.format("dimensionality"),
        ),
        Section("gradients", "Input gradients", "def-gradients", gradient_plots(report), ""),
        Section("similarity", "Similarity", "def-similarity", similarity_plots(report), absent.format("cka")),
        Section("other", "Other measures", "", other_plots(report), ""),
        Section(
            "layer",
            "One layer",
            "def-units",
            [*spectrum_plots(report), *unit_plots(report)],
            "No per-unit values were kept.",
        ),
    ]


def _per_class(report: AuditRecord) -> str:
    counts = [count for count in report.result.samples_per_class if count]
    if not counts:
        return "samples per class not known"
    low, high = min(counts), max(counts)
    each = f"{low}" if low == high else f"{low} to {high}"
    return f"{each} of each of {len(counts)} classes"
