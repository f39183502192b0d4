"""Attacks on survivors alone: the same worst case as all on all, the ball in which images count, targets, the probe."""

from __future__ import annotations

import json
from importlib.resources import files

import jsonschema
import pytest
import torch
from torch import Tensor, nn

import selplug
from selplug.audits.engine.attack_probe import probe_attacks, random_noise
from selplug.audits.engine.run import run_audit
from selplug.core.errors import InputError
from selplug.core.measures.functional import wilson_interval
from selplug.core.model.unit_range import UnitRangeModel
from selplug.core.types import Perturbation, Subject

N, K = 50, 3


def make_model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, K)).eval()


def make_data() -> tuple[Tensor, Tensor]:
    images = torch.rand(N, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = make_model()(images).argmax(1)
    labels[::7] = (labels[::7] + 1) % K  # some are wrong from the start
    return images, labels


def loader(size: int = 16) -> list[tuple[Tensor, Tensor]]:
    images, labels = make_data()
    return [(images[i : i + size], labels[i : i + size]) for i in range(0, N, size)]


def toward(eps: float, other: int, seen: list[Tensor] | None = None) -> Perturbation:
    """A step of the sign of the gradient towards one class; what it does to a sample is up to that sample alone."""

    def factory(model: nn.Module):
        def perturb(images: Tensor, labels: Tensor) -> Tensor:
            if seen is not None:
                seen.append(images.clone())
            images.requires_grad_()
            (gradient,) = torch.autograd.grad(model(images)[:, other].sum(), images)
            return (images + eps * gradient.sign()).clamp(0, 1).detach()

        return perturb

    factory.threat = lambda options: {"norm": "Linf", "eps": eps, "option": "eps", "steps": 1}
    return Perturbation(f"toward-{other}-{eps:g}", factory)


ATTACKS = [(0.02, 0), (0.02, 1), (0.02, 2)]


def run(perturbations=(), worst_case=(), size=16, **options):
    return run_audit(Subject(make_model(), loader(size)), perturbations, {}, worst_case=worst_case, **options)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("first", [0, 1, 2])
def test_survivors_alone_give_the_worst_case_of_all_on_all(order, first):
    attacks = [toward(*ATTACKS[i]) for i in order]
    everything = run(attacks).worst_case
    result = run(attacks[:first], attacks[first:]).worst_case
    assert 0 < everything.accuracy < run([attacks[0]]).worst_case.accuracy
    assert (result.accuracy, result.accuracy_ci95) == (everything.accuracy, everything.accuracy_ci95)
    assert result.conditions == everything.conditions


@pytest.mark.parametrize("state_bytes", [2**30, 1])
@pytest.mark.parametrize("size", [16, 1, 50])
def test_each_attack_sees_what_is_still_right_and_nothing_else(size, state_bytes):
    images, labels = make_data()
    seen: list[list[Tensor]] = [[], []]
    attacks = [toward(0.02, 1, seen[0]), toward(0.02, 2, seen[1])]
    perturbations = [toward(0.02, 0), toward(0.01, 0)]
    subject = Subject(make_model(), loader(size))
    worst = run_audit(subject, perturbations, {}, worst_case=attacks, state_bytes=state_bytes).worst_case
    model = UnitRangeModel(make_model(), None, K)
    right = model(images).argmax(1) == labels
    for attack in perturbations:
        right &= model(attack.factory(model)(images.clone(), labels)).argmax(1) == labels
    expected = []
    for attack, batches in zip(attacks, seen, strict=True):
        given = torch.cat(batches)
        torch.testing.assert_close(given, images[right], rtol=0, atol=0)
        before = int(right.sum())
        right &= model(attack.factory(model)(images.clone(), labels)).argmax(1) == labels
        expected.append((attack.name, before, int(right.sum())))
    assert [(step.name, step.samples, step.survived) for step in worst.steps] == expected
    assert worst.accuracy == int(right.sum()) / N
    assert worst.accuracy_ci95 == wilson_interval(int(right.sum()), N)


def test_images_count_in_the_ball_of_the_list_alone():
    small, large = toward(0.005, 0), toward(0.5, 1)
    alone = run([small]).worst_case
    both = run([large], [small]).worst_case
    assert run([large]).worst_case.accuracy < alone.accuracy
    assert both.accuracy == alone.accuracy
    assert (both.norm, both.eps) == ("Linf", 0.005)
    assert (alone.norm, alone.eps) == (None, None)
    assert run([small], [large]).worst_case.accuracy == run([large, small]).worst_case.accuracy
    mixed = run([large], [small, toward(0.006, 0)]).worst_case  # two balls: nothing is left out
    assert mixed.accuracy <= run([large]).worst_case.accuracy
    assert mixed.norm is None


def test_nothing_is_run_where_nothing_survives():
    def black(images: Tensor, labels: Tensor) -> Tensor:
        return images * 0

    images, labels = make_data()
    dark = int(make_model()(images[:1] * 0).argmax())
    kept = labels != dark
    seen: list[Tensor] = []
    subject = Subject(make_model(), [(images[kept][:16], labels[kept][:16])])
    last = [toward(1.0, 0, seen)]
    result = run_audit(subject, [Perturbation("black", lambda model: black)], {}, worst_case=last)
    assert result.worst_case.accuracy == 0
    assert seen == []
    assert result.worst_case.steps[0].samples == 0


def test_samples_are_told_by_their_own_indices():
    told: list[int] = []

    def factory(model: nn.Module):
        def perturb(images: Tensor, labels: Tensor, samples) -> Tensor:
            told.extend(samples.indices)
            return images

        perturb.by_sample = True
        return perturb

    images, labels = make_data()
    subject = Subject(make_model(), loader(), indices=list(range(100, 100 + N)))
    run_audit(subject, [], {}, worst_case=[Perturbation("told", factory)])
    right = make_model()(images).argmax(1) == labels
    assert told == [100 + i for i in right.nonzero().flatten().tolist()]


def test_only_attacks_make_a_worst_case():
    noise = Perturbation("salt", lambda model: lambda images, labels: images, kind="noise")
    with pytest.raises(InputError, match="the worst case is taken over attacks, but salt is noise"):
        run(worst_case=[noise])


def test_images_that_an_attack_cannot_take_are_refused_before_anything_runs():
    seen: list[Tensor] = []

    class Picky:
        def check(self, images: Tensor) -> None:
            raise InputError(f"picky: no images of {tuple(images.shape)}")

        def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
            return images

    for places in ({"worst_case": [Perturbation("picky", lambda model: Picky())]}, {}):
        listed = [toward(0.1, 0, seen), *([] if places else [Perturbation("picky", lambda model: Picky())])]
        with pytest.raises(InputError, match="picky: no images of"):
            run(listed, **places)
    assert seen == []


def test_success_against_the_target_is_counted_where_the_label_is_another_class():
    images, labels = make_data()

    class Aimed:
        targets: Tensor | None = None

        def __init__(self, model: nn.Module) -> None:
            self.model = model

        def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
            self.targets = torch.full_like(labels, 2)
            return toward(0.05, 2).factory(self.model)(images, labels)

    condition = run([Perturbation("aimed", Aimed)]).conditions[1]
    model = UnitRangeModel(make_model(), None, K)
    classes = model(toward(0.05, 2).factory(model)(images.clone(), labels)).argmax(1)
    aimed = labels != 2
    hits = int((classes[aimed] == 2).sum())
    assert 0 < hits < N
    assert condition.targeted.samples == int(aimed.sum())
    assert condition.targeted.success == hits / int(aimed.sum())
    assert condition.targeted.success_ci95 == wilson_interval(hits, int(aimed.sum()))
    assert run([toward(0.05, 2)]).conditions[1].targeted is None
    subject = Subject(make_model(), [(images[:4], torch.full((4,), 2))])
    nothing = run_audit(subject, [Perturbation("aimed", Aimed)], {}).conditions[1].targeted
    assert (nothing.success, nothing.success_ci95, nothing.samples) == (None, None, 0)


def test_the_report_holds_all_of_it():
    report = selplug.audit(
        make_model(), loader(), [toward(0.02, 0)], worst_case=[toward(0.02, 1), toward(0.02, 2)], progress=False
    )
    data = json.loads(json.dumps(report.to_dict()))
    jsonschema.validate(data, json.loads(files("selplug.audits").joinpath("report.schema.json").read_text("utf-8")))
    assert [entry["name"] for entry in data["settings"]["worst_case"]] == ["toward-1-0.02", "toward-2-0.02"]
    assert data["settings"]["worst_case"][0]["threat"]["eps"] == 0.02
    text = " ".join(report.summary().split())
    assert "toward-2-0.02" in text
    assert "only images within Linf 5.1/255 of the clean image count" in text
    assert "Checks of the attacks: 4 of 4 passed" in text


class Bound(nn.Module):
    def __init__(self, scale: float = 1.0, softmax: bool = False, noise: float = 0.0) -> None:
        super().__init__()
        self.net, self.scale, self.softmax, self.noise = make_model(), scale, softmax, noise

    def forward(self, x: Tensor) -> Tensor:
        x = self.scale * self.net(x)
        x = x + self.noise * torch.randn_like(x)
        return x.softmax(1) if self.softmax else x


@pytest.mark.parametrize(
    ("model", "zero", "randomized", "probabilities"),
    [
        (Bound(), 0.0, False, False),
        (Bound(scale=1e6), 1.0, False, False),
        (Bound(noise=0.1), 0.0, True, False),
        (Bound(softmax=True), 0.0, False, True),
    ],
    ids=["plain", "saturated", "randomized", "softmax"],
)
def test_the_probe_sees_what_is_wrong_with_a_model(model, zero, randomized, probabilities):
    images, _ = make_data()
    labels = model.net(images).argmax(1)
    state = torch.get_rng_state()
    found = probe_attacks(model, images, labels, [toward(0.5, 0)], seed=0)
    assert found.samples == N
    assert found.zero_gradient == zero
    assert found.randomized == randomized
    assert found.probabilities == probabilities
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_a_model_without_gradients_is_no_error():
    class Steps(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.mean((2, 3)) * 10).round().detach()

    images, labels = make_data()
    assert probe_attacks(Steps(), images, labels, [], seed=0).zero_gradient == 1


def test_noise_is_of_the_size_of_the_ball_and_inside_the_range():
    images, _ = make_data()
    linf = random_noise(images, "Linf", 0.1) - images
    assert linf.abs().max() == pytest.approx(0.1, abs=1e-6)
    middle = torch.full_like(images, 0.5)
    assert ((random_noise(middle, "Linf", 0.1) - middle).abs() - 0.1).abs().max() < 1e-6
    torch.testing.assert_close((random_noise(middle, "L2", 0.5) - middle).flatten(1).norm(dim=1), torch.full((N,), 0.5))
    assert random_noise(images, "L2", 100.0).min() >= 0


def test_an_audit_without_attacks_is_not_probed():
    assert run().probe is None
    noise = Perturbation("salt", lambda model: lambda images, labels: images, kind="noise")
    assert run([noise]).probe is None
    probed = run([toward(0.1, 0)]).probe
    assert probed.samples == 16
    (right, attacked) = probed.noise["toward-0-0.1"]
    assert attacked <= right <= 16
