"""Paired differences and their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from agentserve_gym.report.statistics import paired_difference


def test_hand_computed_pairs():
    # Differences -1, -3, -2: mean -2, standard deviation 1, t(0.975, 2) = 4.3027.
    found = paired_difference([9.0, 7.0, 8.0], [10.0, 10.0, 10.0])
    assert found.mean == -2.0
    assert found.relative == -0.2
    assert found.wins == 3
    assert (found.t.low, found.t.high) == pytest.approx((-2 - 4.3027 / 3**0.5, -2 + 4.3027 / 3**0.5), abs=1e-4)  # fmt: skip  # noqa: E501
    assert -3.0 <= found.bootstrap.low < -2.0 < found.bootstrap.high <= -1.0


def test_pairing_sees_what_pooling_would_not():
    generator = np.random.default_rng(1)
    workload = generator.normal(100.0, 30.0, 40)
    found = paired_difference(workload - 1.0 + generator.normal(0, 0.5, 40), workload)
    assert found.bootstrap.high < 0.0
    assert found.t.high < 0.0


@pytest.mark.parametrize("interval", ["t", "bootstrap"])
def test_intervals_cover_the_mean_about_as_often_as_they_say(interval):
    generator = np.random.default_rng(2)
    covered = 0
    for _ in range(300):
        found = getattr(
            paired_difference(generator.normal(1.0, 1.0, 30), np.zeros(30) + 1e-9, resamples=500),
            interval,
        )
        covered += found.low <= 1.0 <= found.high
    assert 0.90 <= covered / 300 <= 0.985


def test_equal_input_gives_equal_output():
    a, b = [1.0, 2.0, 4.0, 8.0], [2.0, 2.0, 5.0, 7.0]
    assert paired_difference(a, b) == paired_difference(a, b)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1.0], [1.0], "at least two"),
        ([1.0, 2.0], [1.0], "equally long"),
        ([1.0, float("nan")], [1.0, 2.0], "finite"),
    ],
)
def test_bad_pairs_are_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        paired_difference(a, b)
