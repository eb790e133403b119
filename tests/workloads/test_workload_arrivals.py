"""Arrival processes: rate, burstiness, order, laziness."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentserve_gym.workloads import (
    ArrivalSpec,
    ClosedLoopArrivals,
    DiurnalArrivals,
    GammaArrivals,
    GeneratedWorkload,
    PoissonArrivals,
    StagedArrivals,
    Workload,
    build_workload,
)
from agentserve_gym.workloads.spec import Stage

MANY = GeneratedWorkload(mix={"function_calling": 1}, programs=5_000_000)


def times(arrivals: ArrivalSpec, count: int, seed: int = 0) -> np.ndarray:
    return np.array(list(islice(build_workload(MANY, arrivals, seed).arrival_times(), count)))


@pytest.mark.parametrize("cv", [0.5, 1.0, 1.3, 3.5])
def test_gamma_has_the_rate_and_the_coefficient_of_variation(cv: float) -> None:
    count = 40_000
    gaps = np.diff(times(GammaArrivals(rate_per_s=2.0, cv=cv), count), prepend=0.0)
    assert gaps.mean() == pytest.approx(0.5, rel=5 * cv / count**0.5)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.06)


def test_poisson_gaps_are_exponential() -> None:
    gaps = np.diff(times(PoissonArrivals(rate_per_s=4.0), 20_000), prepend=0.0)
    assert gaps.mean() == pytest.approx(0.25, rel=0.04)
    assert (gaps > 0.25).mean() == pytest.approx(np.exp(-1), abs=0.015)


def test_a_diurnal_rate_has_its_mean_and_its_peak() -> None:
    spec = DiurnalArrivals(rate_per_s=10.0, peak_to_mean=2.5, period_s=1000.0)
    at = times(spec, 100_000)
    at = at[at < 10_000.0]  # whole periods
    assert len(at) / 10_000 == pytest.approx(10.0, rel=0.02)
    by_phase = np.histogram(at % 1000.0, bins=50)[0] / (len(at) / 50)
    assert by_phase.max() == pytest.approx(2.5, rel=0.08)
    assert abs(int(by_phase.argmax()) - 25) <= 3  # the peak is half a period after the trough
    assert by_phase[0] < 0.3


def test_a_flat_day_is_the_renewal_process_itself() -> None:
    flat = DiurnalArrivals(rate_per_s=2.0, cv=1.3, peak_to_mean=1.0, period_s=500.0)
    plain = GammaArrivals(rate_per_s=2.0, cv=1.3)
    np.testing.assert_allclose(times(flat, 3000), times(plain, 3000), rtol=1e-6)


def test_stages_have_their_rates_and_come_again() -> None:
    stages = (
        Stage(duration_s=300.0, rate_per_s=2.0),
        Stage(duration_s=100.0, rate_per_s=0.0),
        Stage(duration_s=100.0, rate_per_s=12.0),
    )
    at = times(StagedArrivals(stages=stages), 60_000)
    at = at[at < 15_000.0]  # thirty rounds
    counts = np.histogram(at % 500.0, bins=[0, 300, 400, 500])[0] / 30
    assert counts.tolist() == pytest.approx([600.0, 0.0, 1200.0], rel=0.03)


def test_one_stage_is_the_renewal_process_itself() -> None:
    staged = StagedArrivals(stages=(Stage(duration_s=70.0, rate_per_s=2.0),), cv=1.3)
    plain = GammaArrivals(rate_per_s=2.0, cv=1.3)
    np.testing.assert_allclose(times(staged, 3000), times(plain, 3000), rtol=1e-9)


@given(
    seed=st.integers(0, 2**40),
    rate=st.floats(1e-4, 1e4),
    cv=st.floats(0.05, 12.0),
    peak=st.floats(1.0, 10.0),
)
def test_times_never_decrease_and_are_finite(
    seed: int, rate: float, cv: float, peak: float
) -> None:
    for spec in (
        GammaArrivals(rate_per_s=rate, cv=cv),
        DiurnalArrivals(rate_per_s=rate, cv=cv, peak_to_mean=peak, period_s=50.0 / rate),
        StagedArrivals(
            stages=(
                Stage(duration_s=10.0 / rate, rate_per_s=0.0),
                Stage(duration_s=50.0 / rate, rate_per_s=rate * peak),
            ),
            cv=cv,
        ),
    ):
        at = times(spec, 300, seed).tolist()
        assert all(0 <= a <= b < float("inf") for a, b in pairwise(at))


def test_there_are_as_many_arrivals_as_programs() -> None:
    few = GeneratedWorkload(mix={"function_calling": 1}, programs=7)
    assert len(list(build_workload(few, PoissonArrivals(rate_per_s=1), 0).arrival_times())) == 7


def test_a_closed_loop_has_a_concurrency_and_no_times() -> None:
    workload = build_workload(MANY, ClosedLoopArrivals(concurrency=8), 0)
    assert workload.concurrency == 8
    with pytest.raises(ValueError, match="closed_loop has no arrival times"):
        workload.arrival_times()


def test_arrivals_and_programs_have_separate_streams() -> None:
    def build(arrivals: ArrivalSpec) -> Workload:
        return build_workload(MANY, arrivals, 3)

    slow, fast = build(PoissonArrivals(rate_per_s=1)), build(PoissonArrivals(rate_per_s=100))
    assert slow.program(11) == fast.program(11)
    assert next(slow.arrival_times()) == pytest.approx(100 * next(fast.arrival_times()))
