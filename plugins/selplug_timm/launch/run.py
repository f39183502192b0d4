"""Runs timm's unmodified train script with the training hooks of selplug."""

from __future__ import annotations

import re
import runpy
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import timm

from selplug.core.errors import InputError, SelplugError

OLDEST = (1, 0, 27)
USAGE = "usage: python -m selplug_timm SCRIPT|train [ARGUMENTS OF THE SCRIPT ...]"
#: This word stands for our own train script; a file of this name is ``./train``.
OWN = "train"


def run(script: str | Path, arguments: Sequence[str]) -> None:
    """Runs ``python SCRIPT ARGUMENTS`` in this process, with the flags of every training hook added to its parser.

    Everything that was replaced is restored when this returns or raises.

    Args:
        script: timm's ``train.py``, edited or not, of timm 1.0.27 or later; or ``train`` for that of ``selplug train``.
        arguments: the arguments of the script and of the hooks.

    Raises:
        SystemExit: the script's exit code; 1 after an exception in the script, whose traceback is shown.
        SelplugError: there is no such script, it is not a timm train script, timm is too old, or an active hook cannot
            take part.
    """
    path = None if script == OWN else Path(script)
    if path is not None and not path.is_file():
        raise InputError(
            f"there is no script {str(script)!r}; timm's train.py is not part of the timm package, copy it from timm's "
            "repository"
        )
    check_timm(timm.__version__)

    from ..hooks.load import load_hooks
    from ..models import cifar as _registers_the_models  # noqa: F401
    from .patches import patched
    from .training_run import TrainingRun

    training = TrainingRun(load_hooks())
    try:
        with patched(training), _command_line(path, arguments):
            _run_script(path)
    except SystemExit as stop:
        # --help ends here too, before there are arguments.
        if not stop.code:
            training.check_attached()
        raise
    finally:
        training.close()
    if training.args is None:
        raise InputError(f"{script} is not a timm train script: it made no parser with --model")
    training.check_attached()


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m selplug_timm``: the same as ``selplug timm-train``, for torchrun."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0].startswith("-"):
        wanted = given[:1] in (["-h"], ["--help"])
        (sys.stdout if wanted else sys.stderr).write(USAGE + "\n")
        raise SystemExit(0 if wanted else 2)
    try:
        run(given[0], given[1:])
    except SelplugError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None


def check_timm(version: str) -> None:
    """Raises InputError if timm is older than 1.0.27, which has other training tasks."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    if numbers < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise InputError(
            f'training hooks need timm {oldest} or later, found {version}: pip install --upgrade "timm>={oldest}", and '
            "use the train.py of that version"
        )


def _run_script(path: Path | None) -> None:
    try:
        if path is None:
            from ..train.script import main as train

            train()
        else:
            runpy.run_path(str(path), run_name="__main__")
    except SelplugError:
        raise
    except Exception:  # an error of the script, such as an OSError, must not look like one of ours
        traceback.print_exc()
        raise SystemExit(1) from None


@contextmanager
def _command_line(path: Path | None, arguments: Sequence[str]) -> Iterator[None]:
    """Sets ``sys.argv`` and the import path as ``python SCRIPT ARGUMENTS`` would."""
    argv, search = sys.argv, sys.path
    sys.argv = [OWN if path is None else str(path), *arguments]
    sys.path = [*([] if path is None else [str(path.resolve().parent)]), *search]
    try:
        yield
    finally:
        sys.argv, sys.path = argv, search
