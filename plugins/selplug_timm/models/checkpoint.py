"""Loads weights from a file into a model: strictly, and never by unpickling code."""

from __future__ import annotations

import argparse
import hashlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from selplug.core.errors import InputError
from selplug.core.words import plural

from ..paths import listed, shown
from .cifar import CifarResNet, rename_public_keys

#: Keys under which training scripts store the weights in a checkpoint; the first one found is used.
WEIGHT_KEYS = ("state_dict", "model", "model_state_dict", "net")
EMA_KEYS = ("state_dict_ema", "model_ema")
#: Prefixes that DataParallel and torch.compile add to every name.
WRAPPERS = ("module.", "_orig_mod.")


def load_checkpoint(model: nn.Module, path: str, use_ema: bool = False) -> dict[str, Any]:
    """Loads the weights of a file into a model on the CPU; every tensor must match.

    Reads ``.safetensors`` files, state dicts and training checkpoints saved by torch (timm's own, ``state_dict``,
    ``model``, ``model_state_dict``, ``net``), and the public CIFAR ResNet layout for our CIFAR ResNets.

    Args:
        model: changed in place.
        path: the file.
        use_ema: load the averaged weights of a timm checkpoint.

    Returns:
        JSON-ready facts: ``file``, ``sha256``, ``use_ema``, ``epoch`` (None unless it is a training checkpoint).

    Raises:
        InputError: there is no such file, it is not a checkpoint, it is a pickle that would run code, it has no EMA
            weights, or its tensors do not match the model.
    """
    content = read_checkpoint(path)
    state_dict = _weights(content, path, use_ema)
    expected = model.state_dict()
    state_dict = {_unwrapped(key, expected): tensor for key, tensor in state_dict.items()}
    if isinstance(model, CifarResNet):
        state_dict = rename_public_keys(state_dict)
    _load_strictly(model, state_dict, expected, path)
    epoch = content.get("epoch") if isinstance(content, Mapping) else None
    return {
        "file": shown(path),
        "sha256": _sha256(path),
        "use_ema": use_ema,
        "epoch": epoch if isinstance(epoch, int) else None,
    }


def read_checkpoint(path: str) -> Any:
    """The content of a file, on the CPU, read without running any code that it names.

    Raises:
        InputError: there is no such file, it is not a checkpoint, or it is a pickle that would run code.
    """
    if not Path(path).is_file():
        raise InputError(f"no checkpoint file {shown(path)}; give --checkpoint FILE")
    try:
        if path.endswith(".safetensors"):
            return safetensors.torch.load_file(path, device="cpu")
        # timm's training checkpoints contain the arguments of the run as an argparse.Namespace
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = _refused_globals(path, str(error))
        if refused:
            raise InputError(
                f"{shown(path)} is refused: reading it would run code that it names ({listed(refused)}), and selplug "
                "never unpickles code; save only the weights, with torch.save(model.state_dict(), FILE) or as "
                ".safetensors"
            ) from error
        raise _not_a_checkpoint(path, error) from error
    except Exception as error:  # the readers of several formats raise many kinds of errors on broken files
        raise _not_a_checkpoint(path, error) from error


def _refused_globals(path: str, message: str) -> list[str]:
    """The functions and classes, other than tensors, that a pickle names; found without running it."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # this works for zip archives only; for files of old torch versions use the error message
        names = []
    blocked = re.findall(r"(?:GLOBAL|Unsupported class|Unsupported global:) ([\w.]+\.[\w.]+)", message)
    return sorted({*names, *blocked} - {"argparse.Namespace"})


def _not_a_checkpoint(path: str, error: Exception) -> InputError:
    first_line = str(error).strip().partition("\n")[0] or type(error).__name__
    return InputError(
        f"{shown(path)} is not a readable checkpoint ({first_line[:120]}); expected a .safetensors file or "
        "weights saved with torch.save"
    )


def _weights(content: Any, path: str, use_ema: bool) -> dict[str, Tensor]:
    """The state dict in the content of a file."""
    if not isinstance(content, Mapping):
        raise InputError(f"{shown(path)} contains a {type(content).__name__}; expected a state dict, names to tensors")
    wanted = EMA_KEYS if use_ema else WEIGHT_KEYS
    inner = next((content[key] for key in wanted if isinstance(content.get(key), Mapping)), None)
    if inner is None and use_ema:
        raise InputError(
            f"{shown(path)} has no EMA weights ({' or '.join(EMA_KEYS)}), it has {listed([str(k) for k in content])}; "
            "omit --use-ema"
        )
    state_dict = content if inner is None else inner
    strange = [str(key) for key, value in state_dict.items() if not isinstance(value, Tensor)]
    if strange:
        raise InputError(
            f"{shown(path)} has no state dict at its top or under {', '.join(WEIGHT_KEYS)}: expected names to tensors, "
            f"but {listed(strange)} {'is not a tensor' if len(strange) == 1 else 'are not tensors'}"
        )
    if not state_dict:
        raise InputError(f"{shown(path)} contains an empty state dict")
    return dict(state_dict)


def _unwrapped(key: str, expected: Mapping[str, Tensor]) -> str:
    while key not in expected and key.startswith(WRAPPERS):
        key = key.partition(".")[2]
    return key


def _load_strictly(model: nn.Module, state_dict: dict[str, Tensor], expected: Mapping[str, Tensor], path: str) -> None:
    reshaped = [
        f"{key}: the model has {tuple(tensor.shape)}, the file {tuple(state_dict[key].shape)}"
        for key, tensor in expected.items()
        if key in state_dict and isinstance(tensor, Tensor) and tensor.shape != state_dict[key].shape
    ]
    # Tensors of the wrong shape make torch stop at once, so they are removed to find all other problems.
    offered = {key: state_dict[key] for key in state_dict if key not in expected} if reshaped else state_dict
    try:
        # strict=False returns the missing and unexpected names; any of them is an error below
        result = model.load_state_dict(offered, strict=False)
    except RuntimeError as error:
        raise InputError(f"{shown(path)} does not match the model: {error}") from error
    missing = [key for key in result.missing_keys if key not in state_dict]
    problems = []
    if reshaped:
        problems.append(f"{plural(len(reshaped), 'tensor')} of another shape ({listed(reshaped, 3)})")
    if missing:
        problems.append(f"{len(missing)} missing ({listed(missing, 3)})")
    if result.unexpected_keys:
        unexpected = result.unexpected_keys
        problems.append(f"{len(unexpected)} not in the model ({listed(unexpected, 3)})")
    if problems:
        raise InputError(
            f"{shown(path)} does not match the model: {'; '.join(problems)}; check that the model, --num-classes and "
            "--model-kwargs are those of the training run"
        )


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
