"""Every formula against the slow reference, and against its own known limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from selplug.core.errors import InputError
from selplug.core.measures import functional as F

positive = st.floats(0, 100, allow_nan=False, width=32)


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


@st.composite
def labelled(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    samples, units, classes = draw(st.integers(2, 12)), draw(st.integers(1, 5)), draw(st.integers(2, 5))
    responses = draw(arrays(np.float32, (samples, units), elements=positive))
    targets = draw(arrays(np.int64, samples, elements=st.integers(0, classes - 1)))
    return responses, targets, classes


@given(labelled())
def test_class_means_and_selectivity_equal_the_loops(data):
    responses, targets, classes = data
    means, weights = F.class_means(tensor(responses), tensor(targets), classes)
    expected_means, expected_weights = reference.class_means(responses, targets, classes)
    np.testing.assert_allclose(means, expected_means, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(weights, expected_weights)
    if (expected_weights > 0).sum() < 2:
        with pytest.raises(InputError, match="at least two classes, got 1"):
            F.class_selectivity(means, weights)
        return
    index = F.class_selectivity(means.double(), weights)
    np.testing.assert_allclose(
        index, reference.class_selectivity(means.double().numpy(), expected_weights), rtol=1e-5, atol=1e-6
    )
    assert (index >= -1e-6).all()
    assert (index <= 1).all()


@given(arrays(np.float32, (7, 3), elements=positive), arrays(np.float32, (7, 4), elements=st.floats(0, 1, width=32)))
def test_soft_targets_weight_the_means(responses, targets):
    means, weights = F.class_means(tensor(responses).double(), tensor(targets), 4)
    expected, expected_weights = reference.class_means(responses, targets, 4)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-5, atol=1e-6)
    solid = expected_weights > 1e-3
    np.testing.assert_allclose(means[solid], expected[solid], rtol=1e-4, atol=1e-6)


def test_one_hot_targets_equal_hard_ones():
    responses, labels = torch.rand(20, 6), torch.arange(20) % 4
    hard = F.class_means(responses, labels, 4)
    soft = F.class_means(responses, torch.nn.functional.one_hot(labels, 4), 4)
    torch.testing.assert_close(hard, soft)


def test_half_precision_responses_are_summed_in_float32():
    responses = torch.full((5000, 1), 1.001, dtype=torch.float16)
    means, _ = F.class_means(responses, torch.arange(5000) % 2, 2)
    assert means.dtype == torch.float32
    torch.testing.assert_close(means, torch.full((2, 1), float(responses[0, 0])))


def test_known_values():
    means = torch.tensor([[1.0, 2.0, 0.0, 0.0], [0.0, 2.0, 0.0, 1e-7], [0.0, 2.0, 0.0, 0.0]])
    index = F.class_selectivity(means)
    # one class only, all classes alike, dead, below eps and so dead
    torch.testing.assert_close(index, torch.tensor([1.0, 0.0, 0.0, 0.0]), atol=2e-6, rtol=0)


@given(labelled())
def test_class_wise_selectivity_equals_the_loops_and_the_index_at_the_largest_class(data):
    responses, targets, classes = data
    means, weights = reference.class_means(responses, targets, classes)
    if (weights > 0).sum() < 2:
        return
    signed = F.class_wise_selectivity(tensor(means), tensor(weights))
    np.testing.assert_allclose(signed, reference.class_wise_selectivity(means, weights), rtol=1e-6, atol=1e-9)
    assert bool((signed[weights > 0].abs() <= 1).all())
    index = F.class_selectivity(tensor(means), tensor(weights))
    np.testing.assert_allclose(signed[weights > 0].amax(0), index, rtol=1e-6, atol=1e-9)


def test_class_wise_selectivity_is_differentiable_and_finite_at_dead_units():
    means = torch.rand(4, 3, dtype=torch.float64)
    means[:, 1] = 0
    weights = torch.tensor([1.0, 0.0, 2.0, 3.0])
    means.requires_grad_()
    F.class_wise_selectivity(means, weights)[weights > 0].sum().backward()
    assert torch.isfinite(means.grad).all()
    assert (means.grad[:, 1] == 0).all()
    assert torch.autograd.gradcheck(F.class_wise_selectivity, (torch.rand(4, 3).double().requires_grad_(),))


def test_absent_classes_take_no_part():
    means, weights = torch.tensor([[3.0], [1.0], [0.0]]), torch.tensor([5.0, 5.0, 0.0])
    torch.testing.assert_close(F.class_selectivity(means, weights), torch.tensor([(3 - 1) / (3 + 1 + 1e-6)]))


def test_selectivity_is_differentiable_and_finite_at_dead_units():
    means = torch.tensor([[1.0, 0.0], [0.5, 0.0], [0.2, 0.0]], dtype=torch.float64, requires_grad=True)
    F.class_selectivity(means).sum().backward()
    assert torch.isfinite(means.grad).all()
    assert (means.grad[:, 1] == 0).all()
    assert torch.autograd.gradcheck(F.class_selectivity, (torch.rand(4, 3, dtype=torch.float64).requires_grad_(),))


@pytest.mark.parametrize(("classes", "samples", "level"), [(10, 128, 0.30), (10, 10_000, 0.04), (200, 256, 0.72)])
def test_null_level_of_rectified_gaussian_responses(classes, samples, level):
    """The levels that METHODS measured: without any class information the index is far from 0."""
    generator = torch.Generator().manual_seed(0)
    responses = torch.randn(samples, 400, generator=generator).clamp_min(0)
    labels = torch.randint(classes, (samples,), generator=generator)
    index = F.class_selectivity(*F.class_means(responses, labels, classes)).mean()
    assert float(index) == pytest.approx(level, abs=0.02)


def test_shuffled_targets_are_a_seeded_permutation():
    labels = torch.arange(1000) // 100
    shuffled = F.shuffle_targets(labels, seed=3)
    assert torch.equal(shuffled.sort().values, labels)
    assert torch.equal(shuffled, F.shuffle_targets(labels, seed=3))
    assert not torch.equal(shuffled, F.shuffle_targets(labels, seed=4))
    assert float((shuffled == labels).float().mean()) == pytest.approx(0.1, abs=0.04)


@given(st.integers(0, 50), st.lists(st.integers(0, 9), max_size=6), st.integers(2, 7))
def test_spread_targets_do_not_depend_on_batches(seed, sizes, classes):
    total = sum(sizes)
    parts, start = [], 0
    for size in sizes:
        parts.append(F.spread_targets(start, size, classes, seed))
        start += size
    whole = F.spread_targets(0, total, classes, seed)
    assert torch.equal(torch.cat(parts) if parts else torch.empty(0, dtype=torch.long), whole)
    counts = torch.bincount(whole, minlength=classes)
    assert int(counts.max() - counts.min()) <= 1


spectra = arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1e6, allow_nan=False))


@given(spectra)
def test_participation_ratio_equals_the_loops_and_its_bounds(values):
    ratio = float(F.participation_ratio(tensor(values)))
    if values.max() > 1e-100:  # the reference underflows below
        assert ratio == pytest.approx(reference.participation_ratio(values), rel=1e-9)
        assert 1 - 1e-9 <= ratio <= np.count_nonzero(values) + 1e-6


def test_participation_ratio_of_equal_and_of_tiny_eigenvalues():
    assert float(F.participation_ratio(torch.ones(17))) == pytest.approx(17)
    assert float(F.participation_ratio(torch.full((9,), 1e-200, dtype=torch.float64))) == pytest.approx(9)
    assert float(F.participation_ratio(torch.zeros(4))) == 0


@given(st.integers(1, 12), st.integers(2, 30), st.integers(0, 2**31), st.sampled_from([0.0, 3.0, 8.0]))
def test_contributions_equal_leaving_units_out(units, samples, seed, spread):
    """Also where one unit varies 1e8 times as much as another, and the closed form alone would lose its digits."""
    rng = np.random.default_rng(seed)
    responses = rng.standard_normal((samples, units)) * 10.0 ** (spread * rng.random(units) - 4)
    covariance = np.cov(responses.T).reshape(units, units)
    found = F.participation_ratio_contributions(tensor(covariance))
    np.testing.assert_allclose(found, reference.participation_ratio_contributions(covariance), rtol=1e-6, atol=1e-6)


def test_contributions_of_known_covariances():
    torch.testing.assert_close(F.participation_ratio_contributions(torch.eye(5)), torch.ones(5).double())
    torch.testing.assert_close(F.participation_ratio_contributions(torch.zeros(3, 3)), torch.zeros(3).double())
    dominated = torch.diag(torch.tensor([1e12, 1.0, 1.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(
        F.participation_ratio_contributions(dominated),
        torch.tensor([1 - 2.0, 0.0, 0.0, 0.0]).double(),
        atol=1e-9,
        rtol=0,
    )


@given(st.integers(2, 8), st.integers(0, 2**31), st.floats(0.3, 1))
def test_the_outside_of_a_subspace_equals_the_loops(units, seed, fraction):
    rng = np.random.default_rng(seed)
    clean, others = rng.standard_normal((20, units)), rng.standard_normal((4, units))
    basis = F.principal_subspace(tensor(np.cov(clean.T)), fraction)
    torch.testing.assert_close(basis.T @ basis, torch.eye(basis.shape[1]).double())
    residual = F.outside_subspace(tensor(others - clean.mean(0)), basis)
    shares, energies = reference.outside_shares(others[:, :, None], clean, fraction)
    np.testing.assert_allclose(residual.square(), shares[:, :, 0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(residual.square().sum(1), energies, rtol=1e-6, atol=1e-9)
    assert (basis.T @ residual.T).abs().max() < 1e-9


def test_the_number_of_components_and_its_errors():
    covariance = torch.diag(torch.tensor([1.0, 4.0, 2.0]))
    assert torch.equal(F.principal_subspace(covariance, 2).abs(), torch.eye(3).double()[:, [1, 2]])
    assert F.principal_subspace(covariance, 0.5).shape == (3, 1)
    for components in (0, 4, 1.5):
        with pytest.raises(InputError, match=f"got {components}"):
            F.principal_subspace(covariance, components)


@given(spectra, st.integers(2, 1000))
def test_corrected_ratio_equals_the_loops(values, samples):
    if values.max() <= 1e-100:
        return
    corrected = float(F.corrected_participation_ratio(tensor(values), samples))
    expected = reference.corrected_participation_ratio(values, samples)
    if math.isnan(expected) or expected > 1e11:
        assert math.isnan(corrected) or corrected > 1e10
    else:
        assert corrected == pytest.approx(expected, rel=1e-6)


def test_correction_removes_the_bias_of_small_samples():
    """White Gaussian responses of 50 units: the plain ratio of 100 samples reads 34, the corrected one 50."""
    generator = torch.Generator().manual_seed(0)
    plain, corrected = [], []
    for _ in range(40):
        values = F.covariance_eigenvalues(torch.cov(torch.randn(100, 50, generator=generator).T))
        plain.append(float(F.participation_ratio(values)))
        corrected.append(float(F.corrected_participation_ratio(values, 100)))
    assert np.mean(plain) < 36
    assert np.mean(corrected) == pytest.approx(50, rel=0.03)


def test_correction_that_the_sample_cannot_resolve_is_no_number():
    values = torch.ones(99)  # 100 samples, all directions alike: D = 99, and 1/99 - 1/99 = 0
    assert math.isnan(float(F.corrected_participation_ratio(values, 100)))
    assert math.isnan(float(F.corrected_participation_ratio(torch.zeros(5), 100)))


@given(spectra, st.sampled_from([0.5, 0.9, 0.95, 0.99, 1.0]))
def test_components_equal_the_loops(values, fraction):
    expected = reference.components_for_variance(values, fraction) if values.sum() > 0 else 0
    assert F.components_for_variance(tensor(values), fraction) == expected


def test_components_of_equal_eigenvalues():
    assert F.components_for_variance(torch.full((10,), 0.1, dtype=torch.float64), 0.9) == 9


@settings(max_examples=30)
@given(st.floats(0.2, 3), st.integers(30, 700), st.integers(0, 2**31))
def test_exponent_equals_the_normal_equations(exponent, count, seed):
    rng = np.random.default_rng(seed)
    values = np.arange(1, count + 1) ** -exponent * np.exp(0.1 * rng.standard_normal(count))
    fit = F.spectrum_exponent(tensor(values))
    expected = reference.spectrum_exponent(values)
    np.testing.assert_allclose((fit.exponent, fit.stderr, fit.r2), expected[:3], rtol=1e-8)
    assert (fit.first, fit.last) == expected[3:]


def test_exponent_of_an_exact_power_law_and_its_ranges():
    values = torch.arange(1, 1001, dtype=torch.float64) ** -1.3
    fit = F.spectrum_exponent(values)
    assert (fit.first, fit.last) == (11, 500)
    assert fit.exponent == pytest.approx(1.3)
    assert fit.r2 == pytest.approx(1)
    assert F.spectrum_exponent(values[:64]).first == 1
    assert F.spectrum_exponent(values[:64]).last == 64
    assert F.spectrum_exponent(values, first=5, last=50).last == 50
    assert F.spectrum_exponent(torch.ones(64)).exponent == pytest.approx(0, abs=1e-12)


def test_no_fit_below_ten_ranks_and_rounding_left_out():
    assert math.isnan(F.spectrum_exponent(torch.arange(1, 10) ** -1.0).exponent)
    assert math.isnan(F.spectrum_exponent(torch.zeros(64)).exponent)
    values = torch.cat([torch.arange(1, 31, dtype=torch.float64) ** -1.0, torch.full((30,), 1e-17)])
    assert F.spectrum_exponent(values).last == 30


@given(st.integers(0, 200), st.integers(1, 200))
def test_wilson_interval_holds_the_share_and_inverts_the_score_test(successes, trials):
    successes = min(successes, trials)
    low, high = F.wilson_interval(successes, trials)
    share, z = successes / trials, 1.959963984540054
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    for bound in (low, high):
        if 1e-9 < bound < 1 - 1e-9:  # where the normal test of p = bound just rejects
            assert abs(share - bound) == pytest.approx(z * math.sqrt(bound * (1 - bound) / trials), rel=1e-6)


def test_wilson_interval_against_published_figures():
    assert F.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I
    assert F.wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert F.wilson_interval(0, 0) == (0, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.class_means(torch.rand(4), torch.zeros(4).long(), 2), r"responses \(N, U\), got .* shape \(4,\)"),
        (lambda: F.class_means(torch.rand(4, 2), torch.zeros(3).long(), 2), r"\(N,\)=\(4,\).*got \(3,\)"),
        (
            lambda: F.class_means(torch.rand(4, 2), torch.full((4,), 2), 2),
            r"labels in \[0, 2\), got values from 2 to 2",
        ),
        (lambda: F.class_means(torch.rand(4, 2), torch.full((4,), -1), 2), r"labels in \[0, 2\), got values from -1"),
        (lambda: F.class_means(torch.rand(4, 2), torch.rand(4), 2), "integer labels"),
        (lambda: F.class_means(torch.rand(2, 2), -torch.rand(2, 2), 2), "soft targets >= 0"),
        (lambda: F.class_selectivity(torch.rand(3)), r"means \(C, U\)"),
        (lambda: F.class_selectivity(torch.rand(3, 2), torch.ones(2)), r"weights \(C,\)"),
        (lambda: F.class_wise_selectivity(torch.rand(1, 2)), "at least two classes, got 1"),
        (lambda: F.participation_ratio_contributions(torch.ones(3, 2)), r"covariance \(U, U\), got shape \(3, 2\)"),
        (lambda: F.components_for_variance(torch.ones(3), 1.5), r"fraction in \(0, 1\], got 1.5"),
        (lambda: F.participation_ratio(torch.ones(3, 3)), r"eigenvalues \(K,\)"),
        (lambda: F.spectrum_exponent(torch.ones(30), first=5, last=5), "first=5, last=5"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
