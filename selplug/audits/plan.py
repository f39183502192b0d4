from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import InputError
from ..report.typed_json import record
from ..specs import split_specs

SCHEMA_VERSION = "1.0"
#: Entries of a plan's JSON that say what it is, and what nobody asks for.
_ABOUT = ("schema_version", "digest")


@dataclass(frozen=True)
class AuditPlan:
    """All that an audit is asked, as text and numbers; the defaults of flags and Python arguments are those of here.

    Fields are called as the flags of ``selplug audit``, with underscores. Flags, Python arguments and a file
    (``--config``) are three ways to write the same plan; :func:`~selplug.audits.api.audit_plan` carries it out and the
    report records it.

    Args:
        model: what the subject makes a model of; in the plan of :func:`selplug.audit` what the model is called.
        subject: the plugin that makes model and data; None where both were given from Python.
        options: those of the subject, by name; what is not among them has the subject's default.
        perturb, worst_case: specs, see :mod:`selplug.specs`.
        baseline: what corruption errors are relative to, ``alexnet`` or a report.
        measure: names of measures.
        gradient_probes: directions per image of the measure ``gradients``, None for the default.
        gradient_conditions: globs over conditions that get gradients, None for all.
        layers: globs over module names, None for every activation.
        seed: of the choice of images, the perturbations and the null level.
        batch_size: images per batch. It decides numbers: every batch has a seed of its own.
        device: None for CUDA if there is one.
        amp, amp_dtype: measure in mixed precision; None for ``float16`` on CUDA and ``bfloat16`` elsewhere.
        channels_last: memory layout.
        torchcompile: backend for the model that attacks see, None for none.
    """

    model: str
    subject: str | None = "timm"
    options: Mapping[str, Any] = field(default_factory=dict)
    perturb: tuple[str, ...] = ()
    worst_case: tuple[str, ...] = ()
    baseline: str | None = None
    measure: tuple[str, ...] = ("selectivity", "dimensionality")
    gradient_probes: int | None = None
    gradient_conditions: tuple[str, ...] | None = None
    layers: tuple[str, ...] | None = None
    seed: int = 0
    batch_size: int | None = 128
    device: str | None = None
    amp: bool = False
    amp_dtype: str | None = None
    channels_last: bool = False
    torchcompile: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """One flat mapping, ready for JSON and YAML: the plan's fields, and the options of the subject beside them."""
        own = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "options"}
        lists = {name: list(value) if isinstance(value, tuple) else value for name, value in own.items()}
        options = {name: value for name, value in self.options.items() if value is not None}
        plan = {"schema_version": SCHEMA_VERSION, **lists, **options}
        return json.loads(json.dumps(plan))  # as it will be read back

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], options: Collection[str] = ()) -> AuditPlan:
        """The plan of such a mapping; entries that are missing have their defaults.

        Args:
            data: names may have dashes; a list may be given as its only entry.
            options: the names of the subject's own options.

        Raises:
            InputError: an entry is unknown, missing or of the wrong type.
        """
        fields = {each.name: each for each in dataclasses.fields(cls) if each.name != "options"}
        own: dict[str, Any] = {}
        others: dict[str, Any] = {}
        for key, value in data.items():
            name = str(key).replace("-", "_")
            if name in fields:
                own[name] = _as_list(name, value) if "tuple" in str(fields[name].type) else value
            elif name in options:
                others[name] = value
            elif name not in _ABOUT:
                known = [*fields, *options]
                near = difflib.get_close_matches(name, known, n=3)
                hint = f"did you mean {', '.join(near)}?" if near else f"there are: {', '.join(known)}"
                raise InputError(f"a plan has no entry {key!r}; {hint}")
        _check_version(data.get("schema_version", SCHEMA_VERSION))
        if own.get("model") is None:
            raise InputError("the plan names no model; give MODEL, or model in the file")
        plan = record(cls, {**own, "options": others}, "")
        for name, least in (("seed", 0), ("batch_size", 1), ("gradient_probes", 2)):
            value = getattr(plan, name)
            if value is not None and value < least:
                raise InputError(f"{name}: expected a whole number of at least {least}, got {value}")
        if plan.amp_dtype not in (None, "float16", "bfloat16"):
            raise InputError(f"amp_dtype: expected float16 or bfloat16, got {plan.amp_dtype!r}")
        return plan


def _as_list(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return split_specs(value) if name == "worst_case" else [value]


def _check_version(version: Any) -> None:
    if str(version).partition(".")[0] != SCHEMA_VERSION.partition(".")[0]:
        raise InputError(f"expected a plan of schema_version {SCHEMA_VERSION.partition('.')[0]}.x, got {version!r}")
