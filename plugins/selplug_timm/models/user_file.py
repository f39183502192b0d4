"""The user's own models: ``FILE.py:factory``, a callable in a Python file that returns an nn.Module."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from selplug.core.errors import InputError

from ..paths import listed, shown


def is_file_spec(spec: str) -> bool:
    """Whether a model spec is a Python file: ``FILE.py`` or ``FILE.py:name``."""
    return spec.endswith(".py") or ".py:" in spec


def build_from_file(spec: str, kwargs: Mapping[str, Any], if_taken: Mapping[str, Any]) -> nn.Module:
    """Calls ``factory(**kwargs)`` of ``FILE.py:factory``; if ``factory`` is already an nn.Module, it is used as it is.

    While the file runs, its folder is first in the import path, as for a script.

    Args:
        spec: ``FILE.py:factory``.
        kwargs: keyword arguments of the factory.
        if_taken: further arguments, passed only if the factory has a parameter of that name.

    Raises:
        InputError: there is no such file or name, the file or the factory raises, or the result is not an nn.Module.
    """
    file, _, name = spec.rpartition(":") if not spec.endswith(".py") else (spec, "", "")
    path = Path(file)
    if not path.is_file():
        raise InputError(f"no file {shown(path)}; expected FILE.py:factory")
    with _importing_beside(path):
        module = _run(path)
        factory = _find(module, name, path)
        if isinstance(factory, nn.Module):
            return factory
        arguments = {**{key: value for key, value in if_taken.items() if _takes(factory, key)}, **kwargs}
        try:
            model = factory(**arguments)
        except Exception as error:  # the user's code may raise any error
            given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            raise InputError(f"{shown(path)}: {name}({given}) raised {_described(error)}") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"{shown(path)}: expected {name}() to return an nn.Module, got {type(model).__name__}")
    return model


@contextmanager
def _importing_beside(path: Path) -> Iterator[None]:
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _run(path: Path) -> ModuleType:
    # A private name: the user's models.py must not replace another module of that name.
    name = f"_selplug_model_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{shown(path)} cannot be imported; expected a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look up classes here
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, (Exception, SystemExit)):
            raise
        raise InputError(f"{shown(path)} cannot be run: {_described(error)}") from error
    return module


def _find(module: ModuleType, name: str, path: Path) -> Any:
    own = sorted(
        key
        for key, value in vars(module).items()
        if callable(value) and not key.startswith("_") and getattr(value, "__module__", None) == module.__name__
    )
    there = f"callables there: {listed(own, 20)}" if own else "it defines no callable"
    if not name:
        raise InputError(f"which factory of {shown(path)}? Give {shown(path)}:NAME; {there}")
    found = getattr(module, name, None)
    if found is None:
        raise InputError(f"{shown(path)} has no {name!r}; {there}")
    if not callable(found):
        raise InputError(f"{shown(path)}: {name} is a {type(found).__name__}, expected a callable; {there}")
    return found


def _takes(factory: Any, key: str) -> bool:
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # some callables written in C have no signature
        return False
    return key in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
