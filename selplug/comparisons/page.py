"""``compare.html``: many networks on one page, in one file that loads nothing from the internet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..core.clean import CLEAN
from ..report.page import command_line, flat, interactive, resource, template
from ..report.style import listing, printable, short_number
from .attack_types import TYPES
from .evidence import MIN_CORRELATED, MIN_EACH, MIN_FAMILY
from .figures import depth_plots, legend, linking_plots, sweep_plots
from .map_figures import MAX_MAPS, map_plots
from .matched import CLOSE, MIN_CORRUPTIONS, NEARLY
from .network_values import VALUES, early
from .ranks import EXACT
from .record import SCHEMA_VERSION, ComparisonRecord, Origin
from .sweeps import WIDE
from .tables import (
    accuracies_table,
    correlations_table,
    groups_table,
    protocol_lines,
    show,
    show_interval,
    show_number,
    show_p,
    title,
    undecided,
    values_table,
    verdicts,
)
from .verdicts import CONTRADICTED, INCONCLUSIVE, NOT_ENOUGH, SUPPORTED, Judged
from .within import MONOTONIC

_CLASSES = {SUPPORTED: "yes", CONTRADICTED: "no", INCONCLUSIVE: "open", NOT_ENOUGH: "unknown"}


def render(comparison: ComparisonRecord, folder: Path) -> str:
    """The page as text; ``folder`` is its future folder, for links to the reports."""
    sections = {
        "linking": linking_plots(comparison),
        "depth": depth_plots(comparison),
        "sweeps": sweep_plots(comparison),
        "maps": map_plots(comparison),
    }
    found = interactive([plot for plots in sections.values() for plot in plots], legend(comparison.groups))
    found["style"] += resource("compare.css", "selplug.comparisons")
    return template("selplug.comparisons", "compare.html.jinja").render(
        title=title(comparison),
        headline=headline(comparison),
        claims=[claim_row(judged) for judged in comparison.claims if judged.verdict != NOT_ENOUGH],
        undecided={"line": undecided(comparison.claims), "claims": [claim_row(one) for one in _without(comparison)]},
        protocol=protocol_lines(comparison.protocol),
        note=printable(comparison.protocol["note"]) if comparison.protocol else "",
        sections=sections,
        tables=[groups_table(comparison), values_table(comparison), accuracies_table(comparison)],
        correlations=correlations_table(comparison),
        networks=network_rows(comparison, folder),
        left_out=[(printable(origin), [printable(r) for r in reasons]) for origin, reasons in comparison.left_out],
        notes=[printable(note) for note in comparison.notes],
        rules={
            "correlated": MIN_CORRELATED,
            "family": MIN_FAMILY,
            "exact": EXACT,
            "wide": f"{WIDE:g}",
            "close": f"{100 * CLOSE:g}",
            "nearly": f"{NEARLY:g}",
            "corruptions": MIN_CORRUPTIONS,
            "types": listing(TYPES.values()),
            "each": MIN_EACH,
            "monotonic": f"{100 * MONOTONIC:g} %",
            "maps": MAX_MAPS,
            "early": _early(comparison),
            "resamples": comparison.settings["resamples"],
        },
        facts=facts(comparison),
        command=command_line(comparison.settings),
        schema_version=SCHEMA_VERSION,
        **found,
    )


def headline(comparison: ComparisonRecord) -> list[tuple[str, str, str]]:
    """``(title, value, detail)`` of the most important numbers."""
    count = {True: 0, False: 0, None: 0}
    for network in comparison.networks:
        count[network.training.robust] += 1
    kinds = [kind for kind in comparison.conditions.values() if kind != CLEAN]
    judged = [one.verdict for one in comparison.claims]
    conditions = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)) or "only clean images"
    trained = f"{count[False]} standard, {count[True]} robust" + (f", {count[None]} unknown" if count[None] else "")
    return [
        ("Networks", str(len(comparison.networks)), trained),
        ("Groups", str(len(comparison.groups)), "networks that differ only in the seed"),
        (
            "Claims supported",
            verdicts(comparison),
            f"{judged.count(CONTRADICTED)} contradicted, {judged.count(INCONCLUSIVE)} inconclusive, "
            f"{judged.count(NOT_ENOUGH)} without enough data",
        ),
        ("Conditions in common", str(len(kinds) + 1), conditions),
        ("Reports left out", str(len(comparison.left_out)), "listed under Notes"),
    ]


def claim_row(judged: Judged) -> dict[str, Any]:
    """A row of the claims sheet, as text."""
    claim, smallest = judged.claim, judged.smallest_effect
    return {
        "id": claim.id,
        "text": claim.text,
        "source": claim.source,
        "link": f"https://arxiv.org/abs/{_paper(claim.source)}",
        "statistic": claim.statistic,
        "caveat": claim.caveat,
        "value": show_number(judged.estimate.value),
        "interval": show_interval(judged.estimate),
        "side": claim.side,
        "p": show_p(judged.p),
        "adjusted": show_p(judged.p_adjusted),
        "smallest": "none" if smallest is None else show_number(smallest),
        "n": str(judged.estimate.n),
        "configurations": str(judged.estimate.configurations),
        "verdict": judged.verdict,
        "class": _CLASSES[judged.verdict],
        "why": printable(judged.why),
        "beyond": judged.in_protocol is False,
        "parts": [
            {
                "label": part.label,
                "value": show_number(part.estimate.value),
                "interval": show_interval(part.estimate),
                "p": show_p(part.estimate.p),
            }
            for part in judged.parts
        ]
        if len(judged.parts) > 1
        else [],
    }


def _without(comparison: ComparisonRecord) -> list[Judged]:
    return [judged for judged in comparison.claims if judged.verdict == NOT_ENOUGH]


def _paper(source: str) -> str:
    """The number in "arXiv 2010.07693, abstract"; empty where there is none, as a file may say anything."""
    return next(iter(source.split()[1:]), "").rstrip(",")


def network_rows(comparison: ComparisonRecord, folder: Path) -> dict[str, Any]:
    """A table with a row per network: a link to its report, and all values that any network has."""
    keys = [key for key in VALUES if any(network.value(key) is not None for network in comparison.networks)]
    return {
        "columns": ["network", "group", "seed", *(VALUES[key] for key in keys)],
        "rows": [
            {
                "name": printable(network.name),
                "link": report_link(origin, folder),
                "cells": [
                    printable(network.training.group),
                    short_number(network.training.seed),
                    *(show(key, network.value(key)) for key in keys),
                ],
            }
            for network, origin in zip(comparison.networks, comparison.origins, strict=True)
        ],
    }


def report_link(origin: Origin, folder: Path) -> str | None:
    """The path from the page's folder to the page of a report, None if there is no such page."""
    page = origin.path.with_name("report.html") if origin.path else None
    if page is None or not page.is_file():
        return None
    try:
        relative = os.path.relpath(page.resolve(), folder.resolve())
    except ValueError:  # another drive
        return None
    return quote(Path(relative).as_posix())


