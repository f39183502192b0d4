"""Entry points: find, list and load plugins. Ours come through the same door as anybody's.

Finding and listing import no plugin and no host library.
"""

from __future__ import annotations

import configparser
import difflib
import importlib.metadata
import inspect
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import entrypoints

from .core.errors import InputError, PluginError

if TYPE_CHECKING:
    from .core.attribution import Attribution
    from .core.types import Perturbation

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

#: ``name@value`` in a spec sets the option that the plugin calls its level.
LEVEL = "@"
#: ``key=first..last*count`` in a spec stands for ``count`` specs.
_SWEEP = re.compile(r"(?<==)([^,=]*?)\.\.([^,=]*)\*([^,=]*)")
MAX_SWEEP = 100
_NAME = re.compile(r"[\w.-]+")
_OPTION = re.compile(r"[^\W\d]\w*\s*=")
_NEXT_OPTION = re.compile(rf",(?=\s*{_OPTION.pattern})")


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


def plugins(group: str) -> dict[str, Plugin]:
    """All plugins of a group by name, sorted.

    Raises:
        PluginError: two distributions register one name, or an entry-point file cannot be read.
    """
    try:
        found = entrypoints.get_group_all(group)
    except configparser.Error as error:
        raise PluginError(f"an installed package has an entry_points.txt that cannot be read: {error}") from error
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
            missing=_missing(distribution, extra),
            entry_point=entry,
        )
    return dict(sorted(result.items()))


def load(group: str, name: str) -> Any:
    """The object behind a name.

    Raises:
        PluginError: no such name (the near ones are given), a host library is missing (the extra is given), or the
            plugin does not import.
    """
    known = plugins(group)
    if name not in known:
        raise PluginError(f"unknown {_singular(group)} {name!r}; {_suggestion(name, known)}")
    plugin = known[name]
    try:
        return plugin.entry_point.load()
    except Exception as error:  # a plugin may fail in any way at import; the message must still name it
        if plugin.missing:
            raise PluginError(
                f"{name} needs {', '.join(plugin.missing)}, which is not installed: {plugin.install_hint}"
            ) from error
        raise PluginError(f"{name} of {plugin.distribution} ({plugin.target}) cannot be loaded: {error!r}") from error


def perturbations(spec: str) -> list[Perturbation]:
    """``name``, ``name@level`` or either with ``:key=value,key=value`` as perturbations, their options checked.

    A value is a number (``0.1``, ``1e-3``), a fraction (``8/255``), ``true`` or ``false``, or a word. ``@level`` sets
    the option that the factory names in its attribute ``level``. A factory with an attribute ``expand`` may stand for
    several: ``expand(options)`` gives their specs. One value may be a sweep, see :func:`sweep`. A factory with an
    attribute ``positional`` names the option that a text without ``key=`` right behind the colon sets, as in
    ``cifar10c:DIR``; one with an attribute ``label`` gives each perturbation its name, ``label(options)``.

    Returns:
        One perturbation under the spec as its name (or that of ``label``), or all those that it expands to.

    Raises:
        InputError: the text does not parse, an option is unknown, or a value is of the wrong type.
        PluginError: unknown name, or its host library is missing.
    """
    from .core.types import Perturbation

    swept = sweep(spec)
    if swept:
        return [perturbation for each in swept for perturbation in perturbations(each)]
    name = spec_name(spec)
    if not _NAME.fullmatch(name):
        parse_spec(spec)  # says what is wrong with it
    factory = load("selplug.perturbations", name)
    name, options = parse_spec(spec, getattr(factory, "positional", None))
    if LEVEL in options:
        level = getattr(factory, "level", None)
        if level is None or level in options:
            reason = f"takes no {LEVEL}" if level is None else f"gives {level} twice"
            hint = _namesake(name, options)
            raise InputError(f"{spec.strip()!r}: {name} {reason}; expected name:key=value,key=value{hint}")
        options[level] = options.pop(LEVEL)
    try:
        options = check_options(name, factory, options)
    except InputError as error:
        raise InputError(f"{error}{_namesake(name, options)}") from error
    specs = factory.expand(options) if hasattr(factory, "expand") else None
    if specs is not None:
        return [perturbation for each in specs for perturbation in perturbations(each)]
    label = factory.label(options) if hasattr(factory, "label") else spec.strip()
    return [Perturbation(label, factory, options, getattr(factory, "kind", "attack"), spec.strip())]


