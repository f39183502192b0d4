from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typer.core import TyperGroup

from ..core.errors import SelplugError
from ..run.config_file import read_config
from ..run.subject_flags import DEFAULT, take_subject_flags
from .errors import fail

#: Commands with the flags of a train script.
TRAINING = ("train", "timm-train")
#: Commands on a subject, which declares most of their flags -> the subject's flags that the command does not take.
ON_SUBJECTS: dict[str, tuple[str, ...]] = {"audit": (), "explain": (), "similarity": ("checkpoint",)}
#: timm's options with an optional value -> the value if it is omitted.
_OPTIONAL_VALUE = {"--torchcompile": "inductor"}


class Commands(TyperGroup):
    """The commands. For commands on a subject, the subject's flags are taken out of the arguments first."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        place = next((place for place, argument in enumerate(args) if not argument.startswith("-")), len(args))
        name = args[place] if place < len(args) else ""
        if name in ON_SUBJECTS:
            rest = with_values(args[place + 1 :])
            try:
                rest = take_subject_flags(ctx, rest, subject_named(rest), ON_SUBJECTS[name])
            except SelplugError as error:
                fail(str(error))
            args = [*args[: place + 1], *rest]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


def subject_named(arguments: Sequence[str]) -> str:
    """The subject from ``--subject``, else from the file of ``--config``, else the default."""
    subject, config = (value_of(arguments, *names) for names in (("--subject",), ("--config", "-c")))
    if subject is None and config is not None:
        subject = read_config(Path(config)).get("subject")
    return str(subject or DEFAULT)


def value_of(arguments: Sequence[str], *names: str) -> str | None:
    """The last value of an option, given as ``--name value`` or ``--name=value``."""
    found = None
    for place, argument in enumerate(arguments):
        head, equals, value = argument.partition("=")
        if argument in names and place + 1 < len(arguments):
            found = arguments[place + 1]
        elif equals and head in names:
            found = value
    return found


def with_values(arguments: Sequence[str]) -> list[str]:
    """Adds the omitted values of options such as timm's ``--torchcompile``."""
    result: list[str] = []
    for place, argument in enumerate(arguments):
        result.append(argument)
        following = arguments[place + 1 : place + 2]
        if argument in _OPTIONAL_VALUE and (not following or following[0].startswith("-")):
            result.append(_OPTIONAL_VALUE[argument])
    return result
