from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ..registry import find
from .language import parse_spec
from .options import check_parameters

if TYPE_CHECKING:
    from ..core.types import Attribution


def attribution(spec: str) -> Attribution:
    """The attribution method of ``name`` or ``name:key=value``; options are those of its constructor and ``attribute``.

    Raises:
        InputError: the syntax is wrong, or an option is unknown, missing or of the wrong type.
        PluginError: the name is unknown, its host library is missing, or it does not follow Captum's conventions.
    """
    from ..core.types import Attribution

    name, options = parse_spec(spec)
    plugin = find("selplug.attributions", name)
    factory = plugin.load()
    constructor, call = attribution_options(factory)
    check_parameters(name, [*constructor, *call], options)
    init = {key: value for key, value in options.items() if key in {p.name for p in constructor}}
    rest = {key: value for key, value in options.items() if key not in init}
    return Attribution(spec.strip(), factory, init, rest, plugin.title)


def attribution_options(factory: Any) -> tuple[list[inspect.Parameter], list[inspect.Parameter]]:
    """The options of a method: parameters of its constructor and of ``attribute``, without those that are given."""
    # The first of the constructor is the model, those of attribute are the object and the images.
    own = list(inspect.signature(factory).parameters.values())[1:]
    call = list(inspect.signature(factory.attribute).parameters.values())[2:]
    given = ("layer", "target", "additional_forward_args")
    return [p for p in own if p.name not in given], [p for p in call if p.name not in given]
