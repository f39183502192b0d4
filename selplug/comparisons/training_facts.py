"""The training of a network as recorded in its report, and which networks differ only in the seed.

Networks of a *group* differ only in the seed. Networks of a *family* differ only in the seed and the selectivity
regularizer, so the regularizer causes their differences in selectivity.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from .. import registry, specs
from ..audits.record import AuditRecord
from ..core.errors import InputError, PluginError
from ..core.plugins.perturbation import factory_members
from ..report.style import listing, printable
from .sources import Source

#: Flags of timm's train script for paths, the use of the machine, logging and validation.
_ASIDE = {
    "seed", "output", "experiment", "config", "workers", "pin_mem", "device", "device_modules", "local_rank", "rank",
    "world_size", "distributed", "prefetcher", "no_prefetcher", "log_interval", "log_wandb", "checkpoint_hist",
    "recovery_interval", "save_images", "resume", "no_resume_opt", "validation_batch_size", "eval_metric", "tta",
    "use_multi_epochs_loader", "dataset_download", "dataset_trust_remote_code", "torchscript", "torchcompile",
    "torchcompile_mode", "fuser", "channels_last", "grad_checkpointing", "synchronize_step",
}  # fmt: skip
_SELECTIVITY, _ROBUST = ("selectivity_",), ("adversarial", "trades_")
_LONGEST_NAME = 70


@dataclass(frozen=True)
class Training:
    """The training of a network, as recorded in its report.

    ``arguments`` are the flags without seed, paths and logging, None if unknown. ``robust``: trained on adversarial
    images; None if unknown. ``earlier``: the comparison also has a later checkpoint of the same run.
    """

    group: str
    family: str = field(repr=False)
    arguments: Mapping[str, Any] | None = field(repr=False)
    robust: bool | None
    seed: int | None = None
    epoch: int | None = None
    run: str = field(default="", repr=False)
    earlier: bool = False

    @property
    def alpha(self) -> float | None:
        """Alpha of the selectivity regularizer, 0 without one; None if unknown, or if it changed over epochs."""
        if self.arguments is None or self.arguments.get("selectivity_schedule"):
            return None
        return float(self.arguments.get("selectivity_alpha", 0.0))

    @property
    def but_for_robustness(self) -> str | None:
        """The same text for networks that differ only in adversarial training and the seed; None if unknown."""
        return None if self.arguments is None else _key(self.arguments, without=_ROBUST)


def trainings(sources: Sequence[Source], robust: Collection[str] = ()) -> list[Training]:
    """One :class:`Training` per report.

    Args:
        sources: the reports to compare.
        robust: globs over names and labels. Networks of unknown training that match count as trained on adversarial
            images; if there are any globs, all others of unknown training count as not robust.

    Raises:
        InputError: a glob matches no report, networks with the same label differ in more than the seed, or two reports
            have the same checkpoint.
    """
    for pattern in robust:
        if not any(_fits(source, [pattern]) for source in sources):
            raise InputError(
                f"--robust {printable(pattern)} matches no report; there are "
                f"{listing(source.name for source in sources)}"
            )
    arguments = [_arguments(source.report) for source in sources]
    earlier = _earlier(sources, arguments)
    names = _group_names(sources, arguments, earlier)
    found = []
    for source, own, early, name in zip(sources, arguments, earlier, names, strict=True):
        marked = _fits(source, robust) if robust else None
        is_robust = marked if own is None else marked or _adversarial(own.get("adversarial"))
        found.append(
            Training(
                group=name,
                family=family_of(source.report.subject.get("model"), is_robust, own),
                arguments=own,
                robust=is_robust,
                seed=_run(source.report).get("seed", 0) if own is not None else None,
                epoch=_epoch(source.report),
                run=_run_key(source, own),
                earlier=early,
            )
        )
    _check(sources, found)
    return found


def family_of(model: Any, robust: bool | None, arguments: Mapping[str, Any] | None) -> str:
    """The same text for networks of one family."""
    flags = "?" if arguments is None else _key(arguments, without=_SELECTIVITY)
    return f"{printable(model)}, robust: {robust}, {flags}"


def _run(report: AuditRecord) -> Mapping[str, Any]:
    """The flags of the training run that are set, without those that are 0, false or empty."""
    run = report.subject.get("training_run")
    flags = run.get("arguments") if isinstance(run, Mapping) else None
    return flags if isinstance(flags, Mapping) else {}


def _arguments(report: AuditRecord) -> dict[str, Any] | None:
    flags = _run(report)
    if not flags:
        return None
    kept = {
        name: value for name, value in flags.items() if name not in _ASIDE and not name.startswith(("wandb_", "val_"))
    }
    for name in ("data_dir", "data"):
        if name in kept:  # the same data may be in another place
            kept[name] = PurePath(str(kept[name])).name
    if not kept.get("selectivity_alpha") and not kept.get("selectivity_schedule"):  # then the others have no effect
        kept = {name: value for name, value in kept.items() if not name.startswith(_SELECTIVITY)}
    return kept


def _key(arguments: Mapping[str, Any], without: tuple[str, ...] = ()) -> str:
    kept = {name: value for name, value in arguments.items() if not without or not name.startswith(without)}
    return json.dumps(kept, sort_keys=True, default=str)


def _epoch(report: AuditRecord) -> int | None:
    checkpoint = report.subject.get("checkpoint")
    epoch = checkpoint.get("epoch") if isinstance(checkpoint, Mapping) else None
    return epoch if isinstance(epoch, int) else None


def _sha256(report: AuditRecord) -> str | None:
    checkpoint = report.subject.get("checkpoint")
    return checkpoint.get("sha256") if isinstance(checkpoint, Mapping) else None


def _run_key(source: Source, arguments: Mapping[str, Any] | None) -> str:
    """The same text for all checkpoints of a run, empty if unknown."""
    if arguments is None:
        return ""
    return f"{_run(source.report).get('seed', 0)} {source.report.subject['training_run'].get('file')} {_key(arguments)}"


def _earlier(sources: Sequence[Source], arguments: Sequence[Mapping[str, Any] | None]) -> list[bool]:
    last: dict[str, int] = {}
    keys = [_run_key(source, own) for source, own in zip(sources, arguments, strict=True)]
    epochs = [_epoch(source.report) for source in sources]
    for key, epoch in zip(keys, epochs, strict=True):
        if key and epoch is not None:
            last[key] = max(last.get(key, epoch), epoch)
    return [epoch is not None and epoch < last.get(key, epoch) for key, epoch in zip(keys, epochs, strict=True)]


def _adversarial(spec: Any) -> bool:
    """Whether a spec of ``--adversarial`` is an attack: it may also be noise or a corruption."""
    if not spec:
        return False
    try:
        plugin = registry.find("selplug.perturbations", specs.spec_name(str(spec)))
        return factory_members(plugin.load(), plugin.title).kind == "attack"
    except PluginError:  # TRADES has its own name, and what trained a network need not be installed to compare it
        return True


def _fits(source: Source, patterns: Collection[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, p) for p in patterns for name in (source.name, source.group) if name)


def _group_names(
    sources: Sequence[Source], arguments: Sequence[Mapping[str, Any] | None], earlier: Sequence[bool]
) -> list[str]:
    """The name of each report's group: a label that several reports share, else the flags that differ between groups.

    A group of one network has the label of this network. If the flags give no name, the group has the name of its first
    report.
    """
    keys = [None if own is None else _key(own) for own in arguments]
    known = {key: own for key, own in zip(keys, arguments, strict=True) if own is not None}
    flags = sorted({name for own in known.values() for name in own}, key=_naming_order)
    apart = [flag for flag in flags if len({json.dumps(own.get(flag), default=str) for own in known.values()}) > 1]
    texts = {
        key: ", ".join(filter(None, (_naming(flag, own.get(flag)) for flag in apart))) for key, own in known.items()
    }
    labels = [source.group for source in sources]
    names: list[str] = []
    firsts: dict[str, str] = {}
    for source, key, early in zip(sources, keys, earlier, strict=True):
        if source.group and labels.count(source.group) > 1:
            name = source.group
        elif key is None or (source.group and keys.count(key) == 1):
            name = source.group or source.name
        else:
            usable = texts[key] and len(texts[key]) <= _LONGEST_NAME and list(texts.values()).count(texts[key]) == 1
            name = texts[key] if usable else firsts.setdefault(key, source.name)
        names.append(f"{name}, epoch {_epoch(source.report)}" if early else name)
    return names


def _naming_order(flag: str) -> tuple[bool, bool, str]:
    return flag != "model", not flag.startswith(_SELECTIVITY), flag


def _naming(flag: str, value: Any) -> str:
    if flag == "selectivity_alpha":
        return f"alpha {float(value or 0):+g}" if value else "alpha 0"
    return f"{flag.replace('_', ' ')} {printable(value)}" if value is not None else ""


def _check(sources: Sequence[Source], found: Sequence[Training]) -> None:
    checkpoints: dict[str, Source] = {}
    labels: dict[str, tuple[Source, Training]] = {}
    for source, training in zip(sources, found, strict=True):
        sha256 = _sha256(source.report)
        if sha256:
            twin = checkpoints.setdefault(sha256, source)
            if twin is not source:
                raise InputError(
                    f"{twin} and {source} are audits of the same checkpoint ({sha256[:12]}); give one of them"
                )
        if training.group != source.group:
            continue
        other, known = labels.setdefault(training.group, (source, training))
        if known.arguments != training.arguments or known.family != training.family:
            raise InputError(
                f"the label {printable(source.group)} is given to {other} and {source}, which differ in more than the "
                "seed of their training; give each training its own label"
            )