def facts(comparison: ComparisonRecord) -> dict[str, list[tuple[str, str]]]:
    """The provenance of all numbers: settings and versions of the comparison and of each report."""
    found: dict[str, list[tuple[str, str]]] = {
        "Comparison": [*flat(comparison.settings), *flat(comparison.environment)],
        "Common to all reports": list(flat(comparison.reference)),
    }
    for trained in comparison.train_set:
        found[f"Training images, {printable(trained['name'])}"] = list(flat(trained))
    if comparison.protocol is not None:
        found["Protocol"] = list(flat(comparison.protocol))
    for network, entry in zip(comparison.networks, comparison.to_dict()["networks"], strict=True):
        report = entry["report"]
        settings = {key: value for key, value in report["settings"].items() if key != "perturbations"}
        rows: Mapping[str, Any] = {
            "model": entry["model"],
            "file": report["file"],
            "sha256": report["sha256"],
            "checkpoint": report["checkpoint"],
            "training": entry["training"],
            "settings": settings,
            "environment": report["environment"],
        }
        found[f"Report {printable(network.name)}"] = list(flat(rows))
    return found


def _early(comparison: ComparisonRecord) -> str:
    """The number of early layers, as text."""
    sizes = sorted({len(network.measured.layers) for network in comparison.networks})
    return listing(f"{early(size).stop} of {size}" for size in sizes)
