from __future__ import annotations

import argparse
import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from ..core.errors import InputError
from ..registry import check_installed, load

if TYPE_CHECKING:
    from ..core.types import Subject

#: The subject of a command that names none. One that declares no flags of its own has those of this one.
DEFAULT = "timm"
_META = "selplug.subject"

# Flags that every command on a subject has; the others are declared by the subject's plugin.
SubjectName = Annotated[str, typer.Option("--subject", help="Plugin that makes model and data, with flags of its own.")]
BatchSize = Annotated[int, typer.Option("-b", "--batch-size", min=1, help="Images per batch.")]
Device = Annotated[str | None, typer.Option(help="cuda, cuda:1, cpu ...; CUDA if there is one.")]
ChannelsLast = Annotated[bool, typer.Option("--channels-last", help="Channels-last memory layout.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the draw, the perturbations and the null level.")]


@dataclass(frozen=True)
class Declared:
    """The flags that a subject declares by ``add_arguments``, see :class:`~selplug.core.types.SubjectMembers`."""

    name: str
    parser: argparse.ArgumentParser = field(repr=False)
    actions: tuple[argparse.Action, ...] = field(repr=False)

    def defaults(self) -> dict[str, Any]:
        """Every option with the value that it has when it is not given."""
        return {action.dest: action.default for action in self.actions}

    def taken(self, arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """The options that a command line gives, and the rest of it.

        Raises:
            InputError: a value is missing or of the wrong type.
        """
        # A destination that is there already keeps its value where the flag is not given.
        blank = argparse.Namespace(**dict.fromkeys(self.defaults()))
        found, rest = self.parser.parse_known_args(self._parted(arguments), blank)
        return {key: _plain(value) for key, value in vars(found).items() if value is not None}, rest

    def _parted(self, arguments: Sequence[str]) -> list[str]:
        """``--mean 0.5 0.4 resnet18`` as ``--mean=0.5 --mean=0.4 resnet18``: a list ends where its type does."""
        many = {option: action for action in self.actions if action.nargs == "+" for option in action.option_strings}
        result: list[str] = []
        rest = list(arguments)
        while rest:
            argument = rest.pop(0)
            if argument not in many or not rest:
                result.append(argument)
                continue
            result.append(f"{argument}={rest.pop(0)}")
            while rest and _converts(many[argument], rest[0]):
                result.append(f"{argument}={rest.pop(0)}")
        return result


def declared(name: str, without: Collection[str] = ()) -> Declared:
    """The flags of a subject plugin by its name, but for some options.

    Raises:
        PluginError: there is no such plugin, or it cannot be loaded.
    """
    plugin = load("selplug.subjects", name)
    if plugin.add_arguments is None and name != DEFAULT:
        plugin = load("selplug.subjects", DEFAULT)
    parser = _Parser(add_help=False, allow_abbrev=False)
    if plugin.add_arguments is not None:
        plugin.add_arguments(_Group(parser, without))
    return Declared(name, parser, tuple(parser._actions))


def load_subject(name: str, model: str, options: Mapping[str, Any]) -> Subject:
    """The subject that a plugin makes of a model's name and options; declared ones that are not given have defaults.

    Raises:
        SelplugError: the plugin or what it is given does not fit.
    """
    check_installed("selplug.subjects", name)
    subject: Subject = load("selplug.subjects", name)(model, {**declared(name).defaults(), **options})
    return subject


class SubjectCommand(TyperCommand):
    """A command whose ``--help`` shows the flags of the subject, too."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        flags: Declared | None = ctx.meta.get(_META, (None, {}))[0]
        if flags is None:
            return
        from rich.console import Console
        from rich.panel import Panel
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2, 0, 0))
        for action in flags.actions:
            if action.help != argparse.SUPPRESS:
                table.add_row(Text(_spelled(action), style="bold cyan"), Text(action.help or ""))
        title = f"Model and data, by --subject {flags.name}"
        Console(stderr=False).print(Panel(table, title=title, title_align="left", border_style="dim"))


def take_subject_flags(context: Any, arguments: Sequence[str], name: str, without: Collection[str]) -> list[str]:
    """Keeps the subject's options for :func:`subject_options`, and returns the rest of a command line.

    Args:
        context: that of the command line, shared by all its commands.
        arguments: those of a command.
        name: the subject.
        without: options that the command has no use for.

    Raises:
        SelplugError: no such subject, or a value is missing or of the wrong type.
    """
    flags = declared(name, without)
    given, rest = flags.taken(arguments)
    context.meta[_META] = (flags, given)
    return rest


def subject_options(context: Any) -> dict[str, Any]:
    """The options of the subject that the command line gives."""
    return dict(context.meta.get(_META, (None, {}))[1])


class _Group(argparse._ArgumentGroup):
    """Leaves out options that a command has no use for."""

    def __init__(self, parser: argparse.ArgumentParser, without: Collection[str]) -> None:
        super().__init__(parser)
        self._without = without

    def _add_action(self, action: Any) -> Any:
        return action if action.dest in self._without else super()._add_action(action)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message.removeprefix("argument "))


def _converts(action: argparse.Action, text: str) -> bool:
    with contextlib.suppress(ValueError, TypeError, argparse.ArgumentTypeError):
        (action.type or str)(text)  # type: ignore[operator]
        return action.type is not None
    return False


def _plain(value: Any) -> Any:
    """Pairs of a ``key=value`` type become a mapping."""
    if isinstance(value, list) and value and all(isinstance(item, tuple) for item in value):
        return dict(value)
    return value


def _spelled(action: argparse.Action) -> str:
    names = ", ".join(sorted(action.option_strings, key=len, reverse=True))
    if action.nargs == 0:
        return names
    metavar = action.metavar or (
        "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    )
    shown = " ".join(metavar) if isinstance(metavar, tuple) else metavar
    return f"{names} {shown}" + (" ..." if action.nargs == "+" else "")
