"""Statistics against answers worked out by hand, and against intervals' promised coverage."""

import math

import numpy as np
import pytest
from scipy.stats import t, trim_mean

from agentserve_gym.report.statistics import (
    held_out_choice,
    interquartile_mean,
    normalised_scores,
    performance_profile,
    pooled_ratio,
    probability_of_improvement,
    ratio,
    stratified_iqm,
)
from agentserve_gym.report.student_t import t_quantile


def test_interquartile_mean_leaves_out_the_outer_quarters():
    values = np.array([100.0, 1.0, 2.0, 3.0, 4.0, -50.0, 2.5, 2.5])
    # Sorted: -50 1 | 2 2.5 2.5 3 | 4 100.
    assert interquartile_mean(values) == pytest.approx(2.5)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 30])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_interquartile_mean_is_scipys(count, axis):
    values = np.random.default_rng(count).lognormal(size=(count, 9))
    expected = trim_mean(values, 0.25, axis=axis)
    np.testing.assert_allclose(interquartile_mean(values, axis=axis), expected, rtol=1e-12)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 29, 99, 1000])
@pytest.mark.parametrize("probability", [0.5, 0.6, 0.9, 0.975, 0.995])
def test_t_quantile_is_scipys(probability, freedom):
    expected = t.ppf(probability, freedom)
    assert t_quantile(probability, freedom) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_scores_are_zero_at_the_reference_and_one_at_the_bound():
    reference, bound = np.array([100.0, 50.0]), np.array([20.0, 10.0])
    assert normalised_scores(reference, reference, bound) == pytest.approx([0.0, 0.0])
    assert normalised_scores(bound, reference, bound) == pytest.approx([1.0, 1.0])
    assert normalised_scores(np.array([60.0, 70.0]), reference, bound) == pytest.approx([0.5, -0.5])


def test_scores_need_room_above_the_bound():
    with pytest.raises(ValueError, match="below the reference"):
        normalised_scores(np.array([5.0]), np.array([5.0]), np.array([5.0]))


def test_constant_strata_have_intervals_of_no_width():
    estimate = stratified_iqm([np.full(4, 0.5), np.full(6, 0.5)])
    assert (estimate.value, estimate.low, estimate.high) == (0.5, 0.5, 0.5)


def test_bootstrap_resamples_within_strata():
    """Strata far apart but constant within: drawing across them would widen the interval."""
    estimate = stratified_iqm([np.zeros(10), np.ones(10)])
    assert (estimate.low, estimate.value, estimate.high) == (0.5, 0.5, 0.5)


def test_bootstrap_is_the_same_every_time():
    strata = [np.random.default_rng(1).normal(size=10)]
    assert stratified_iqm(strata) == stratified_iqm(strata)


def test_probability_of_improvement_counts_pairs_and_halves_ties():
    a = [np.array([1.0, 2.0, 3.0, 4.0])]
    b = [np.array([2.0, 2.0, 2.0, 5.0])]
    # Smaller, tied, larger, smaller.
    assert probability_of_improvement(a, b).value == pytest.approx(2.5 / 4)


def test_probability_of_improvement_weighs_strata_equally():
    a = [np.zeros(2), np.ones(8)]
    b = [np.ones(2), np.zeros(8)]
    assert probability_of_improvement(a, b).value == pytest.approx(0.5)


def test_unpaired_strata_are_refused():
    with pytest.raises(ValueError, match="same seeds"):
        probability_of_improvement([np.zeros(2)], [np.zeros(3)])
    with pytest.raises(ValueError, match="at least one run"):
        stratified_iqm([])


def test_ratio_has_students_interval_of_the_log():
    estimate = ratio(np.exp([0.1, 0.3]), np.ones(2))
    # Mean 0.2, standard error 0.1, t quantile of one degree of freedom 12.706.
    assert estimate.value == pytest.approx(math.exp(0.2))
    assert estimate.low == pytest.approx(math.exp(0.2 - 12.7062 * 0.1), rel=1e-4)
    assert estimate.high == pytest.approx(math.exp(0.2 + 12.7062 * 0.1), rel=1e-4)


def test_one_seed_proves_nothing():
    estimate = ratio(np.array([2.0]), np.array([1.0]))
    assert (estimate.value, estimate.low, estimate.high) == (pytest.approx(2.0), 0.0, math.inf)


def test_pairing_removes_what_seeds_share():
    rng = np.random.default_rng(0)
    seeds = rng.lognormal(sigma=1.0, size=10)
    other = seeds * rng.lognormal(sigma=0.01, size=10)
    estimate = ratio(0.9 * seeds, other)
    assert 0.88 < estimate.low < estimate.high < 0.92


def test_ratio_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(400):
        estimate = ratio(rng.lognormal(0.2, 0.3, size=10), np.ones(10))
        inside += estimate.low <= math.exp(0.2) <= estimate.high
    assert 0.92 < inside / 400 < 0.98


def test_pooled_ratio_weighs_cells_equally():
    estimate = pooled_ratio([np.full(2, 2.0), np.full(8, 0.5)], [np.ones(2), np.ones(8)])
    assert estimate.value == pytest.approx(1.0)


def test_held_out_choice_does_not_see_its_own_seed():
    """Two equal policies with opposite luck: the best on all seeds flatters, the held-out not."""
    lucky = {"a": np.array([1.0, 3.0, 2.0]), "b": np.array([3.0, 1.5, 2.0])}
    best, values = held_out_choice(lucky)
    assert best == "a"
    # Means of the other seeds: a 2.5, b 1.75 for seed 0; a 1.5, b 2.5 for 1; a 2, b 2.25 for 2.
    assert values == pytest.approx([3.0, 3.0, 2.0])


def test_profile_weighs_cells_equally():
    shares = performance_profile([np.array([0.0, 1.0]), np.ones(6)], np.array([0.0, 0.5, 1.1]))
    assert shares == pytest.approx([1.0, 0.75, 0.0])


def test_one_run_in_a_stratum_makes_every_interval_endless():
    estimate = stratified_iqm([np.array([1.0, 2.0]), np.array([1.5])])
    assert (estimate.low, estimate.high) == (-math.inf, math.inf)
    estimate = pooled_ratio([np.array([2.0])], [np.array([1.0])])
    assert (estimate.value, estimate.low, estimate.high) == (pytest.approx(2.0), 0.0, math.inf)


@pytest.mark.parametrize("seeds", [3, 10])
def test_pooled_ratio_covers_the_truth_about_as_often_as_it_says(seeds: int):
    """Twelve cells of few seeds: without widening, three seeds would cover less than 90 %."""
    rng = np.random.default_rng(5)
    inside = 0
    for _ in range(200):
        values = [rng.lognormal(0.1, 0.2, size=seeds) for _ in range(12)]
        estimate = pooled_ratio(values, [np.ones(seeds)] * 12)
        inside += estimate.low <= math.exp(0.1) <= estimate.high
    assert inside / 200 >= 0.91