def _namesake(name: str, options: Mapping[str, Any]) -> str:
    """Names the perturbation that takes these options and whose name differs by ``-`` and ``_`` alone, if any."""
    other = name.translate(str.maketrans("-_", "_-"))
    if other == name or other not in plugins("selplug.perturbations"):
        return ""
    try:
        factory = load("selplug.perturbations", other)
    except PluginError:
        return ""
    taken = {*inspect.signature(factory).parameters} | ({LEVEL} if hasattr(factory, "level") else set())
    return f"; {other} is another perturbation, which takes that" if options.keys() <= taken else ""


def sweep(spec: str) -> list[str]:
    """``"pgd:eps=0..16/255*5"`` -> ``["pgd:eps=0", "pgd:eps=4/255", ..., "pgd:eps=16/255"]``; [] without a sweep.

    Raises:
        InputError: an end is no number, the count is not from 2 to 100, there are several sweeps, or the first end
            seems to lack the denominator of the last.
    """
    found = list(_SWEEP.finditer(spec))
    if not found:
        return []
    ends = [found[0][1].strip(), found[0][2].strip()]
    low, high = (parse_value(end) for end in ends)
    count = parse_value(found[0][3].strip())
    numbers = all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in (low, high))
    if len(found) > 1 or not numbers or type(count) is not int or not 2 <= count <= MAX_SWEEP:
        raise InputError(
            f"{spec.strip()!r}: expected one sweep such as eps=0..16/255*5, first and last value and how many, "
            f"2 to {MAX_SWEEP}"
        )
    if float(low) > float(high) and "/" in ends[1] and "/" not in ends[0]:
        # "1..8/255" reads as 1/255 and would mean 1, a change of every pixel by the whole range.
        raise InputError(
            f"{spec.strip()!r}: the first value is {ends[0]}, above the last, {ends[1]}; did you mean "
            f"{ends[0]}/{ends[1].partition('/')[2]}..{ends[1]}?"
        )
    denominator = next((text.partition("/")[2] for text in reversed(ends) if "/" in text), "")
    values = (float(low) + (float(high) - float(low)) * place / (count - 1) for place in range(count))
    texts = [_as_fraction(value, denominator) for value in values]
    return [f"{spec[: found[0].start()]}{text}{spec[found[0].end() :]}".strip() for text in texts]


def _as_fraction(value: float, denominator: str) -> str:
    if not denominator or value == 0:
        return f"{value:.6g}"
    return f"{value * float(denominator):.6g}/{denominator}"


def split_specs(text: str) -> list[str]:
    """``"apgd:eps=0.1,steps=20,fab"`` -> ``["apgd:eps=0.1,steps=20", "fab"]``.

    What has an ``=`` but no name before it is an option of the spec before.
    """
    specs: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if specs and "=" in part and ":" not in part:
            specs[-1] += f"{',' if ':' in specs[-1] else ':'}{part}"
        else:
            specs.append(part)
    return specs


def perturbation(spec: str) -> Perturbation:
    """The one perturbation of a spec, see :func:`perturbations`.

    Raises:
        InputError: it stands for several, too.
    """
    found = perturbations(spec)
    if len(found) != 1:
        raise InputError(f"expected one perturbation, got {spec!r}, which stands for {len(found)}")
    return found[0]


def spec_name(spec: str) -> str:
    """The plugin's name in a spec."""
    return spec.partition(":")[0].partition(LEVEL)[0].strip()


def attribution(spec: str) -> Attribution:
    """``name`` or ``name:key=value`` as an attribution method; options of its constructor and of ``attribute`` alike.

    Raises:
        InputError: the text does not parse, an option is unknown, of the wrong type, or missing.
        PluginError: unknown name, its host library is missing, or it does not follow Captum's conventions.
    """
    from .core.attribution import Attribution

    name, options = parse_spec(spec)
    factory: Any = load("selplug.attributions", name)
    if not callable(getattr(factory, "attribute", None)):
        raise PluginError(f"{name}: expected a class with a method attribute, as those of Captum, got {factory!r}")
    call = list(inspect.signature(factory.attribute).parameters.values())[1:]  # without self
    # The first of the constructor is the model, the first of attribute the images.
    sides = [
        [p for p in parameters[1:] if p.name not in ("layer", "target", "additional_forward_args")]
        for parameters in (list(inspect.signature(factory).parameters.values()), call)
    ]
    _check_parameters(name, [*sides[0], *sides[1]], options)
    init = {key: value for key, value in options.items() if key in {p.name for p in sides[0]}}
    return Attribution(spec.strip(), factory, init, {key: v for key, v in options.items() if key not in init})


