"""The attacked model through torch.compile: the same function, no trace, clear errors."""

from __future__ import annotations

import logging
import os
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

import selplug
from selplug.core.errors import InputError
from selplug.core.model.compiled import CompiledModel, resolve_backend
from selplug.core.model.unit_range import UnitRangeModel

NORMALIZE = ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
PGD = "pgd:eps=16/255,alpha=4/255,steps=4"
#: FAB walks back through one graph once per class.
FAB = "fab:eps=16/255,steps=3"
K = 5
needs_compiler = pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="needs a C++ compiler")


class Noise(nn.Module):
    """Random numbers at each call, in eval mode too."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.randn_like(x)


def make_model(*more: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(128, K),
    ]
    return nn.Sequential(*layers, *more).eval()


def make_images(count: int) -> Tensor:
    return torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(count))


def loader(model: nn.Module | None = None) -> list[tuple[Tensor, Tensor]]:
    """Batches of 20, 20 and 7, most labels right."""
    result = []
    for number, count in enumerate((20, 20, 7)):
        images = torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(number))
        with torch.no_grad():
            labels = UnitRangeModel((model or make_model()).eval(), NORMALIZE, K)(images).argmax(1)
        labels[0] = (labels[0] + 1) % K
        result.append((images, labels))
    return result


def audit(model: nn.Module, data=None, perturbations=(PGD,), **options):
    options = {"normalize": NORMALIZE, "measures": {}, "progress": False, **options}
    return selplug.audit(model, data or loader(), perturbations, **options)


def call(model: nn.Module, images: Tensor) -> Tensor:
    torch.manual_seed(3)
    return model(images)


@pytest.mark.slow
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=needs_compiler)])
def test_compiled_logits_and_gradients_are_those_of_the_model(backend, channels_last):
    model = make_model(Noise()) if backend == "inductor" else make_model()
    inside = UnitRangeModel(model.requires_grad_(False), NORMALIZE, K, channels_last)
    counters.clear()
    compiled = CompiledModel(inside, backend, make_images(20))
    for count in (20, 7, 2, 1, 33):
        images = make_images(count)
        with torch.no_grad():
            expected = call(inside, images)
            for given in (
                images,
                images.clone().requires_grad_(),
                images.contiguous(memory_format=torch.channels_last),
            ):
                logits = call(compiled, given)
                assert not logits.requires_grad
                torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(call(compiled, images), expected, rtol=1e-5, atol=1e-6)
        inputs = images.requires_grad_()
        logits, wanted = call(compiled, inputs), call(inside, inputs)
        for number in range(K):  # through one graph as often as one likes
            pair = [torch.autograd.grad(out[:, number].sum(), inputs, retain_graph=True)[0] for out in (logits, wanted)]
            torch.testing.assert_close(*pair, rtol=1e-4, atol=1e-6)
    # With and without gradients, and at most two kinds of convolution by the size of the batch.
    assert counters["stats"]["unique_graphs"] <= 4


@pytest.mark.slow
@pytest.mark.parametrize("channels_last", [False, True])
def test_compiled_attacks_find_the_same_images(channels_last):
    model = make_model()
    options = {"perturbations": [PGD, FAB], "worst_case": "apgd:eps=16/255,square:n_queries=20"}
    plain = audit(make_model(), **options)
    compiled = audit(model, torchcompile="aot_eager", channels_last=channels_last, **options)
    assert plain.result.conditions[1].accuracy < plain.result.conditions[0].accuracy
    for one, other in zip(plain.result.conditions, compiled.result.conditions, strict=True):
        assert one.accuracy == other.accuracy
        assert one.l2_mean == pytest.approx(other.l2_mean, rel=1e-3)
    assert plain.result.worst_case == compiled.result.worst_case
    assert plain.to_dict()["settings"]["torchcompile"] is None
    assert compiled.to_dict()["settings"]["torchcompile"] == "aot_eager"


@pytest.mark.slow
def test_compiled_code_of_one_network_is_not_used_for_another_with_hooks():
    compiled = {}
    for name in ("without", "with"):
        model = make_model()
        if name == "with":
            model[2].register_forward_hook(lambda module, inputs, output: -output)
        data = loader(model)
        compiled[name] = audit(model, data, torchcompile="aot_eager").result.conditions
        assert compiled[name] == audit(model, data).result.conditions
    assert compiled["with"] != compiled["without"]


def test_a_compiled_run_leaves_no_trace(caplog):
    model = make_model().train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    own = torch.compile(make_model(), backend="aot_eager")
    expected = own(make_images(4))
    configs = (torch._dynamo.config, torch._functorch.config, torch._inductor.config)
    before = [config.get_config_copy() for config in configs]
    generators = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    data = loader()
    with torch.inference_mode():
        audit(model, data, torchcompile="aot_eager")
    assert torch.equal(generators[0], torch.get_rng_state())
    assert (generators[1], generators[2]) == (np.random.get_state()[1].tolist(), random.getstate())
    assert [config.get_config_copy() for config in configs] == before
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not any(vars(images).keys() for images, _ in data)  # no mark of a size that may change
    counters.clear()
    assert torch.equal(own(make_images(4)), expected)
    assert not counters["stats"]["unique_graphs"]  # what others compiled is still there


@pytest.mark.slow
@pytest.mark.parametrize("in_place", [False, True])
def test_a_model_that_its_user_compiled_is_taken(in_place):
    model = make_model()
    if in_place:
        model.compile(backend="aot_eager")
    else:
        model = torch.compile(model, backend="aot_eager")
    assert audit(model, torchcompile="aot_eager").result.conditions == audit(make_model()).result.conditions


class Broken(nn.Module):
    """Cannot be compiled as one graph for batches up to a size."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.inner = make_model()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if len(x) <= self.size:
            torch._dynamo.graph_break()
        return self.inner(x)


