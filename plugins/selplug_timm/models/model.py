"""A model spec as a module: a timm name, ``hf-hub:``, ``local-dir:``, or a factory in a Python file."""

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

from ..options import Options
from . import cifar as _registers_our_models  # noqa: F401
from .user_file import build_from_file, is_file_spec

_logger = logging.getLogger(__name__)

#: Arguments that timm would act on beside --pretrained and --checkpoint, outside of our checks.
RESERVED = ("checkpoint_path", "features_only", "pretrained", "scriptable", "exportable")


def build_model(spec: str, options: Options, *, new_classifier: bool = False) -> nn.Module:
    """The model on the CPU, in eval mode, with its pretrained weights where they are asked for, without a checkpoint.

    Args:
        spec: what to build.
        options: how.
        new_classifier: whether pretrained weights may come with a random classifier, for another number of classes.

    Raises:
        InputError: an unknown model, weights that cannot be had, arguments that the model does not take.
    """
    asked = {"num_classes": options.num_classes, "in_chans": options.channels, "global_pool": options.gp}
    asked = {key: value for key, value in asked.items() if value is not None}
    for key in options.model_kwargs:
        if key in RESERVED or key in asked:
            raise InputError(f"option model_kwargs: {key} has an option of its own, leave it out here")
    if is_file_spec(spec):
        if options.pretrained:
            raise InputError(f"{spec} has no pretrained weights to fetch; its factory loads them, or --checkpoint FILE")
        if options.in_chans is None:
            asked.pop("in_chans", None)  # an input size says how images come in, it asks nothing of a user's factory
        model = build_from_file(spec, options.model_kwargs, asked)
    else:
        model = _build_timm(spec, options, asked, new_classifier)
    return model.eval()


def data_config(model: nn.Module, options: Options, *, use_test_size: bool = True) -> dict[str, Any]:
    """How images are prepared for a model, resolved by timm from the options and then from the model's own config.

    Args:
        model: whose config counts where the options say nothing.
        options: what was asked for.
        use_test_size: whether the size is that of evaluation, where a model has another for training.

    Returns:
        ``input_size`` (C, H, W), ``mean`` and ``std`` (C values each), ``interpolation``, ``crop_pct``, ``crop_mode``.

    Raises:
        InputError: another number of channels than 1 or 3.
    """
    names = ("in_chans", "img_size", "input_size", "mean", "std", "crop_pct", "crop_mode", "interpolation")
    asked = {name: getattr(options, name) for name in names}
    asked_size = options.input_size or options.img_size
    # timm looks for pretrained_cfg alone; modules of other origin often have the older name default_cfg
    resolved = resolve_data_config(asked, pretrained_cfg=_model_cfg(model), use_test_size=use_test_size)
    config = dict(resolved)
    if options.in_chans and not asked_size:
        # timm takes the config's size, channels included, over in_chans
        config["input_size"] = (options.in_chans, *config["input_size"][1:])
    channels = config["input_size"][0]
    if channels not in (1, 3):
        raise InputError(f"the model takes {channels} channels; images are read as 1 (gray) or 3 (RGB)")
    for name in ("mean", "std"):
        config[name] = _per_channel(config[name], channels)
    return config


def count_classes(model: nn.Module, input_size: tuple[int, int, int], *, probe: bool) -> int:
    """How many logits the model gives: its ``num_classes``, or with ``probe`` what comes out for one blank image.

    Raises:
        InputError: the model fails on an image of that size, or does not give logits (N, K).
    """
    said = getattr(model, "num_classes", None)
    if not probe and isinstance(said, int) and said > 0:
        return said
    size = " x ".join(map(str, input_size))
    try:
        with torch.no_grad():
            logits = model(torch.zeros(1, *input_size, dtype=_dtype(model)))
    except Exception as error:  # any layer of any model may refuse the size
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
    """Whether the model is to be tried on a blank image before it is audited: a size or a code of the user's own."""
    return is_file_spec(spec) or bool(options.img_size or options.input_size or options.model_kwargs)


def weights_source(spec: str, options: Options) -> str:
    """``checkpoint``, ``pretrained``, ``factory`` or ``random``: where the weights come from."""
    if options.checkpoint:
        return "checkpoint"
    if is_file_spec(spec):
        return "factory"
    return "random" if options.pretrained is False else "pretrained"


def _build_timm(spec: str, options: Options, asked: Mapping[str, Any], new_classifier: bool) -> nn.Module:
    # as validate.py: without a checkpoint the pretrained weights are wanted, since a random network says nothing
    pretrained = options.pretrained if options.pretrained is not None else options.checkpoint is None
    hub = spec.partition(":")[0] in ("hf-hub", "hf_hub", "local-dir")
    kwargs = {**asked, **options.model_kwargs}
    if not hub:
        _check_name(spec)
        size = options.input_size[1:] if options.input_size else options.img_size
        cfg = timm.models.get_pretrained_cfg(spec)
        if cfg is not None and cfg.fixed_input_size and size:
            kwargs.setdefault("img_size", size)  # such models are built for one size
        if pretrained and cfg is not None and not cfg.has_weights and "pretrained_cfg_overlay" not in kwargs:
            raise _no_weights(spec, "timm has none for this model")
    if pretrained:
        _logger.info("fetching the pretrained weights of %s", spec)
    try:
        model = timm.create_model(spec, pretrained=pretrained, **kwargs)
    except TypeError as error:
        raise InputError(f"{spec} cannot be built with {_arguments(kwargs)}: {error}") from error
    except Exception as error:  # hub, network, disk and the model's own code all end here
        said = ": ".join(filter(None, (type(error).__name__, str(error).partition("\n")[0])))
        if pretrained and isinstance(error, OSError):
            raise _no_weights(spec, said) from error
        raise InputError(f"{spec} cannot be built with {_arguments(kwargs)}: {said}") from error
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
    """Statistics of RGB for a gray model: their mean, as timm's loader does."""
    values = tuple(float(value) for value in values)
    return values if len(values) == channels else (sum(values) / len(values),) * channels


def _dtype(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
