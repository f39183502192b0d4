from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import InputError

#: The pages that selplug writes; in a folder with several pages, the first of these is opened.
PAGES = ("report.html", "compare.html", "similarity.html", "explain.html")


def view(
    report: Annotated[Path, typer.Argument(help="Folder of a report, its page, or another file of it.")],
    print_path: Annotated[
        bool, typer.Option("--print-path", "--no-browser", help="Print the path of the page instead of opening it.")
    ] = False,
) -> None:
    """Open the page of a report in the browser: of an audit, a comparison, or a similarity."""
    page = find_page(report)
    if print_path:
        typer.echo(page)
    elif not webbrowser.open(page.as_uri()):
        raise InputError(f"cannot start a browser; the page is {page}, and --print-path prints this path")


def find_page(report: Path) -> Path:
    """The page that belongs to a report, as an absolute path.

    Args:
        report: a folder, the page itself, or another file of the report such as ``report.json``.

    Raises:
        InputError: there is no such file or folder, or it has no page of selplug.
    """
    if not report.exists():
        raise InputError(f"expected the folder or the page of a report, got {report}, which does not exist")
    if report.suffix == ".html":
        return report.resolve()
    folder = report if report.is_dir() else report.parent
    # If there are several pages, the given file decides: similarity.json belongs to similarity.html.
    for name in (f"{report.stem}.html", *PAGES):
        if name in PAGES and (folder / name).is_file():
            return (folder / name).resolve()
    raise InputError(
        f"expected one of {', '.join(PAGES)} in {folder}, found none; `selplug audit --output {folder}` writes one"
    )