def test_a_model_that_cannot_be_compiled_is_an_error_before_the_run():
    with pytest.raises(InputError, match=r"torchcompile.* cannot be compiled by aot_eager here: .*graph_break"):
        audit(Broken(100), torchcompile="aot_eager")


def test_what_cannot_be_compiled_later_runs_uncompiled(caplog):
    with caplog.at_level(logging.WARNING, "selplug"):
        conditions = audit(Broken(7), torchcompile="aot_eager").result.conditions
    assert conditions == audit(Broken(0)).result.conditions
    assert sum("runs uncompiled from here" in record.message for record in caplog.records) == 1


def test_backends_are_named():
    assert [resolve_backend(given) for given in (None, False, True, "eager")] == [None, None, "inductor", "eager"]
    with pytest.raises(InputError, match=r"expected a backend of torch.compile \(.*inductor.*\), got resnet18"):
        audit(make_model(), torchcompile="resnet18")


@pytest.mark.slow
def test_a_missing_compiler_is_told(tmp_path):
    program = (
        "import selplug, torch\n"
        "from torch import nn\n"
        "model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))\n"
        "data = [(torch.rand(4, 3, 2, 2), torch.arange(4) % 3)]\n"
        "selplug.audit(model, data, ['gaussian-noise:std=0.1'], torchcompile=True, progress=False)\n"
    )
    environment = {**os.environ, "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)  # noqa: S603
    message = done.stderr.strip().splitlines()[-1]
    assert "InputError: --torchcompile" in message
    assert "no-such-compiler" in message


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("channels_last", [False, True])
def test_compiled_attacks_on_cuda(channels_last):
    options = {"perturbations": [PGD, FAB], "device": "cuda"}
    plain = audit(make_model(), **options)
    compiled = audit(make_model(), torchcompile=True, channels_last=channels_last, **options)
    for one, other in zip(plain.result.conditions, compiled.result.conditions, strict=True):
        assert one.accuracy == pytest.approx(other.accuracy, abs=1.5 / 47)
