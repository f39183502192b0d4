"""Entry points: find, list and load plugins. Ours come through the same door as anybody's.

Finding and listing import no plugin and no host library.
"""

from __future__ import annotations

import configparser
import difflib
import functools
import importlib.metadata
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import entrypoints

from .core.errors import PluginError, PluginFailedError

GROUPS = {
    "selplug.subjects": "where models and data come from",
    "selplug.perturbations": "attacks, noise, corruptions",
    "selplug.measures": "streaming measures of a layer",
    "selplug.training": "hooks into a timm training run",
    "selplug.attributions": "Captum-style methods",
    "selplug.reports": "ways to write a report",
    "selplug.launchers": "what runs somebody else's training script",
    "selplug.demos": "what `selplug demo` can run",
}
_SINGULAR = {"selplug.training": "training hook", "selplug.reports": "report writer"}


@dataclass(frozen=True)
class Plugin:
    """One entry point. ``extra`` is the extra of its distribution that it needs, ``missing`` what of it is absent."""

    group: str
    name: str
    target: str
    distribution: str
    version: str
    extra: str | None
    missing: tuple[str, ...]
    entry_point: entrypoints.EntryPoint

    @property
    def install_hint(self) -> str:
        return f'pip install "{self.distribution}[{self.extra}]"'

    @property
    def title(self) -> str:
        """What errors call it, "perturbation occlusion of selplug-example"."""
        return f"{singular(self.group)} {self.name} of {self.distribution}"

    def lacking(self) -> PluginError:
        """The error that says what is not installed."""
        return PluginError(f"{self.name} needs {', '.join(self.missing)}, which is not installed: {self.install_hint}")

    def load(self) -> Any:
        """The object behind the name, its contract checked.

        Raises:
            PluginError: a host library is missing (the extra is given), it does not import, or it breaks the contract
                of its group (:mod:`selplug.core.contracts`).
        """
        try:
            found = self.entry_point.load()
        except Exception as error:  # a plugin may fail in any way at import; the message must still name it
            if self.missing:
                raise self.lacking() from error
            raise PluginFailedError(
                f"{self.name} of {self.distribution} ({self.target}) cannot be loaded: {error!r}"
            ) from error
        from .core.plugins.others import checked

        return checked(self.group, found, self.title)


def plugins(group: str) -> dict[str, Plugin]:
    """All plugins of a group by name, sorted.

    Raises:
        PluginError: two distributions register one name, or an entry-point file cannot be read.
    """
    try:
        found = entrypoints.get_group_all(group)
    except configparser.Error as error:
        raise PluginError(f"an installed package has an entry_points.txt that cannot be read: {error}") from error
    missing_once = functools.cache(_missing)  # many entries of one distribution and extra: its metadata is read once
    result: dict[str, Plugin] = {}
    for entry in found:
        distribution = entry.distro.name if entry.distro else "unknown"
        if entry.name in result:
            raise PluginError(
                f"two plugins are called {entry.name!r} in {group}: one of {result[entry.name].distribution}, one of "
                f"{distribution}; uninstall one of them"
            )
        extra = entry.extras[0] if entry.extras else None
        result[entry.name] = Plugin(
            group=group,
            name=entry.name,
            target=f"{entry.module_name}:{entry.object_name}",
            distribution=distribution,
            version=(entry.distro.version if entry.distro else None) or "",
            extra=extra,
            missing=missing_once(distribution, extra),
            entry_point=entry,
        )
    return dict(sorted(result.items()))


def check_installed(group: str, name: str) -> None:
    """Raises PluginError where the extra of a plugin is not installed; its module may load without."""
    plugin = plugins(group).get(name)
    if plugin is not None and plugin.missing:
        raise plugin.lacking()


def find(group: str, name: str) -> Plugin:
    """The plugin of a name, not yet loaded.

    Raises:
        PluginError: no such name; the near ones are given.
    """
    known = plugins(group)
    if name not in known:
        raise PluginError(f"unknown {singular(group)} {name!r}; {suggestion(name, known, '`selplug plugins`')}")
    return known[name]


def load(group: str, name: str) -> Any:
    """The object behind a name, its contract checked.

    Raises:
        PluginError: see :func:`find` and :meth:`Plugin.load`.
    """
    return find(group, name).load()


#: So many names are shown in an error.
FEW = 12


def suggestion(name: str, known: Iterable[str], lister: str = "") -> str:
    """What was meant by an unknown name: the near ones, in whatever case; all names only where they are few.

    Args:
        lister: what shows all names.
    """
    names = sorted(known) if lister else list(known)
    listed = ", ".join(names[:FEW]) if len(names) <= FEW or not lister else ""
    near = near_names(name, names)
    if near:
        return f"did you mean {', '.join(near)}?{f' There are: {listed}' if listed else ''}"
    return f"there are: {listed or 'none'}" if listed or not names else f"there are {len(names)}: see {lister}"


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """Those that differ in case alone, else up to three that look alike, the likeliest first."""
    lower: dict[str, list[str]] = {}
    for each in known:
        lower.setdefault(each.lower(), []).append(each)
    close = [name.lower()] if name.lower() in lower else difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.6)
    return [each for key in close for each in lower[key]]


def singular(group: str) -> str:
    """``selplug.measures`` -> ``measure``."""
    return _SINGULAR.get(group) or group.rpartition(".")[2].removesuffix("s")


def _missing(distribution: str, extra: str | None) -> tuple[str, ...]:
    """Which requirements of an extra are not installed; reads metadata, imports nothing."""
    if extra is None:
        return ()
    try:
        requirements = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return ()
    missing = []
    for requirement in requirements:
        if re.search(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]", requirement):
            package = re.split(r"[\s;<>=!~\[(]", requirement, maxsplit=1)[0]
            try:
                importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                missing.append(package)
    return tuple(missing)
