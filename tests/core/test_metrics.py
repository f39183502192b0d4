"""The streaming measures: equal to the loops, to one batch, and over ranks."""

from __future__ import annotations

import copy
import itertools
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
import torch.multiprocessing
from hypothesis import given, settings
from hypothesis import strategies as st

from selplug.core.errors import InputError
from selplug.core.measures import functional
from selplug.core.measures.metrics import ClassSelectivity, Dimensionality

N, U, C = 240, 30, 5


def data(samples: int = N, units: int = U, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(units, units, generator=generator) / units**0.5
    responses = (torch.randn(samples, units, generator=generator) @ mixing + 0.3).clamp_min(0)
    responses[:, 0] = 0  # a dead unit
    return responses, torch.arange(samples) * C // samples  # labels in blocks, as a folder gives them


def flat(values: dict) -> dict[str, np.ndarray]:
    result = {}
    for key, value in values.items():
        if isinstance(value, dict):
            result |= {f"{key}.{name}": np.asarray(item) for name, item in value.items()}
        else:
            result[key] = np.asarray(value)
    return result


def test_selectivity_equals_the_loops():
    responses, targets = data()
    shuffled = functional.shuffle_targets(targets, seed=7)
    metric = ClassSelectivity(C, U)
    metric.update(responses, targets, shuffled_targets=shuffled)
    values = metric.compute()
    expected = reference.class_selectivity(*reference.class_means(responses.numpy(), targets.numpy(), C))
    null = reference.class_selectivity(*reference.class_means(responses.numpy(), shuffled.numpy(), C))
    np.testing.assert_allclose(values["selectivity"], expected, rtol=1e-9)
    np.testing.assert_allclose(values["selectivity_null"], null, rtol=1e-9)
    assert float(values["mean"]) == pytest.approx(expected.mean())
    assert float(values["mean_alive"]) == pytest.approx(expected[1:].mean())
    assert float(values["null"]) == pytest.approx(null.mean())
    assert int(values["dead_units"]) == 1
    assert int(values["samples"]) == N
    assert int(values["samples_per_class_min"]) == N // C


def test_dimensionality_equals_the_loops():
    responses, _ = data()
    metric = Dimensionality(U)
    metric.update(responses)
    values = metric.compute()
    expected = reference.eigenvalues(responses.numpy())
    np.testing.assert_allclose(values["eigenvalues"], expected, rtol=1e-8, atol=1e-12 * expected[0])
    ratio = reference.participation_ratio(expected)
    assert float(values["participation_ratio"]) == pytest.approx(ratio)
    assert float(values["participation_ratio_fraction"]) == pytest.approx(ratio / U)
    assert float(values["participation_ratio_corrected"]) == pytest.approx(
        reference.corrected_participation_ratio(expected, N)
    )
    for percent in (90, 95, 99):
        components = reference.components_for_variance(expected, percent / 100)
        assert values[f"components_{percent}"] == components
        assert values[f"components_{percent}_fraction"] == pytest.approx(components / U)
    exponent, stderr, r2, first, last = reference.spectrum_exponent(expected)
    assert values["spectrum"] == pytest.approx(
        {"exponent": exponent, "stderr": stderr, "r2": r2, "first": first, "last": last}
    )
    assert values["samples"] == N
    assert values["rank_limited"] is False


@settings(max_examples=25)
@given(st.lists(st.integers(1, N - 1), max_size=8), st.booleans())
def test_any_batching_gives_the_result_of_one_batch(cuts, give_shuffled):
    responses, targets = data()
    shuffled = functional.shuffle_targets(targets)
    edges = sorted({0, N, *cuts})
    batches = [slice(a, b) for a, b in itertools.pairwise(edges)]
    results = []
    for parts in ([slice(0, N)], batches):
        selectivity, dimensionality = ClassSelectivity(C, U, seed=5), Dimensionality(U)
        for part in parts:
            extra = {"shuffled_targets": shuffled[part]} if give_shuffled else {}
            selectivity.update(responses[part], targets[part], **extra)
            dimensionality.update(responses[part], targets[part])
        results.append(flat({**selectivity.compute(), **dimensionality.compute()}))
    for key, value in results[0].items():
        np.testing.assert_allclose(results[1][key], value, rtol=1e-5, err_msg=key)


@pytest.mark.parametrize("builds", [(lambda u: ClassSelectivity(C, u)), Dimensionality])
def test_units_come_from_the_first_batch_where_they_are_not_given(builds):
    responses, targets = data()
    sized, open_ended = builds(U), builds(None)
    for part in (slice(0, 100), slice(100, N)):
        sized.update(responses[part], targets[part])
        open_ended.update(responses[part], targets[part])
    for key, value in flat(sized.compute()).items():
        np.testing.assert_array_equal(flat(open_ended.compute())[key], value)
    with pytest.raises(InputError, match=f"U={U}"):
        open_ended.update(responses[:, 1:], targets)
    open_ended.reset()
    open_ended.update(responses[:, 1:], targets)
    restored = builds(None)
    restored.load_state_dict(sized.state_dict())
    restored.update(responses[:3], targets[:3])
    assert float(restored.seen) == N + 3


def test_memory_does_not_grow_with_samples():
    for metric in (ClassSelectivity(C, U), Dimensionality(U)):
        responses, targets = data()
        sizes = []
        for _ in range(3):
            metric.update(responses, targets)
            sizes.append(sum(state.numel() for state in metric.state_dict().values()))
        assert len(set(sizes)) == 1


def test_a_large_common_offset_costs_no_digits():
    """Uncentred float32 sums would lose the spectrum here."""
    responses, _ = data()
    plain, shifted = Dimensionality(U), Dimensionality(U)
    plain.update(responses.double())
    shifted.update(responses.double() + 1000)
    np.testing.assert_allclose(shifted.compute()["eigenvalues"][:-1], plain.compute()["eigenvalues"][:-1], rtol=1e-5)


def test_fewer_samples_than_units_is_said_and_bounds_the_rank():
    responses, _ = data(samples=20)
    metric = Dimensionality(U)
    metric.update(responses)
    values = metric.compute()
    assert values["rank_limited"] is True
    assert int((values["eigenvalues"] > 0).sum()) == 19
    assert len(values["eigenvalues"]) == U
    assert values["components_99"] <= 19


def test_a_silent_layer_has_no_dimension_and_no_fit():
    metric = Dimensionality(U)
    metric.update(torch.zeros(50, U))
    values = metric.compute()
    assert float(values["participation_ratio"]) == 0
    assert math.isnan(float(values["participation_ratio_corrected"]))
    assert values["components_90"] == 0
    assert math.isnan(values["spectrum"]["exponent"])
    dead = ClassSelectivity(C, U)
    dead.update(torch.zeros(50, U), torch.arange(50) % C)
    assert int(dead.compute()["dead_units"]) == U
    assert math.isnan(float(dead.compute()["mean_alive"]))
    assert float(dead.compute()["mean"]) == 0


@pytest.mark.parametrize("build", [lambda: ClassSelectivity(C, U), lambda: Dimensionality(U)])
def test_state_saves_loads_resets_and_copies(build):
    responses, targets = data()
    metric = build()
    metric.update(responses, targets)
    restored = build()
    restored.load_state_dict(metric.state_dict())
    restored._update_count = 1  # torchmetrics counts updates outside the state
    for other in (restored, copy.deepcopy(metric)):
        for key, value in flat(metric.compute()).items():
            np.testing.assert_array_equal(flat(other.compute())[key], value)
    metric.reset()
    metric.update(responses, targets)
    for key, value in flat(metric.compute()).items():
        np.testing.assert_array_equal(flat(restored.compute())[key], value)


def _rank(rank: int, world: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    responses, targets = data()
    part = slice(rank * N // world, (rank + 1) * N // world)
    shuffled = functional.shuffle_targets(targets)
    selectivity, dimensionality = ClassSelectivity(C, U), Dimensionality(U)
    selectivity.update(responses[part], targets[part], shuffled_targets=shuffled[part])
    dimensionality.update(responses[part])
    values = flat({**selectivity.compute(), **dimensionality.compute()})
    np.savez(Path(folder) / f"{rank}.npz", **values)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_ranks_reduce_by_sums():
    responses, targets = data()
    selectivity, dimensionality = ClassSelectivity(C, U), Dimensionality(U)
    selectivity.update(responses, targets, shuffled_targets=functional.shuffle_targets(targets))
    dimensionality.update(responses)
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_rank, args=(2, folder), nprocs=2)
        for rank in range(2):
            with np.load(Path(folder) / f"{rank}.npz") as found:
                for key, value in flat({**selectivity.compute(), **dimensionality.compute()}).items():
                    np.testing.assert_allclose(found[key], value, rtol=1e-8, atol=1e-12, err_msg=key)


def _raises(message: str, call) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_bad_input_is_named():
    _raises("at least 2 classes, got 1", lambda: ClassSelectivity(1))
    _raises("at least 1 unit", lambda: Dimensionality(0))
    _raises(r"U=4, got .*\(2, 3\)", lambda: Dimensionality(4).update(torch.rand(2, 3)))
    _raises(r"labels in \[0, 5\)", lambda: ClassSelectivity(5, 3).update(torch.rand(2, 3), torch.tensor([0, 5])))
    one = Dimensionality(3)
    one.update(torch.rand(1, 3))
    _raises("at least two samples, got 1", one.compute)
    single = ClassSelectivity(5, 3)
    single.update(torch.rand(4, 3), torch.zeros(4).long())
    _raises("at least two classes, got 1", single.compute)
    off = ClassSelectivity(2, 3)
    off.update(torch.rand(2, 3), torch.tensor([[0.5, 0.5], [0.0, 0.0]]))
    _raises("total weight of 1 from 2 samples", off.compute)
