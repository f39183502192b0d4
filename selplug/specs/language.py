from __future__ import annotations

import re
from typing import Any

from ..core.errors import InputError

#: ``name@value`` in a spec sets the option that the plugin declares as its level.
LEVEL = "@"
#: ``key=first..last*count`` in a spec stands for ``count`` specs.
_SWEEP = re.compile(r"(?<==)([^,=]*?)\.\.([^,=]*)\*([^,=]*)")
MAX_SWEEP = 100
_NAME = re.compile(r"[\w.-]+")
_OPTION = re.compile(r"[^\W\d]\w*\s*=")
_NEXT_OPTION = re.compile(rf",(?=\s*{_OPTION.pattern})")


def sweep(spec: str) -> list[str]:
    """``"pgd:eps=0..16/255*5"`` -> ``["pgd:eps=0", "pgd:eps=4/255", ..., "pgd:eps=16/255"]``; [] without a sweep.

    Raises:
        InputError: an end is not a number, the count is not from 2 to 100, there are several sweeps, or the first end
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
            f"{spec.strip()!r}: expected one sweep such as eps=0..16/255*5: first value, last value, and their number "
            f"from 2 to {MAX_SWEEP}"
        )
    if float(low) > float(high) and "/" in ends[1] and "/" not in ends[0]:
        # In "1..8/255" users mean 1/255, but 1 would change every pixel by the whole range.
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

    A part with ``=`` but without a name belongs to the previous spec as an option.
    """
    specs: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if specs and "=" in part and ":" not in part:
            specs[-1] += f"{',' if ':' in specs[-1] else ':'}{part}"
        else:
            specs.append(part)
    return specs


def spec_name(spec: str) -> str:
    """The plugin's name in a spec."""
    return spec.partition(":")[0].partition(LEVEL)[0].strip()


def parse_spec(spec: str, positional: str | None = None) -> tuple[str, dict[str, Any]]:
    """``"pgd:eps=0.1,steps=20"`` -> ``("pgd", {"eps": 0.1, "steps": 20})``; ``"fog@3"`` -> ``("fog", {"@": 3})``.

    With ``positional``, text directly after the colon that does not begin with ``key=`` is the value of this option.
    The value is not parsed, and only a comma before ``key=`` ends it, so it can be a path.
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
    """A number, a fraction of two numbers, or a bool; anything else is returned as text."""
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
