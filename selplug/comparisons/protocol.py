"""What a comparison was meant to decide, written down before any number was known, and what came of it."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from .. import registry
from ..core.errors import InputError
from ..report.style import listing, printable
from .claims import CLAIMS
from .network import Network
from .sources import Common

FIELDS = ("claims", "alphas", "conditions", "note")


@dataclass(frozen=True)
class Protocol:
    """``claims`` are ids; ``alphas`` those of standard networks, ``conditions`` names or globs, both None for all.

    ``sha256`` is of the file, or of the entries as JSON where they were given in Python; ``file`` is its name.
    """

    claims: tuple[str, ...]
    alphas: tuple[float, ...] | None
    conditions: tuple[str, ...] | None
    note: str
    sha256: str
    file: str | None = None

    def fits(self, network: Network) -> bool:
        """Whether a network is one that the protocol names: alphas are those of standard networks."""
        if self.alphas is None or network.training.robust:
            return True
        alpha = network.training.alpha
        return alpha is not None and any(math.isclose(alpha, planned) for planned in self.alphas)


def read_protocol(given: str | Path | Mapping[str, Any]) -> Protocol:
    """A protocol from a YAML, JSON or TOML file, or from its entries.

    Raises:
        InputError: there is no such file, it cannot be parsed, or an entry is unknown or none of its kind.
    """
    if isinstance(given, Mapping):
        data: Any = given
        content = json.dumps(data, sort_keys=True, default=str).encode()
        return _protocol(data, "the protocol", hashlib.sha256(content).hexdigest(), None)
    if not isinstance(given, (str, Path)):
        raise InputError(f"--protocol: expected a file or a mapping of entries, got {type(given).__name__}")
    path = Path(given)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"--protocol: cannot read {path} ({error.strerror or error})") from error
    data = _parsed(path, content)
    return _protocol(data, str(path), hashlib.sha256(content).hexdigest(), path.name)


def _parsed(path: Path, content: bytes) -> Any:
    import yaml

    try:
        text = content.decode("utf-8")
        if path.suffix.lower() != ".toml":
            return yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"--protocol: {path} is no YAML or JSON: {' '.join(str(error).split())}") from error
    try:
        import tomllib
    except ImportError as error:
        raise InputError(f"--protocol: TOML needs Python 3.11; write {path} as YAML or JSON") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"--protocol: {path} is no TOML: {error}") from error


def _protocol(data: Any, where: str, sha256: str, file: str | None) -> Protocol:
    if not isinstance(data, Mapping) or "claims" not in data:
        raise InputError(
            f"--protocol: expected entries such as 'claims: [{CLAIMS[0].id}]' in {where}, got "
            f"{listing(map(str, data)) if isinstance(data, Mapping) and data else type(data).__name__}"
        )
    for key in data:
        if key not in FIELDS:
            raise InputError(f"--protocol: unknown entry {_unknown(str(key), FIELDS)}")
    known = [claim.id for claim in CLAIMS]
    claims = _texts(data["claims"], "claims")
    for claim in claims:
        if claim not in known:
            raise InputError(f"--protocol: unknown claim {_unknown(claim, known)}")
    if not claims:
        raise InputError(f"--protocol: expected at least one claim of {listing(known)}")
    alphas = data.get("alphas")
    if alphas is not None and (
        not isinstance(alphas, Sequence)
        or isinstance(alphas, str)
        or not all(isinstance(a, (int, float)) and not isinstance(a, bool) and math.isfinite(a) for a in alphas)
    ):
        raise InputError(f"--protocol: alphas: expected a list of numbers such as [-1, 0, 1], got {alphas!r}")
    conditions = data.get("conditions")
    return Protocol(
        claims,
        None if alphas is None else tuple(float(alpha) for alpha in alphas),
        None if conditions is None else _texts(conditions, "conditions"),
        str(data.get("note") or ""),
        sha256,
        file,
    )


def _texts(given: Any, what: str) -> tuple[str, ...]:
    if not isinstance(given, Sequence) or isinstance(given, str) or not all(isinstance(one, str) for one in given):
        raise InputError(f"--protocol: {what}: expected a list of names, got {given!r}")
    twice = sorted({one for one in given if list(given).count(one) > 1})
    if twice:
        raise InputError(f"--protocol: {what}: {printable(twice[0])} is there twice")
    return tuple(given)


def _unknown(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, 3, 0.5)
    return f"{printable(name)}; " + (f"did you mean {' or '.join(near)}?" if near else f"expected {listing(known)}")


def planned_conditions(protocol: Protocol, shared: Common) -> tuple[Common, list[str]]:
    """The reports with the conditions of the protocol alone, clean images among them, and those that are missing.

    Raises:
        InputError: a condition that neither a report has nor a perturbation by that name could make.
    """
    if protocol.conditions is None:
        return shared, []
    kept, missing = {name for name, kind in shared.kinds.items() if kind == "clean"}, []
    for pattern in protocol.conditions:
        found = [name for name in shared.kinds if name == pattern or fnmatchcase(name, pattern)]
        kept.update(found)
        if not found:
            _check_known(pattern, shared)
            missing.append(pattern)
    return replace(shared, kinds={name: kind for name, kind in shared.kinds.items() if name in kept}), missing


def _check_known(pattern: str, shared: Common) -> None:
    every = {c.name for source in shared.sources for c in source.report.result.conditions}
    plugins = {_plugin(name) for name in (*registry.plugins("selplug.perturbations"), *every)}
    if any(fnmatchcase(name, _plugin(pattern)) for name in plugins):
        return
    near = difflib.get_close_matches(pattern, sorted(every), 1, 0.6)
    # A spec is nearer to the condition that was meant than to the perturbation's bare name.
    hint = f"{printable(pattern)}; did you mean {near[0]}?" if near else _unknown(_plugin(pattern), sorted(plugins))
    raise InputError(f"--protocol: unknown condition {hint}")


def _plugin(name: str) -> str:
    return name.partition(":")[0].partition("@")[0]


def outcome(
    protocol: Protocol, shared: Common, planned: Common, missing: Iterable[str], networks: Sequence[Network]
) -> dict[str, Any]:
    """What became of a protocol, JSON-ready."""
    alphas = {network.training.alpha for network in networks if not network.training.robust}
    return {
        "file": protocol.file,
        "sha256": protocol.sha256,
        "note": protocol.note,
        "claims": list(protocol.claims),
        "alphas": None if protocol.alphas is None else list(protocol.alphas),
        "conditions": None if protocol.conditions is None else list(protocol.conditions),
        "missing": [
            *(f"condition {name}" for name in missing),
            *(
                f"alpha {alpha:g}"
                for alpha in protocol.alphas or ()
                if not any(known is not None and math.isclose(known, alpha) for known in alphas)
            ),
        ],
        "not_in_protocol": {
            "claims": [claim.id for claim in CLAIMS if claim.id not in protocol.claims],
            "conditions": [name for name in shared.kinds if name not in planned.kinds],
            "networks": [network.name for network in networks if not protocol.fits(network)],
        },
    }
