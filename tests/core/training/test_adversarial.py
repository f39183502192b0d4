"""Batches perturbed inside a training loop: what comes out, the loss of TRADES, and that nothing else changes."""

from __future__ import annotations

import random

import numpy as np
import pytest
import reference
import torch
from torch import Tensor, multiprocessing, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from selplug.core.errors import InputError, PerturbationError, PluginError
from selplug.core.model.recorder import unrecorded
from selplug.core.noise import gaussian_noise
from selplug.core.training.adversarial import BatchPerturber, hard_labels, kl_divergence, second_pass
from selplug.core.training.regularizer import SelectivityRegularizer
from selplug.core.types import Perturb, Perturbation

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
CLASSES = 4
EPS = 8 / 255
PIXELS = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(1)).mul(1.2).sub(0.1).clamp(0, 1)
LABELS = torch.arange(12) % CLASSES


def normalized(pixels: Tensor) -> Tensor:
    return (pixels - torch.tensor(MEAN).view(-1, 1, 1)) / torch.tensor(STD).view(-1, 1, 1)


def pixels_of(images: Tensor) -> Tensor:
    return images.float() * torch.tensor(STD).view(-1, 1, 1) + torch.tensor(MEAN).view(-1, 1, 1)


class Net(nn.Module):
    """Batch norms, one of them frozen on purpose, dropout, and a block that can be checkpointed."""

    def __init__(self, norm: bool = True, checkpointed: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.bn, self.frozen = (nn.BatchNorm2d(8), nn.BatchNorm2d(8).eval()) if norm else (nn.Identity(), nn.Identity())
        self.drop = nn.Dropout(0.5 if norm else 0)
        self.block = nn.Sequential(nn.Conv2d(8, 6, 1), nn.SiLU(), nn.Conv2d(6, 6, 1), nn.GELU())
        self.head = nn.Linear(6, CLASSES)
        self.checkpointed = checkpointed

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.frozen(self.bn(self.conv(x))))
        x = checkpoint(self.block, x, use_reentrant=False) if self.checkpointed else self.block(x)
        return self.head(x.mean((2, 3)))


def make(**options: bool) -> Net:
    torch.manual_seed(0)
    return Net(**options)


def push(model: nn.Module, *, eps: float = EPS, fail: bool = False) -> Perturb:
    """One signed step from a random start; rude enough to draw from and seed every generator."""

    def perturb(images: Tensor, labels: Tensor) -> Tensor:
        assert not any(module.training for module in model.modules())
        assert not torch.is_autocast_enabled("cpu")
        start = (images + eps / 2 * torch.empty_like(images).uniform_(-1, 1)).clamp(0, 1).requires_grad_()
        F.cross_entropy(model(start), labels).backward()
        if fail:
            raise RuntimeError("broken")
        torch.manual_seed(3)
        np.random.seed(3)
        random.seed(3)
        model.train()
        moved = start.detach() + eps * start.grad.sign()
        return torch.minimum(torch.maximum(moved, images - eps), images + eps).clamp(0, 1)

    return perturb


def perturber(model: nn.Module, factory: object = push, channels_last: bool = False, **options: object) -> object:
    return BatchPerturber(
        model, Perturbation("it", factory, options), (MEAN, STD), CLASSES, channels_last=channels_last
    )


def test_the_perturbed_batch_is_in_the_ball_and_in_range():
    images = normalized(PIXELS)
    given = images.clone()
    found = perturber(make())(images, LABELS, seed=1)
    assert torch.equal(images, given)
    after = pixels_of(found.images)
    assert after.min() >= -1e-6
    assert after.max() <= 1 + 1e-6
    change = (after - PIXELS).abs().flatten(1)
    assert change.max() <= EPS + 1e-6
    torch.testing.assert_close(found.linf, change.amax(1), rtol=0, atol=1e-6)
    torch.testing.assert_close(found.l2, change.norm(dim=1), rtol=0, atol=1e-5)
    assert found.linf.min() > EPS / 2


