from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import contracts
from ..errors import PluginError
from ..subject import Subject
from .blame import blamed
from .reading import Attributes, check_call, check_spelling


@dataclass(frozen=True)
class LoadedSubject:
    """A subject plugin, its optional members read and checked; see :class:`contracts.SubjectMembers`.

    It is called as the plugin is: ``(model, options) -> Subject``. Errors name it, but for those of the operating
    system, which name a file.
    """

    found: contracts.SubjectPlugin
    plugin: str
    add_arguments: Callable[[argparse._ArgumentGroup], None] | None = field(default=None, repr=False)
    aside: tuple[str, ...] = ()

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self.found.__doc__

    def __call__(self, model: str, options: Mapping[str, Any]) -> Subject:
        with blamed(self.plugin, passing=(OSError,)):
            subject = self.found(model, options)
        if not isinstance(subject, Subject):
            raise PluginError(f"{self.plugin}: expected to get a selplug.Subject, got {type(subject).__name__}")
        return subject


def loaded_subject(found: Any, plugin: str) -> LoadedSubject:
    """Raises PluginError, under the name ``plugin``, if the subject breaks its contract."""
    check_call(found, plugin, "model", "options")
    check_spelling(found, contracts.names(contracts.SubjectMembers), plugin)
    read = Attributes(found, plugin)
    return LoadedSubject(found, plugin, read.function("add_arguments"), read.texts("aside"))