def parse_spec(spec: str, positional: str | None = None) -> tuple[str, dict[str, Any]]:
    """``"pgd:eps=0.1,steps=20"`` -> ``("pgd", {"eps": 0.1, "steps": 20})``; ``"fog@3"`` -> ``("fog", {"@": 3})``.

    With ``positional`` a text right behind the colon that does not begin as ``key=`` is the value of that option. The
    value stays a word, and only a comma before ``key=`` ends it, so that it can be a path.
    """
    head, _, rest = spec.strip().partition(":")
    name, at, level = (part.strip() for part in head.partition(LEVEL))
    options: dict[str, Any] = {LEVEL: parse_value(level)} if at else {}
    items = [part.strip() for part in (_NEXT_OPTION.split(rest) if positional else rest.split(","))]
    if positional and items[0] and not _OPTION.match(items[0]):
        items[0] = f"{positional}={items[0]}"
    for item in filter(None, items):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not (equals and key.isidentifier() and value):
            raise InputError(f"{spec!r}: expected name:key=value,key=value, got {item!r}")
        if key in options:
            raise InputError(f"{spec!r}: option {key} is given twice")
        options[key] = value if key == positional else parse_value(value)
    if not _NAME.fullmatch(name):
        raise InputError(f"{spec!r}: expected name:key=value,key=value, got the name {name!r}")
    return name, options


def parse_value(text: str) -> bool | int | float | str:
    """A number, a fraction of two numbers, true or false; anything else stays a word."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    numerator, slash, denominator = text.partition("/")
    try:
        if slash:
            return float(numerator) / float(denominator)
        return int(text)
    except ZeroDivisionError:
        raise InputError(f"division by zero in {text!r}") from None
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


def check_options(name: str, factory: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options in force: those given, checked against the defaults of the factory's signature, and those defaults.

    Raises:
        InputError: an unknown option (the valid ones are given), a value of another type than its default, a number
            that is not finite, or a required option that is missing.
    """
    parameters = list(inspect.signature(factory).parameters.values())[1:]  # the first is the model
    return _check_parameters(name, parameters, options)


def _check_parameters(name: str, parameters: list[inspect.Parameter], options: Mapping[str, Any]) -> dict[str, Any]:
    known = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    checked = {key: p.default for key, p in known.items() if p.default is not p.empty}
    for key, value in options.items():
        if key not in known and not open_ended:
            raise InputError(f"{name} has no option {key!r}; {_suggestion(key, known)}")
        checked[key] = _check_type(f"{name}: option {key}", value, checked.get(key))
    for key in known:
        if key not in checked:
            raise InputError(f"{name} needs the option {key}, as in {name}:{key}=...")
    return checked


def keyword_arguments(items: Iterable[str], what: str) -> dict[str, Any]:
    """``["a=1", "b=x"]`` -> ``{"a": 1, "b": "x"}``; ``what`` is the option that errors name."""
    arguments = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not (equals and key.isidentifier()):
            raise InputError(f"{what}: expected key=value, got {item!r}")
        arguments[key] = parse_value(value)
    return arguments


def _check_type(what: str, value: Any, default: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{what}: expected a finite number, got {value}")
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise InputError(f"{what}: expected true or false, got {value!r}")
    elif isinstance(default, float):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(f"{what}: expected a number such as 0.03 or 8/255, got {value!r}")
        return float(value)
    elif isinstance(default, int):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(f"{what}: expected a number, got {value!r}")
    elif isinstance(default, str) and not isinstance(value, str):
        raise InputError(f"{what}: expected a word, got {value!r}")
    return value


def _suggestion(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.6)
    if near:
        return f"did you mean {', '.join(near)}? There are: {', '.join(names)}"
    return f"there are: {', '.join(names) or 'none'}"


def _singular(group: str) -> str:
    return group.rpartition(".")[2].removesuffix("s")


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