def test_the_loss_rises_and_the_seed_decides():
    model = make().eval()
    images = normalized(PIXELS)
    attack = perturber(model)
    first, again, other = (attack(images, LABELS, seed=seed).images for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    with torch.no_grad():
        assert F.cross_entropy(model(first), LABELS) > F.cross_entropy(model(images), LABELS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_left_alone_stays_as_it_was(dtype):
    images = normalized(PIXELS).to(dtype).contiguous(memory_format=torch.channels_last)
    found = perturber(make().to(dtype), gaussian_noise, channels_last=True, std=0.0)(images, LABELS)
    assert torch.equal(found.images, images)
    assert found.images.dtype == dtype
    assert found.images.is_contiguous(memory_format=torch.channels_last)
    assert found.linf.max() == 0
    pushed = perturber(make().to(dtype), push, channels_last=True)(images, LABELS).images
    assert pushed.is_contiguous(memory_format=torch.channels_last)
    assert (pixels_of(pushed) - pixels_of(images)).abs().max() <= EPS + 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize("amp", [False, True])
def test_no_trace(fail, amp):
    model = make().train()
    model.frozen.eval()
    model.head.bias.requires_grad_(False)
    F.cross_entropy(model(normalized(PIXELS)), LABELS).backward()  # gradients that accumulate
    state = {key: value.clone() for key, value in model.state_dict().items()}
    flags = [module.training for module in model.modules()]
    gradients = [(p.requires_grad, p.grad, None if p.grad is None else p.grad.clone()) for p in model.parameters()]
    generators = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    attack = perturber(model, fail=fail)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
        if fail:
            with pytest.raises(PluginError, match="broken"):
                attack(normalized(PIXELS), LABELS)
        else:
            attack(normalized(PIXELS), LABELS)
        assert torch.is_autocast_enabled("cpu") == amp
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == flags
    for parameter, (requires_grad, grad, value) in zip(model.parameters(), gradients, strict=True):
        assert parameter.requires_grad == requires_grad
        assert parameter.grad is grad
        assert grad is None or torch.equal(grad, value)
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert np.array_equal(np.random.get_state()[1], generators[1])
    assert random.getstate() == generators[2]


def test_autocast_does_not_reach_the_attack():
    images = normalized(PIXELS)
    plain = perturber(make())(images, LABELS).images
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(perturber(make())(images, LABELS).images, plain)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (normalized(PIXELS + 0.01), "pixels in [0, 1] without the normalization, got values from 0.01 to 1.01"),
        (normalized(PIXELS - 0.01), "got values from -0.01 to 0.99"),
        (torch.full_like(PIXELS, torch.nan), "got values from nan to nan"),
        (normalized(PIXELS).bfloat16() + 0.1, "random erasing with noise"),
    ],
)
def test_batches_outside_the_range_are_refused(images, message):
    with pytest.raises(InputError) as error:
        perturber(make().to(images.dtype))(images, LABELS)
    assert message in str(error.value)


def test_rounding_is_clamped():
    images = normalized(PIXELS)
    found = perturber(make(), gaussian_noise, std=0.0)(images + 1e-6, LABELS)
    assert torch.equal(found.images, images + 1e-6)


