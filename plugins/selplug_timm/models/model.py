"""Builds a model from its spec: a timm name, ``hf-hub:``, ``local-dir:``, or a factory in a Python file."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.data.config import resolve_data_config
from torch import Tensor, nn

from selplug.core.errors import InputError
from selplug.core.words import plural

from ..options import Options
from . import cifar as _registers_our_models  # noqa: F401
from .user_file import build_from_file, is_file_spec

_logger = logging.getLogger(__name__)

#: Arguments that would make timm load weights past our checks of --pretrained and --checkpoint.
RESERVED = ("checkpoint_path", "features_only", "pretrained", "scriptable", "exportable")


def build_model(spec: str, options: Options, *, new_classifier: bool = False) -> nn.Module:
    """The model on the CPU in eval mode, with pretrained weights if requested; no checkpoint is loaded.

    Args:
        spec: the model spec.
        options: the options of the subject.
        new_classifier: whether pretrained weights may get a new random classifier for another number of classes.

    Raises:
        InputError: the model is unknown, its weights are not available, or it does not accept the arguments.
    """
    asked = {"num_classes": options.num_classes, "in_chans": options.channels, "global_pool": options.gp}
    asked = {key: value for key, value in asked.items() if value is not None}
    for key in options.model_kwargs:
        if key in RESERVED or key in asked:
            raise InputError(f"option model_kwargs: {key} has its own option, leave it out here")
    if is_file_spec(spec):
        if options.pretrained:
            raise InputError(
                f"{spec} has no pretrained weights to download; load them in its factory, or give --checkpoint FILE"
            )
        if options.in_chans is None:
            asked.pop("in_chans", None)  # an input size describes the images; it is not passed to a user's factory
        model = build_from_file(spec, options.model_kwargs, asked)
    else:
        model = _build_timm(spec, options, asked, new_classifier)
    return model.eval()


def data_config(model: nn.Module, options: Options, *, use_test_size: bool = True) -> dict[str, Any]:
    """The preprocessing of images for a model, resolved by timm from the options, then from the model's own config.

    Args:
        model: its config has the defaults.
        options: the options of the subject.
        use_test_size: use the size for evaluation if the model has another one for training.

    Returns:
        ``input_size`` (C, H, W), ``mean`` and ``std`` (C values each), ``interpolation``, ``crop_pct``, ``crop_mode``.

    Raises:
        InputError: the number of channels is not 1 or 3.
    """
    names = ("in_chans", "img_size", "input_size", "mean", "std", "crop_pct", "crop_mode", "interpolation")
    asked = {name: getattr(options, name) for name in names}
    asked_size = options.input_size or options.img_size
    # timm looks only for pretrained_cfg; modules from elsewhere often have the older name default_cfg
    resolved = resolve_data_config(asked, pretrained_cfg=_model_cfg(model), use_test_size=use_test_size)
    config = dict(resolved)
    if options.in_chans and not asked_size:
        # timm gives the config's size, including channels, priority over in_chans
        config["input_size"] = (options.in_chans, *config["input_size"][1:])
    channels = config["input_size"][0]
    if channels not in (1, 3):
        raise InputError(f"the model takes {plural(channels, 'channel')}; images are read with 1 (gray) or 3 (RGB)")
    for name in ("mean", "std"):
        config[name] = _per_channel(config[name], channels)
    return config


def count_classes(model: nn.Module, input_size: tuple[int, int, int], *, probe: bool) -> int:
    """The number of logits: ``num_classes`` of the model, or with ``probe`` counted in its output for a blank image.

    Raises:
        InputError: the model fails on an image of that size, or does not return logits (N, K).
    """
    declared = getattr(model, "num_classes", None)
    if not probe and isinstance(declared, int) and declared > 0:
        return declared
    size = " x ".join(map(str, input_size))
    try:
        with torch.no_grad():
            logits = model(torch.zeros(1, *input_size, dtype=_dtype(model)))
    except Exception as error:  # layers refuse sizes with many kinds of errors
        first_line = str(error).partition("\n")[0]
        raise InputError(
            f"the model fails on an image of {size}: {type(error).__name__}: {first_line}; "
            "check --img-size, --in-chans and --model-kwargs"
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[0] != 1:
        came = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"expected logits (N, K) from the model, got {came} for one image of {size}")
    return int(logits.shape[1])


def wants_probe(spec: str, options: Options) -> bool:
    """Whether to test the model on a blank image first: if the user chose its size or wrote its code."""
    return is_file_spec(spec) or bool(options.img_size or options.input_size or options.model_kwargs)


def weights_source(spec: str, options: Options) -> str:
    """``checkpoint``, ``pretrained``, ``factory`` or ``random``: where the weights come from."""
    if options.checkpoint:
        return "checkpoint"
    if is_file_spec(spec):
        return "factory"
    return "random" if options.pretrained is False else "pretrained"


def _build_timm(spec: str, options: Options, asked: Mapping[str, Any], new_classifier: bool) -> nn.Module:
    # as in validate.py: pretrained weights are the default without a checkpoint, since a random network is useless
    pretrained = options.pretrained if options.pretrained is not None else options.checkpoint is None
    hub = spec.partition(":")[0] in ("hf-hub", "hf_hub", "local-dir")
    kwargs = {**asked, **options.model_kwargs}
    if not hub:
        _check_name(spec)
        size = options.input_size[1:] if options.input_size else options.img_size
        cfg = timm.models.get_pretrained_cfg(spec)
        if cfg is not None and cfg.fixed_input_size and size:
            kwargs.setdefault("img_size", size)  # these models are built for one size
        if pretrained and cfg is not None and not cfg.has_weights and "pretrained_cfg_overlay" not in kwargs:
            raise _no_weights(spec, "timm has none for this model")
    if pretrained:
        _logger.info("downloading the pretrained weights of %s", spec)
    try:
        model = timm.create_model(spec, pretrained=pretrained, **kwargs)
    except TypeError as error:
        raise InputError(f"{spec} cannot be built with {_arguments(kwargs)}: {error}") from error
    except Exception as error:  # errors of the hub, the network, the disk and the model's own code
        reason = ": ".join(filter(None, (type(error).__name__, str(error).partition("\n")[0])))
        if pretrained and isinstance(error, OSError):
            raise _no_weights(spec, reason) from error
        raise InputError(f"{spec} cannot be built with {_arguments(kwargs)}: {reason}") from error
    own = _model_cfg(model).get("num_classes")
    if pretrained and not options.checkpoint and not new_classifier and own and model.num_classes != own:
        raise InputError(
            f"the pretrained weights of {spec} are for {own} classes; with num_classes={model.num_classes} its "
            "classifier would be random: give --checkpoint FILE, or --no-pretrained for random weights"
        )
    return model


def _check_name(name: str) -> None:
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=5, cutoff=0.6)
        hint = f"did you mean {', '.join(near)}? Expected" if near else "expected"
        raise InputError(
            f"unknown model {name!r}; {hint} a timm name, hf-hub:OWNER/NAME, local-dir:FOLDER or FILE.py:factory"
        )
    try:
        timm.models.get_pretrained_cfg(name)
    except RuntimeError as error:
        tags = [full.partition(".")[2] for full in timm.list_models(f"{architecture}.*", pretrained=True)]
        known = f"it has {', '.join(tags)}" if tags else "it has none"
        raise InputError(f"unknown weights {tag!r} of the model {architecture}; {known}") from error


def _no_weights(spec: str, why: str) -> InputError:
    return InputError(
        f"no pretrained weights for {spec}: {why}; give --checkpoint FILE, or --no-pretrained for random weights"
    )


def _arguments(kwargs: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in kwargs.items()) or "its defaults"


def _model_cfg(model: nn.Module) -> dict[str, Any]:
    for name in ("pretrained_cfg", "default_cfg"):
        cfg = getattr(model, name, None)
        if isinstance(cfg, Mapping):
            return dict(cfg)
    return {}


def _per_channel(values: Any, channels: int) -> tuple[float, ...]:
    """For a gray model, the mean of the RGB statistics, as in timm's loader."""
    values = tuple(float(value) for value in values)
    return values if len(values) == channels else (sum(values) / len(values),) * channels


def _dtype(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
