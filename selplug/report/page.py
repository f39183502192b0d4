from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from .packing import script_json, stored
from .plots import Plot
from .style import printable, short_number

if TYPE_CHECKING:
    import jinja2

KIT = "selplug.report"
#: Parts of the page's script, in the order in which they need each other.
SCRIPTS = ("state", "drawing", "tables", "controls", "start")


def interactive(plots: Iterable[Plot], conditions: Sequence[Mapping[str, str]] = ()) -> dict[str, Any]:
    """What the frame of a page with plots needs: ``style``, ``scripts`` with their hashes, and ``data``.

    Args:
        plots: all of the page.
        conditions: ``name``, ``color`` and ``symbol`` of what the buttons below the plots switch, by ``legendgroup``.
    """
    from plotly.offline import get_plotlyjs

    # A browser reads \r\n as \n, and the hash below is taken over what it reads.
    own = '(() => {\n"use strict";\n' + "".join(resource(f"web/{name}.js") for name in SCRIPTS) + "})();\n"
    scripts = [text.replace("\r\n", "\n").replace("\r", "\n") for text in (get_plotlyjs(), own)]
    return {
        "style": resource("web/report.css"),
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


def template(package: str, name: str) -> jinja2.Template:
    """A template of a package, which may extend those of ``web``; everything in it is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package, "."), jinja2.PackageLoader(KIT, "web")]),
        autoescape=True,  # for every template, whatever its ending
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["printable"] = printable
    return environment.get_template(name)


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


def resource(name: str, package: str = KIT) -> str:
    """A file of a package as text."""
    return files(package).joinpath(name).read_text(encoding="utf-8")
