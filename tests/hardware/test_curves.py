"""Curves through points: values between and beyond them, smoothing, the surface of experts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentserve_gym.hardware.pricing.curves import (
    ExpertSurface,
    Points,
    interpolate,
    smooth,
    tabulate,
)

sizes = st.integers(0, 100_000).map(float)


@given(
    points=st.lists(
        st.tuples(sizes, st.floats(-1e6, 1e6)), min_size=1, max_size=8, unique_by=lambda p: p[0]
    ),
    at=st.floats(0, 200_000),
)
def test_interpolation_is_numpys_to_the_last_bit(points, at):
    xs, ys = zip(*sorted(points), strict=True)
    for x in (at, *xs):
        assert interpolate(x, xs, ys) == np.interp(x, xs, ys)


def test_curves_start_at_zero_and_go_on_at_their_mean_slope():
    values = tabulate(Points([1, 10, 20], [5.0, 14.0, 14.0]), 41)
    assert values[0] == 0.0
    assert values[1] == 5.0
    assert values[4] == pytest.approx(8.0)
    assert values[40] == pytest.approx(14.0)  # flat over the upper half
    assert tabulate(Points([4, 8], [4.0, 8.0]), 13)[12] == pytest.approx(12.0)


def test_smoothing_makes_a_curve_rise_and_leaves_rising_ones_alone():
    assert smooth([1.0, 3.0, 2.0, 4.0]) == [1.0, 2.5, 2.5, 4.0]
    assert smooth([1.0, 2.0, 4.0]) == [1.0, 2.0, 4.0]


def test_the_expert_surface_interpolates_and_goes_on():
    rows = [(float(t), float(a), 10.0 + t + 5 * a) for t in (1, 9) for a in (8, 2, 4)]
    surface = ExpertSurface(rows)
    assert surface.seconds(5, 6) == pytest.approx(45)
    assert surface.seconds(1, 16) == pytest.approx(91)
    assert surface.seconds(17, 4) == pytest.approx(47)
