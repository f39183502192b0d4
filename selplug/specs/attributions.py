from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ..core.errors import PluginError
from ..registry import load
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
    factory: Any = load("selplug.attributions", name)
    if not callable(getattr(factory, "attribute", None)):
        raise PluginError(f"{name}: expected a class with a method attribute, as in Captum, got {factory!r}")
    call = list(inspect.signature(factory.attribute).parameters.values())[1:]  # without self
    # The first parameter of the constructor is the model, the first of attribute the images.
    sides = [
        [p for p in parameters[1:] if p.name not in ("layer", "target", "additional_forward_args")]
        for parameters in (list(inspect.signature(factory).parameters.values()), call)
    ]
    check_parameters(name, [*sides[0], *sides[1]], options)
    init = {key: value for key, value in options.items() if key in {p.name for p in sides[0]}}
    return Attribution(spec.strip(), factory, init, {key: v for key, v in options.items() if key not in init})