def test_a_perturbation_that_leaves_the_range_is_refused():
    with pytest.raises(PerturbationError, match=r"it: expected finite pixels in \[0, 1\]"):
        perturber(make(), lambda model: lambda images, labels: images + 1)(normalized(PIXELS), LABELS)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_the_divergence_is_that_of_the_slow_reference(scale):
    generator = torch.Generator().manual_seed(2)
    clean, perturbed = (scale * torch.randn(6, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = reference.kl_divergence(clean.numpy(), perturbed.numpy())
    assert kl_divergence(clean, perturbed).item() == pytest.approx(expected, rel=1e-10)
    assert kl_divergence(clean, clean).item() == pytest.approx(0, abs=1e-12)
    assert torch.autograd.gradcheck(kl_divergence, (clean.requires_grad_(), perturbed.requires_grad_()))
    assert kl_divergence(clean.half(), perturbed.half()).dtype == torch.float32


def test_the_gradient_of_the_divergence_survives_probabilities_of_0():
    clean = torch.tensor([[300.0, 0.0, -300.0]], requires_grad=True)
    perturbed = torch.tensor([[0.0, 300.0, -300.0]], requires_grad=True)
    kl_divergence(clean, perturbed).backward()
    assert clean.grad.isfinite().all()
    assert perturbed.grad.isfinite().all()


def test_labels_of_soft_targets():
    assert torch.equal(hard_labels(LABELS), LABELS)
    soft = F.one_hot(LABELS, CLASSES) * 0.7 + 0.3 / CLASSES
    assert torch.equal(hard_labels(soft.bfloat16()), LABELS)
    for wrong in (torch.ones(12, CLASSES), torch.ones(12, 1, 1)):
        with pytest.raises(InputError, match=r"soft targets \(N, C\) with rows that sum to 1, got multi-label"):
            hard_labels(wrong)


def trades(model: Net, regularizer: SelectivityRegularizer | None = None, call: nn.Module | None = None) -> Tensor:
    """Crafting, both passes and the penalty of one step, as the hooks do it; the penalty."""
    images = normalized(PIXELS)
    moved = perturber(model)(images, LABELS, seed=1).images
    logits = (model if call is None else call)(images)
    loss = F.cross_entropy(logits, LABELS) + 6 * kl_divergence(logits, second_pass(model, moved, seed=2))
    penalty = torch.zeros(()) if regularizer is None else regularizer(LABELS)
    (loss + penalty).backward()
    return penalty.detach()


@pytest.mark.parametrize("alpha", [0.7, -0.7])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_neither_crafting_nor_the_second_pass_is_recorded(checkpointed, alpha):
    images = normalized(PIXELS)
    model = make(norm=False)
    regularizer = SelectivityRegularizer(model, alpha, images[:2])
    model(images)
    expected = regularizer(LABELS).detach()
    model = make(norm=False, checkpointed=checkpointed)
    regularizer = SelectivityRegularizer(model, alpha, images[:2])
    # A second step: the second runs of its crafting come after a pass that was recorded.
    for _ in range(2):
        torch.testing.assert_close(trades(model, regularizer), expected)


def test_gradients_with_checkpointing_are_those_without():
    found = []
    for checkpointed in (False, True):
        model = make(checkpointed=checkpointed)
        trades(model, SelectivityRegularizer(model, 0.7, normalized(PIXELS)[:2]))
        found.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*found)


def test_a_second_pass_before_the_first_one_records_nothing_either():
    model = make(norm=False, checkpointed=True)
    regularizer = SelectivityRegularizer(model, 0.7, normalized(PIXELS)[:2])
    with unrecorded():
        model(normalized(PIXELS)).sum().backward()
    assert regularizer._recorder.forget() == {}
    with pytest.raises(RuntimeError, match="inside"), unrecorded():
        raise RuntimeError("inside")
    model(normalized(PIXELS))
    assert len(regularizer._recorder.forget()) == 2


@pytest.mark.slow
def test_compiled():
    expected = make()
    penalty = trades(expected, SelectivityRegularizer(expected, 0.7, normalized(PIXELS)[:2]))
    model = make()
    regularizer = SelectivityRegularizer(model, 0.7, normalized(PIXELS)[:2])
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(trades(model, regularizer, compiled), penalty)
    ours, theirs = ([p.grad for p in m.parameters()] for m in (model, expected))
    torch.testing.assert_close(ours, theirs)
    with torch.compiler.set_stance("fail_on_recompile"):
        trades(model, regularizer, compiled)


def test_the_second_pass_draws_its_own_random_numbers():
    model = make().train()
    images = normalized(PIXELS)
    before = torch.get_rng_state()
    first, again, other = (second_pass(model, images, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert model.bn.num_batches_tracked == 3  # as any training pass


def _rank(rank: int, results: str, half: int) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{results}/meet", rank=rank, world_size=2)
    images, labels = normalized(PIXELS), LABELS
    model = make(norm=False)
    attack = perturber(model, plain_push)
    parallel = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
    for part in range(2):  # two batches that accumulate
        mine = slice(part * 6 + rank * half, part * 6 + (rank + 1) * half)
        moved = attack(images[mine], labels[mine]).images
        logits = parallel(images[mine])
        other = second_pass(model, moved)
        (F.cross_entropy(logits, labels[mine]) + 6 * kl_divergence(logits, other)).backward()
    torch.save([p.grad for p in model.parameters()], f"{results}/{rank}.pt")
    torch.distributed.destroy_process_group()


def plain_push(model: nn.Module) -> Perturb:
    """One signed step away from each sample's own class, the same however the batch is cut."""

    def perturb(images: Tensor, labels: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(model(images.requires_grad_()).gather(1, labels[:, None]).sum(), images)
        return (images - EPS * gradient.sign()).detach().clamp(0, 1)

    return perturb


@pytest.mark.slow
def test_two_ranks_equal_one_process_on_the_whole_batch(tmp_path):
    """The second pass goes through the plain module, the first one through DistributedDataParallel."""
    model = make(norm=False)
    attack = perturber(model, plain_push)
    for part in (slice(0, 6), slice(6, 12)):
        images, labels = normalized(PIXELS)[part], LABELS[part]
        moved = attack(images, labels).images
        logits = model(images)
        (F.cross_entropy(logits, labels) + 6 * kl_divergence(logits, second_pass(model, moved))).backward()
    expected = [parameter.grad for parameter in model.parameters()]
    multiprocessing.spawn(_rank, (str(tmp_path), 3), nprocs=2)
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), expected, rtol=1e-5, atol=1e-6)
