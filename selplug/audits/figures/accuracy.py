from __future__ import annotations

from ...report.plots import Figure, Plot, base_layout, plain_plot
from ...report.style import GREY, color, interval, label, percent, printable, short_names, shorten, symbol
from ..facts.curves import Curve
from ..record import AuditRecord


def accuracy_plots(report: AuditRecord) -> list[Plot]:
    bars = plain_plot("accuracy", "Accuracy per condition", "Bars with 95 % Wilson intervals.", accuracy(report))
    plots = [bars]
    if report.curves:
        title = "Accuracy over the budget"
        text = "A line per attack or noise that was run at several sizes, with 95 % Wilson intervals."
        plots = [plain_plot("budgets", title, text, budgets(report)), bars]
    if report.corruptions is None:
        return plots
    text = "Rows: corruptions. Columns: severities. The mean over both is the mean corruption accuracy."
    title = "Accuracy per corruption and severity"
    return [plain_plot("corruptions", title, text, corruptions(report)), *plots]


def accuracy(report: AuditRecord) -> Figure:
    """Accuracy per condition with its 95 % Wilson interval, and the worst case below."""
    conditions = report.result.conditions
    rows: list[tuple[str, float, tuple[float, float], int, int | None]]
    rows = [(c.name, c.accuracy, c.accuracy_ci95, c.samples, place) for place, c in enumerate(conditions)]
    worst = report.result.worst_case
    if worst is not None:
        rows.append(("worst case", worst.accuracy, worst.accuracy_ci95, worst.samples, None))
    names = [label(name) for name in short_names([row[0] for row in rows], 34, tail=0.25)]
    bars = [
        {
            "type": "bar",
            "orientation": "h",
            "name": label(name),
            **({} if place is None else {"legendgroup": str(place)}),
            "y": [tick],
            "x": [100 * level],
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": [100 * (ci95[1] - level)],
                "arrayminus": [100 * (level - ci95[0])],
                "thickness": 1.5,
                "width": 5,
                "color": GREY,
            },
            "marker": {"color": GREY if place is None else color(place), "opacity": 0.85},
            "customdata": [[label(name), percent(level), interval(ci95), samples]],
            "hovertemplate": "<b>%{customdata[0]}</b><br>accuracy %{customdata[1]}<br>95 % interval %{customdata[2]}"
            "<br>%{customdata[3]} samples<extra></extra>",
            "showlegend": False,
        }
        for tick, (name, level, ci95, samples, place) in zip(names, rows, strict=True)
    ]
    layout = base_layout("Accuracy per condition", height=90 + 30 * len(rows))
    layout["meta"]["row_height"] = 30  # for pages that leave some out
    layout["xaxis"] = {"title": {"text": "accuracy, %"}, "range": [0, 103], "tickvals": list(range(0, 101, 20))}
    layout["yaxis"] = {"type": "category", "autorange": "reversed", "automargin": True, "showgrid": False}
    layout |= {"bargap": 0.35, "barmode": "overlay"}
    return {"data": bars, "layout": layout}


def budgets(report: AuditRecord) -> Figure:
    """Accuracy over the one option in which perturbations differ, with 95 % Wilson intervals; a line per attack."""
    found = report.curves
    data = []
    for place, curve in enumerate(found):
        scale = 255 if curve.norm == "Linf" else 1
        conditions = [condition for _, condition in curve.points]
        named = 1 + place % (len(conditions) - 1)  # names of lines that lie close together stand apart
        data.append(
            {
                "type": "scatter",
                "name": label(curve.name),
                "x": [scale * value for value, _ in curve.points],
                "y": [100 * c.accuracy for c in conditions],
                "xaxis": f"x{_axis(found, curve)}",
                "yaxis": f"y{_axis(found, curve)}",
                "mode": "lines+markers+text",
                "text": [
                    label(shorten(printable(curve.name), 40)) if i == named else "" for i in range(len(conditions))
                ],
                "textposition": "top right" if named < len(conditions) - 1 else "top left",
                "line": {"color": color(place), "width": 2},
                "marker": {"symbol": symbol(place), "size": 7},
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [100 * (c.accuracy_ci95[1] - c.accuracy) for c in conditions],
                    "arrayminus": [100 * (c.accuracy - c.accuracy_ci95[0]) for c in conditions],
                    "thickness": 1,
                    "width": 3,
                },
                "customdata": [[label(c.name), percent(c.accuracy), interval(c.accuracy_ci95)] for c in conditions],
                "hovertemplate": "<b>%{customdata[0]}</b><br>accuracy %{customdata[1]}"
                "<br>95 % interval %{customdata[2]}<extra></extra>",
            }
        )
    titles = _axis_titles(found)
    layout = base_layout("Accuracy over the budget", height=60 + 320 * len(titles))
    layout["meta"]["note"] = "Where a sweep of a budget leaves out 0, its first point is the clean accuracy."
    gap = 0.25 / max(1, len(titles))
    for place, title in enumerate(titles):
        suffix = "" if place == 0 else str(place + 1)
        bottom = 1 - (place + 1) / len(titles)
        layout[f"xaxis{suffix}"] = {"title": {"text": title}, "anchor": f"y{suffix}", "rangemode": "tozero"}
        layout[f"yaxis{suffix}"] = {
            "title": {"text": "accuracy, %"},
            "range": [-3, 103],
            "anchor": f"x{suffix}",
            "domain": [bottom + (gap if place < len(titles) - 1 else 0), bottom + 1 / len(titles)],
        }
    return {"data": data, "layout": layout}


def _axis_title(curve: Curve) -> str:
    """Curves that have it in common share a panel."""
    if curve.norm is None:
        return f"{label(curve.option)} of {label(curve.name.partition(':')[0])}"
    return f"{label(curve.option)}, {label(curve.norm)}" + (
        ", in 1/255 of the pixel range" if curve.norm == "Linf" else ""
    )


def _axis_titles(curves: list[Curve]) -> list[str]:
    return list(dict.fromkeys(_axis_title(curve) for curve in curves))


def _axis(curves: list[Curve], curve: Curve) -> str:
    place = _axis_titles(curves).index(_axis_title(curve))
    return "" if place == 0 else str(place + 1)


def corruptions(report: AuditRecord) -> Figure:
    """Accuracy per corruption and severity as a heat map; needs a report with corruptions."""
    summary = report.corruptions or {"accuracy": {}, "strengths": ""}
    rows = summary["accuracy"]
    severities = sorted({severity for row in rows.values() for severity in row})
    values = [[100 * row[s] if s in row else None for s in severities] for row in rows.values()]
    cells = {
        "type": "heatmap",
        "x": severities,
        "y": [label(name) for name in rows],
        "z": values,
        "zmin": 0,
        "zmax": 100,
        "colorscale": "Viridis",
        "colorbar": {"title": {"text": "accuracy, %"}},
        "texttemplate": "%{z:.1f}",
        "hovertemplate": "<b>%{y}</b>, severity %{x}: %{z:.1f} %<extra></extra>",
        "xgap": 1,
        "ygap": 1,
    }
    layout = base_layout("Accuracy per corruption and severity, %", height=120 + 26 * len(rows))
    layout["xaxis"] = {"type": "category", "title": {"text": "severity"}}
    layout["yaxis"] = {"type": "category", "autorange": "reversed", "automargin": True, "showgrid": False}
    layout["meta"]["note"] = f"Strengths of {label(summary['strengths'])}."
    return {"data": [cells], "layout": layout}
