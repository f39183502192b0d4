"""Every attack once on a tiny model: range, ball, no traces, no printing; and equal to torchattacks called by hand."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torchattacks
from selplug_torchattacks import ensemble
from selplug_torchattacks.limits import ONE_BY_ONE
from selplug_torchattacks.repairs import REPAIRS

import selplug
from selplug.core.errors import InputError
from selplug.core.model.state import seeded
from selplug.core.model.unit_range import UnitRangeModel
from selplug.core.perturb import batch_seed, run_perturbation
from selplug.core.training.adversarial import BatchPerturber
from selplug.specs.perturbing import perturbation

E = 8 / 255


@dataclass(frozen=True)
class Row:
    """An attack with few steps; the radius of its ball in Linf or L2; the fewest classes it works with."""

    spec: str
    linf: float | None = None
    l2: float | None = None
    fewest: int = 2

    @property
    def name(self) -> str:
        return self.spec.partition(":")[0]

    def check(self, linf, l2) -> None:
        """The sizes (N,) are within the ball."""
        if self.linf is not None:
            assert linf.max() <= self.linf + 1e-6
        if self.l2 is not None:
            assert l2.max() <= self.l2 + 1e-5


TABLE = [
    Row("vanila", linf=0),
    Row("gn"),
    Row("fgsm", linf=E),
    Row("bim:steps=3", linf=E),
    Row("rfgsm:steps=3", linf=E),
    Row("pgd:steps=3", linf=E),
    Row("eotpgd:steps=3", linf=E),
    Row("ffgsm", linf=E),
    Row("tpgd:steps=3", linf=E),
    Row("mifgsm:steps=3", linf=E),
    Row("upgd:steps=3", linf=E),
    Row("upgd:steps=3,loss=margin", linf=E),
    Row("upgd:steps=3,loss=dlr", linf=E, fewest=3),
    Row("apgd:steps=4", linf=E),
    Row("apgd:steps=4,norm=L2,eps=0.5", l2=0.5),
    Row("apgd:steps=4,loss=dlr,n_restarts=2", linf=E, fewest=3),
    Row("apgdt:steps=4", linf=E, fewest=4),
    Row("apgdt:steps=4,norm=L2,eps=0.5", l2=0.5, fewest=4),
    Row("difgsm:steps=3", linf=E),
    Row("tifgsm:steps=3", linf=E),
    Row("jitter:steps=3", linf=E),
    Row("nifgsm:steps=3", linf=E),
    Row("pgdrs:steps=3,noise_type=uniform", linf=E),
    Row("sinifgsm:steps=3", linf=E),
    Row("vmifgsm:steps=3", linf=E),
    Row("vnifgsm:steps=3", linf=E),
    Row("spsa:nb_sample=8,max_batch_size=4,nb_iter=3,eps=0.02", linf=0.02),
    Row("pifgsm:num_iter_set=3", linf=16 / 255),
    Row("pifgsmpp:num_iter_set=3", linf=16 / 255),
    Row("cw:steps=10"),
    Row("pgdl2:steps=3,eps=0.5", l2=0.5),
    Row("pgdrsl2:steps=3,eps=0.5", l2=0.5),
    Row("deepfool:steps=5"),
    Row("eaden:binary_search_steps=2,max_iterations=5"),
    Row("eadl1:binary_search_steps=2,max_iterations=5"),
    Row("sparsefool:steps=2"),
    Row("onepixel:steps=2"),
    Row("pixle:restarts=2,max_iterations=3"),
    Row("pixle:update_each_iteration=true,max_iterations=3,pixel_mapping=similarity"),
    Row("jsma:gamma=0.01"),
    Row("fab:steps=3", linf=E),
    Row("fab:steps=3,norm=L2,eps=0.5,multi_targeted=true,n_restarts=2", l2=0.5),
    Row("autoattack", linf=E),
    Row("autoattack:version=rand", linf=E),
    Row("autoattack:version=plus,norm=L2,eps=0.5", l2=0.5),
    Row("square:n_queries=20", linf=E),
    Row("square:n_queries=20,norm=L2,eps=0.5,loss=ce", l2=0.5),
    Row("torchattacks:attack=pgd,steps=2", linf=E),
]
ROWS = pytest.mark.parametrize("row", TABLE, ids=[row.spec for row in TABLE])

#: One cast serves them all; the quick one has the shortest range.
SLOW_DTYPES = [pytest.param(dtype, marks=pytest.mark.slow) for dtype in (torch.float64, torch.bfloat16)]
DTYPES = pytest.mark.parametrize("dtype", [torch.float16, *SLOW_DTYPES], ids=str)


@pytest.fixture(autouse=True)
def short_autoattack(monkeypatch):
    monkeypatch.setattr(ensemble, "STEPS", 3)
    monkeypatch.setattr(ensemble, "QUERIES", 10)


def test_the_table_is_complete():
    names = {name.lower() for name in torchattacks.__all__ if name not in torchattacks.__wrapper__}
    assert {row.name for row in TABLE} == names | {"torchattacks"}


@ROWS
@pytest.mark.parametrize("num_classes", [10, pytest.param(3, marks=pytest.mark.slow), 2])
def test_attack(row, num_classes, tiny, images, label, capfd, caplog):
    model = tiny(num_classes)
    labels = label(model, images)
    found = perturbation(row.spec)
    if num_classes < row.fewest:
        with pytest.raises(InputError, match=f"expected a model of at least {row.fewest} classes, got {num_classes}"):
            found.factory(model, **found.options)
        return
    perturb = found.factory(model, **found.options)
    given = images.clone()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    generators = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    for count in (len(images), 1, 3):
        result = run_perturbation(model, perturb, images[:count], labels[:count], seed=5, name=row.name)
        assert result.images.shape == (count, 3, 16, 16)
        assert result.images.dtype == torch.float32
        row.check(result.linf, result.l2)
    assert torch.equal(images, given)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert np.array_equal(np.random.get_state()[1], generators[1])
    assert random.getstate() == generators[2]
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@ROWS
def test_same_seed_same_images_whatever_ran_before(row, tiny, images, label):
    model = tiny()
    labels = label(model, images)
    found = perturbation(row.spec)
    first = found.factory(model, **found.options)
    once = run_perturbation(model, first, images, labels, seed=5).images
    run_perturbation(model, first, images.flip(0), labels.flip(0), seed=6)
    again = run_perturbation(model, first, images, labels, seed=5).images
    fresh = run_perturbation(model, found.factory(model, **found.options), images, labels, seed=5).images
    assert torch.equal(once, again)
    assert torch.equal(once, fresh)


BY_HAND = [row for row in TABLE if row.name not in REPAIRS and row.name not in ("autoattack", "torchattacks")]


@pytest.mark.parametrize("row", BY_HAND, ids=[row.spec for row in BY_HAND])
def test_unrepaired_attacks_equal_torchattacks_bit_for_bit(row, tiny, images, label):
    model = tiny()
    labels = label(model, images)
    found = perturbation(row.spec)
    seed = batch_seed(0, 3)
    ours = run_perturbation(model, found.factory(model, **found.options), images, labels, seed=seed).images
    by_name = {name.lower(): name for name in torchattacks.__all__}
    raw = getattr(torchattacks, by_name[row.name])(tiny(), **by_hand(found.options))
    with seeded(seed, images.device):
        if hasattr(raw, "seed"):
            raw.seed = int(torch.randint(2**63 - 1, (1,)))
        theirs = raw(images, labels).clamp(0, 1)
    assert torch.equal(ours, theirs)


def by_hand(options):
    """The options as torchattacks takes them."""
    counts = {key: int(value) for key, value in options.items() if key in ("steps", "n_queries")}
    return {key: value for key, value in options.items() if key != "target"} | counts


@ROWS
def test_memory_formats(row, tiny, images):
    net = tiny(10).model.to(memory_format=torch.channels_last)
    model = UnitRangeModel(net, ((0.5,) * 3, (0.5,) * 3), 10, channels_last=True).eval()
    with torch.no_grad():
        labels = model(images).argmax(1)
    found = perturbation(row.spec)
    perturb = found.factory(model, **found.options)
    results = [
        run_perturbation(model, perturb, pixels, labels, seed=1).images
        for pixels in (images, images.contiguous(memory_format=torch.channels_last))
    ]
    assert torch.equal(*results)


@ROWS
@DTYPES
def test_models_of_other_precision(row, dtype, tiny, images, label):
    model = tiny(dtype=dtype)
    labels = label(model, images)
    found = perturbation(row.spec)
    result = run_perturbation(model, found.factory(model, **found.options), images, labels, name=row.spec)
    assert result.images.dtype == torch.float32
    row.check(result.linf, result.l2)


@pytest.mark.parametrize("spec", ["pgd:steps=3", "apgd:steps=3", "square:n_queries=50,eps=0.2", "fab:steps=3", "cw"])
@DTYPES
def test_attacks_move_images_of_models_of_other_precision(spec, dtype, tiny, images, label):
    model = tiny(dtype=dtype)
    labels = label(model, images)
    found = perturbation(spec)
    result = run_perturbation(model, found.factory(model, **found.options), images, labels, name=spec)
    assert (result.l2 > 0).any()


@ROWS
def test_in_an_audit_of_8_images(row, tiny):
    """Batches of 5, 1 and 2 images: of one size, of a single image, and an odd last one."""
    model = tiny().model.train()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    pixels = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        labels = tiny()(pixels).argmax(1)
    loader = list(zip(pixels.split([5, 1, 2]), labels.split([5, 1, 2]), strict=True))
    generator = torch.get_rng_state()
    report = selplug.audit(model, loader, [row.spec], ["selectivity"], progress=False)
    clean, condition = report.result.conditions
    assert clean.accuracy == 1
    assert condition.samples == 8
    assert condition.linf_max <= (1 if row.linf is None else row.linf + 1e-6)
    if row.l2 is not None:
        assert condition.l2_mean <= row.l2 + 1e-5
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.slow
@ROWS
def test_a_thousand_classes(row, tiny, label):
    """As many as ImageNet has; what goes through images and classes one by one has an image and a step."""
    model = tiny(1000)
    count = 1 if row.name in ONE_BY_ONE else 2
    pixels = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    found = perturbation(re.sub("steps=.", "steps=1", row.spec) if row.name in ONE_BY_ONE else row.spec)
    result = run_perturbation(model, found.factory(model, **found.options), pixels, label(model, pixels), name=row.name)
    row.check(result.linf, result.l2)


REFUSED = [
    ("apgdt", (3, 16, 16), 3, "apgdt: expected a model of at least 4 classes, got 3"),
    ("apgd:loss=dlr", (3, 16, 16), 2, "apgd with loss=dlr: expected a model of at least 3 classes, got 2"),
    ("upgd:loss=dlr", (3, 16, 16), 2, "upgd with loss=dlr: expected a model of at least 3 classes, got 2"),
    ("tifgsm", (1, 16, 16), 10, "tifgsm: expected images of 3 channels, got 1"),
    ("pifgsm", (1, 16, 16), 10, "pifgsm: expected images of 3 channels, got 1"),
    ("pifgsmpp", (4, 16, 16), 10, "pifgsmpp: expected images of 3 channels, got 4"),
    ("difgsm", (3, 16, 20), 10, "difgsm: expected square images, got 16 x 20"),
    ("pixle", (3, 16, 20), 10, "pixle: expected square images, got 16 x 20"),
    ("square:norm=L2", (3, 16, 20), 10, "square: expected square images, got 16 x 20"),
    ("autoattack:norm=L2", (3, 4, 4), 10, "autoattack with norm=L2: expected images of at least 5 x 5, got 4 x 4"),
    ("jsma", (3, 128, 128), 10, "jsma: expected at most 16384 values per image, got 49152"),
]


@pytest.mark.parametrize(("spec", "shape", "classes", "message"), REFUSED, ids=[spec for spec, *_ in REFUSED])
def test_what_an_attack_cannot_do_is_said_before_the_run_starts(spec, shape, classes, message):
    ran = []

    def first(images, labels):
        ran.append(len(images))
        return images

    net = torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * shape[0], classes)
    )
    loader = [(torch.rand(4, *shape), torch.arange(4) % 2)]
    with pytest.raises(InputError, match=message):
        selplug.audit(net, loader, [first, spec], ["selectivity"], progress=False)
    with pytest.raises(InputError, match=message):
        selplug.audit(net, loader, [first], ["selectivity"], worst_case=[spec], progress=False)
    assert not ran


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@ROWS
def test_attack_on_cuda_built_on_the_cpu(row, tiny, images, label):
    model = tiny()
    labels = label(model, images).cuda()
    found = perturbation(row.spec)
    perturb = found.factory(model, **found.options)
    model.cuda()
    result = run_perturbation(model, perturb, images.cuda(), labels, name=row.name)
    assert result.images.is_cuda


@ROWS
def test_attack_inside_training(row, tiny):
    """Normalized batches, the model in train mode: no trace, and the ball in pixels."""
    net = tiny(4).model.train()
    state = {key: value.clone() for key, value in net.state_dict().items()}
    generator = torch.get_rng_state()
    pixels = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    found = BatchPerturber(net, perturbation(row.spec), ((0.5,) * 3, (0.25,) * 3), 4)(
        (pixels - 0.5) / 0.25, torch.tensor([0, 1, 2]), seed=5
    )
    change = (found.images * 0.25 + 0.5 - pixels).flatten(1)
    if row.linf is not None:
        assert change.abs().max() <= row.linf + 1e-5
    if row.l2 is not None:
        assert change.norm(dim=1).max() <= row.l2 + 1e-4
    assert all(module.training for module in net.modules())
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
