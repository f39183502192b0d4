"""``report.html``: one file to read, with everything inside; it never touches the network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import choices
from .choices import Plot
from .groups import groups, presets
from .images import gallery
from .notes import notes
from .packing import script_json, stored
from .report import SCHEMA_VERSION, Report
from .style import color, interval, listing, number, percent, printable, short_number, symbol
from .tables import checks_table, conditions_table, layers_table, survivors_table
from .text import ball, corruption_lines, title

if TYPE_CHECKING:
    import jinja2

#: Parts of the page's script, in the order in which they need each other.
SCRIPTS = ("state", "drawing", "tables", "controls", "start")
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


def write_html(report: Report, folder: Path) -> Path:
    """Writes ``report.html``.

    Raises:
        ReportError: the example images do not fit together.
        OSError: the file cannot be written.
    """
    path = Path(folder) / "report.html"
    path.write_bytes(render(report).encode("utf-8"))
    return path


def render(report: Report) -> str:
    """The page as text."""
    sections = _sections(report)
    overview = choices.overview_plots(report)
    plots = [*overview, *(plot for section in sections for plot in section.plots)]
    conditions = [
        {"name": printable(c.name), "color": color(i), "symbol": symbol(i)}
        for i, c in enumerate(report.result.conditions)
    ]
    frame = interactive(plots, conditions)
    size = sum(map(len, frame["scripts"])) + len(frame["data"])
    return template("report.html.jinja").render(
        title=title(report),
        headline=headline(report),
        notes=[printable(note) for note in notes(report)],
        overview=overview,
        sections={section.id: section for section in sections},
        condition_names=[condition["name"] for condition in conditions],
        groups=groups(report),
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


def interactive(plots: Iterable[Plot], conditions: Sequence[Mapping[str, str]] = ()) -> dict[str, Any]:
    """What the frame of a page with plots needs: ``style``, ``scripts`` with their hashes, and ``data``.

    Args:
        plots: all of the page.
        conditions: ``name``, ``color`` and ``symbol`` of what the buttons below the plots switch, by ``legendgroup``.
    """
    from plotly.offline import get_plotlyjs

    # A browser reads \r\n as \n, and the hash below is taken over what it reads.
    own = '(() => {\n"use strict";\n' + "".join(resource(f"script/{name}.js") for name in SCRIPTS) + "})();\n"
    scripts = [text.replace("\r\n", "\n").replace("\r", "\n") for text in (get_plotlyjs(), own)]
    return {
        "style": resource("report.css"),
        "scripts": scripts,
        # Only these scripts may run: a text that slipped through the escaping would still be no code.
        "script_hashes": [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts],
        "data": script_json(
            {
                "conditions": list(conditions),
                "plots": {plot.id: {"title": plot.title, **stored(plot.data, plot.digits)} for plot in plots},
            }
        ),
    }


def template(name: str) -> jinja2.Template:
    """A template of this package; everything in it is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("selplug.reports", "."),
        autoescape=True,  # for every template, whatever its ending
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["printable"] = printable
    return environment.get_template(name)


def headline(report: Report) -> list[tuple[str, str, list[str]]]:
    """``(what, value, lines of detail)`` of the numbers to see first."""
    result = report.result

    found: list[tuple[str, str, list[str]]] = []
    name = result.conditions[0].name if result.conditions else "clean"
    if result.conditions:
        clean = result.conditions[0]
        detail = [f"95 % interval {interval(clean.accuracy_ci95)}"]
        found.append((f"Accuracy, {printable(name)}", percent(clean.accuracy), detail))
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
    found.append(("Samples", str(result.conditions[0].samples) if result.conditions else "0", [_per_class(report)]))
    units = sum(layer.units for layer in result.layers)
    found.append(("Layers", str(len(result.layers)), [f"{units} units, output layer excluded"]))
    measured = [layer.conditions.get(name, {}).get("selectivity", {}).get("mean") for layer in result.layers]
    if measured and all(number(level) is not None for level in measured):
        mean = report.network_selectivity(name)
        found.append(
            ("Class selectivity", f"{mean:.3f}", [f"{printable(name)}; mean over layers, each counts the same"])
        )
    return found


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as ``(dotted name, text)``."""
    for key, value in values.items():
        name = f"{prefix}{printable(key)}"
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{name}.")
        elif isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
            for place, item in enumerate(value, 1):
                yield from flat(item if isinstance(item, Mapping) else {"": item}, f"{name}[{place}].")
        else:
            yield name, _fact(value)


def command_line(settings: Mapping[str, Any]) -> str | None:
    """The command line behind a report, if its settings hold one under ``command``."""
    value = settings.get("command")
    if isinstance(value, (list, tuple)):
        import shlex

        return printable(shlex.join(str(part) for part in value))
    return printable(value) if value else None


def _sections(report: Report) -> list[Section]:
    absent = "Not measured in this run: add the measure {} to see this."
    return [
        Section("accuracy", "Accuracy per condition", "def-accuracy", choices.accuracy_plots(report), ""),
        Section(
            "selectivity",
            "Class selectivity",
            "def-selectivity",
            choices.selectivity_plots(report),
            absent.format("selectivity"),
        ),
        Section(
            "dimensionality",
            "Dimensionality",
            "def-dimensionality",
            choices.dimensionality_plots(report),
            absent.format("dimensionality"),
        ),
        Section(
            "spectra", "Eigenspectra", "def-spectrum", choices.exponent_plots(report), absent.format("dimensionality")
        ),
        Section("gradients", "Input gradients", "def-gradients", choices.gradient_plots(report), ""),
        Section("similarity", "Similarity", "def-similarity", choices.similarity_plots(report), absent.format("cka")),
        Section("other", "Other measures", "", choices.other_plots(report), ""),
        Section(
            "layer",
            "One layer",
            "def-units",
            [*choices.spectrum_plots(report), *choices.unit_plots(report)],
            "No per-unit values were kept.",
        ),
    ]


def _per_class(report: Report) -> str:
    counts = [count for count in report.result.samples_per_class if count]
    if not counts:
        return "samples per class not known"
    low, high = min(counts), max(counts)
    each = f"{low}" if low == high else f"{low} to {high}"
    return f"{each} of each of {len(counts)} classes"


def _fact(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, (list, tuple)):
        return ", ".join(_fact(item) for item in value) or "none"
    if isinstance(value, Mapping):
        return "none"
    if isinstance(value, float):
        return short_number(value, str(value), ".10g")
    return printable(value)


def resource(name: str) -> str:
    """A file of this package as text."""
    return files("selplug.reports").joinpath(name).read_text(encoding="utf-8")
