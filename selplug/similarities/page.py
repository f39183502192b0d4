"""``similarity.html``: maps layer x layer of two networks, in one file that loads nothing from the internet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..report.heat_map import heat_map
from ..report.notebook import notebook_figure
from ..report.page import command_line, flat, interactive, template
from ..report.plots import Figure, Plot, packed
from ..report.style import plural, printable, short_number
from ..report.tables import Table
from .record import SCHEMA_VERSION, SimilarityRecord

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class SimilarityPlots:
    """The figures of a comparison of two networks."""

    report: SimilarityRecord

    def map(self, measure: str = "cka", rows: str = "a", columns: str = "b") -> go.Figure:
        """Every layer of one network against every layer of the other, or of itself.

        Args:
            measure: "cka" or "procrustes".
            rows, columns: "a" or "b", the network on this side of the map.

        Raises:
            InputError: there is no such map; the message lists all maps.
        """
        from .page import heading, map_figure

        key = self.report.map_key(measure, rows, columns)
        return notebook_figure(map_figure(self.report, key), heading(self.report, key))


def render(report: SimilarityRecord) -> str:
    """The page as text."""
    found = plots(report)
    return template("selplug.similarities", "similarity.html.jinja").render(
        title=title(report),
        headline=headline(report),
        plots=found,
        tables=summary_tables(report),
        facts={
            f"Network a: {name(report, 'a')}": list(flat(report.subjects["a"])),
            f"Network b: {name(report, 'b')}": list(flat(report.subjects["b"])),
            "Settings": list(flat(report.settings)),
            "Environment": list(flat(report.environment)),
        },
        debiased=report.settings["estimator"] == "debiased",
        command=command_line(report.settings),
        schema_version=SCHEMA_VERSION,
        **interactive(found),
    )


def name(report: SimilarityRecord, key: str) -> str:
    """The name of a network, with its checkpoint if both have the same name."""
    subjects = report.subjects
    model = printable(subjects[key].get("model", key))
    checkpoint = subjects[key].get("checkpoint")
    if subjects["a"].get("model") != subjects["b"].get("model") or not isinstance(checkpoint, dict):
        return model
    return f"{model}, {printable(checkpoint.get('file', checkpoint))}"


def title(report: SimilarityRecord) -> str:
    """Both networks and the number of samples in one line."""
    return f"{name(report, 'a')} (a) and {name(report, 'b')} (b) on {plural(report.result.samples, 'image')}"


def headline(report: SimilarityRecord) -> list[tuple[str, str, str]]:
    """``(title, value, detail)`` of the most important numbers."""
    result = report.result
    found = [("Samples", str(result.samples), f"responses: {report.settings['responses']}")]
    found += [
        (f"Layers of {key}", str(len(layers)), plural(sum(layer.units for layer in layers), "unit"))
        for key, layers in result.layers.items()
    ]
    between = result.maps.get(("cka", "a", "b"))
    if between is not None:
        mean = np.nanmean(between) if np.isfinite(between).any() else None
        found.append(("CKA between a and b", short_number(mean, spec=".3f"), f"{estimator(report)}; mean over the map"))
    found += [
        (f"Block structure of {key}", short_number(blocks.score, spec=".3f"), "0: none; 1: blocks of equal layers")
        for key, blocks in result.blocks.items()
    ]
    return found


def estimator(report: SimilarityRecord) -> str:
    """The name of the CKA estimator."""
    return str(report.settings["estimator"])


def plots(report: SimilarityRecord) -> list[Plot]:
    """A heat map per map, between the networks first."""
    found = []
    for key in report.result.maps:
        measure, rows, columns = key
        cka = measure == "cka"
        describe = "1: equal up to rotation and scale; about 0: unrelated." if cka else "0: equal; at most 2."
        if rows == columns:
            describe += " Outlined: the blocks of the block-structure score."
        data = packed({"": map_figure(report, key)})
        found.append(Plot(f"{measure}-{rows}-{columns}", heading(report, key), describe, (), data))
    return found


def heading(report: SimilarityRecord, key: tuple[str, str, str]) -> str:
    """The title of a map: its measure and networks."""
    measure, rows, columns = key
    what = f"Linear CKA, {estimator(report)}" if measure == "cka" else "Orthogonal Procrustes distance"
    return f"{what}, {'between a and b' if rows != columns else f'within {rows}'}"


def map_figure(report: SimilarityRecord, key: tuple[str, str, str]) -> Figure:
    """The heat map of one map, by its key in the result."""
    measure, rows, columns = key
    layers, cka = report.result.layers, measure == "cka"
    return heat_map(
        report.result.maps[key].tolist(),
        [layer.name for layer in layers[rows]],
        [layer.name for layer in layers[columns]],
        f"CKA, {estimator(report)}" if cka else "Procrustes distance",
        titles=(f"layers of {rows}: {name(report, rows)}", f"layers of {columns}: {name(report, columns)}"),
        limits=(0, 1) if cka else (0, 2),
        bright_is_low=not cka,
        blocks=report.result.blocks[rows].blocks if rows == columns and rows in report.result.blocks else (),
    )


def summary_tables(report: SimilarityRecord) -> list[Table]:
    """The best match of every layer in the other network, and the block-structure scores."""
    tables = []
    for measure in dict.fromkeys(measure for measure, _, _ in report.result.maps):
        cka = measure == "cka"
        between = report.result.maps[measure, "a", "b"]
        # A map whose largest entries are the best matches.
        for (key, other), values in ((("a", "b"), between), (("b", "a"), between.T)):
            rows = []
            for layer, row in zip(report.result.layers[key], values, strict=True):
                known = np.isfinite(row).any()
                best = int(np.nanargmax(row if cka else -row)) if known else 0
                match = printable(report.result.layers[other][best].name) if known else "–"
                rows.append((printable(layer.name), match, short_number(row[best] if known else None, spec=".3f")))
            what = f"CKA ({estimator(report)})" if cka else "Procrustes distance"
            tables.append(
                Table(
                    title=f"Layers of {key}, each with the most similar layer of {other}",
                    columns=(f"layer of {key}", f"layer of {other}", what),
                    numeric=(False, False, True),
                    rows=tuple(rows),
                )
            )
    if report.result.blocks:
        scores = tuple((key, short_number(b.score, spec=".3f")) for key, b in report.result.blocks.items())
        tables.append(
            Table("Block structure within each network", ("network", "score"), (False, True), scores),
        )
    return tables
