from __future__ import annotations

import functools
import inspect
import re
from typing import Any

_HEADER = re.compile(r"^( *)(?:Args|Arguments|Options|Parameters)(?: of a call)? *:+ *$")
_ENTRY = re.compile(
    r"^(?P<names>\*{0,2}\w+(?:, *\*{0,2}\w+)*) *"  # one name, or several that share a meaning
    r"(?:\((?:[^()]|\([^()]*\))*\))? *:(?!:) *(?P<text>.*)$"  # a type, as Captum and torchattacks write it
)
_DEFAULT = re.compile(
    r"\s*\(?\bdefaults?(?: value)?(?: to)? ?:? *`{0,2}(?P<value>[^`]*?)`{0,2}[.)]*\s*$", re.IGNORECASE
)


def docstring(found: Any) -> str:
    """An object's own docstring, cleaned; that of a base class does not count. Empty if there is none."""
    while isinstance(found, functools.partial):
        found = found.func
    return inspect.cleandoc(found.__doc__ or "")


def summary(doc: str) -> str:
    """The first paragraph as one line."""
    return plain(re.split(r"\n\s*\n", doc, maxsplit=1)[0])


def meanings(doc: str) -> dict[str, tuple[str, str | None]]:
    """name -> (meaning, default said) of every entry under ``Args:``, ``Arguments:`` or ``Options:``.

    Only the first paragraph of an entry counts. A default at its end is cut off: a signature knows it better.
    """
    found: dict[str, tuple[str, str | None]] = {}
    for entry in _entries(doc.splitlines()):
        match = _ENTRY.match(entry)
        if match is None:
            continue
        text, default = match["text"], None
        said = _DEFAULT.search(text)
        if said is not None and len(said["value"]) < 60:
            text, default = text[: said.start()], said["value"].strip()
        for name in match["names"].split(","):
            found.setdefault(name.strip(" *"), (plain(text), default))
    return found


def _entries(lines: list[str]) -> list[str]:
    """Each entry of each section as one line."""
    entries: list[str] = []
    header: int | None = None  # indents of the section, of its entries
    base: int | None = None
    open_entry = False
    for line in lines:
        begins, indent = _HEADER.match(line), len(line) - len(line.lstrip())
        if begins:
            header, base, open_entry = len(begins[1]), None, False
        elif header is None:
            continue
        elif not line.strip():
            open_entry = open_entry and not entries[-1].partition(":")[2].strip()
        elif indent <= header:
            header = None
        elif base is None or indent <= base:
            base, open_entry = indent, True
            entries.append(line.strip())
        elif open_entry:
            entries[-1] += " " + line.strip()
    return entries


def plain(text: str) -> str:
    """Without marks of reStructuredText, on one line."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?([^`]*)`", r"\1", text)
    return " ".join(text.replace("`", "").split())
