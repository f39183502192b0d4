"""What the caller has set in torch neither changes a number nor is changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

import selplug
from selplug.core.model.settings import deterministic

OPERATIONS = {"generic": ["all"], "cuda": ["all", "matmul", "conv", "rnn"], "mkldnn": ["all", "matmul"]}
PRECISIONS = [(backend, op) for backend, operations in OPERATIONS.items() for op in operations]
NEWER = hasattr(torch._C, "_get_fp32_precision_getter")


def told(read: Callable[[], object]) -> object:
    """A setting, or that it cannot be read: the older ones fail where they contradict the newer ones."""
    try:
        return read()
    except RuntimeError:
        return "cannot be read"


def settings() -> dict[str, object]:
    return {
        "matmul": told(torch.get_float32_matmul_precision),
        "cudnn": told(lambda: torch.backends.cudnn.allow_tf32),
        "cublas": told(lambda: torch.backends.cuda.matmul.allow_tf32),
        "benchmark": torch.backends.cudnn.benchmark,
        "deterministic": torch.backends.cudnn.deterministic,
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "algorithms": torch.get_deterministic_debug_mode(),
        "autocast": torch.is_autocast_enabled("cpu"),
        **({key: torch._C._get_fp32_precision_getter(*key) for key in PRECISIONS} if NEWER else {}),
    }


@pytest.fixture
def _restored() -> Iterator[None]:
    """Torch as it was, whatever a test sets: by hand, not by what is tested."""
    before = {key: torch._C._get_fp32_precision_getter(*key) for key in PRECISIONS} if NEWER else {}
    yield
    if NEWER:
        for key in PRECISIONS:
            torch._C._set_fp32_precision_setter(*key, "none")
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    for key, value in before.items():
        torch._C._set_fp32_precision_setter(*key, value)
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.use_deterministic_algorithms(False)
    torch.set_autocast_enabled("cpu", False)


def newer(backend: str, op: str, value: str) -> Callable[[], None]:
    return lambda: torch._C._set_fp32_precision_setter(backend, op, value)


CALLERS: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "cublas": lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
    "no cudnn": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
    "float64": lambda: torch.set_default_dtype(torch.float64),
    "algorithms": lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    "device": lambda: torch.set_default_device("meta"),
    "autocast": lambda: torch.set_autocast_enabled("cpu", True),
}
if NEWER:
    CALLERS |= {
        "all tf32": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
        "all ieee": lambda: setattr(torch.backends, "fp32_precision", "ieee"),
        "all bf16": newer("generic", "all", "bf16"),
        "cuda tf32": newer("cuda", "all", "tf32"),
        "matmul tf32": newer("cuda", "matmul", "tf32"),
        "conv ieee": newer("cuda", "conv", "ieee"),
        "cpu bf16": newer("mkldnn", "matmul", "bf16"),
    }


@pytest.mark.usefixtures("_restored")
@pytest.mark.parametrize("caller", CALLERS)
def test_full_precision_inside_and_as_before_after(caller):
    CALLERS[caller]()
    before = settings()
    with deterministic():
        inside = settings()
    assert settings() == before
    assert inside["matmul"] == "highest"
    assert inside["cudnn"] is inside["cublas"] is inside["benchmark"] is False
    assert inside["deterministic"] is True
    assert (inside["dtype"], inside["device"]) == (torch.float32, torch.device("cpu"))
    assert (inside["algorithms"], inside["autocast"]) == (0, False)
    assert {inside[key] for key in PRECISIONS if NEWER} <= {"none", "ieee"}


@pytest.mark.usefixtures("_restored")
@pytest.mark.skipif(not NEWER, reason="settings of torch 2.9")
def test_what_followed_another_setting_still_follows_it():
    torch.backends.fp32_precision = "ieee"
    with deterministic():
        pass
    torch.backends.fp32_precision = "tf32"
    assert torch.backends.cudnn.conv.fp32_precision == torch.backends.cuda.matmul.fp32_precision == "tf32"


@pytest.mark.usefixtures("_restored")
def test_an_error_inside_restores_them_too():
    torch.set_float32_matmul_precision("high")
    torch.set_default_dtype(torch.float64)
    before = settings()
    with pytest.raises(ZeroDivisionError), deterministic():
        raise ZeroDivisionError
    assert settings() == before


def numbers(model: nn.Module) -> tuple[str, dict[str, bytes]]:
    images = torch.rand(24, 3, 8, 8, generator=torch.Generator("cpu").manual_seed(0), dtype=torch.float32, device="cpu")
    loader = [(part, torch.arange(12, device="cpu") % 4) for part in images.split(12)]
    perturbations = ["fgsm:eps=8/255", "gaussian-noise:std=0.1"]
    measures = ["selectivity", "dimensionality", "gradients", "cka", "procrustes"]
    report = selplug.audit(model, loader, perturbations, measures, progress=False)
    data = report.to_dict()
    return json.dumps([data[key] for key in ("conditions", "worst_case", "layers", "between_layers")]), {
        name: array.tobytes() for name, array in report.arrays().items()
    }


@pytest.mark.usefixtures("_restored")
@pytest.mark.parametrize(
    "caller", sorted({"float64", "algorithms", "device", "autocast", "medium", "all tf32"} & CALLERS.keys())
)
def test_an_audit_gives_the_same_numbers(caller):
    torch.manual_seed(0)
    parts = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 16), nn.ReLU(), nn.Linear(16, 4)]
    model = nn.Sequential(*parts)
    expected = numbers(model)
    CALLERS[caller]()
    before = settings()
    assert numbers(model) == expected
    assert settings() == before
