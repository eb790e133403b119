"""When programs arrive: lazy iterators of times in seconds, non-decreasing, from 0."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.workloads.spec import (
    DiurnalArrivals,
    GammaArrivals,
    PoissonArrivals,
    StagedArrivals,
)

_CHUNK = 1024
_PROFILE_STEPS = 4096


def poisson_times(spec: PoissonArrivals, rng: np.random.Generator) -> Iterator[float]:
    """Endless arrival times of a Poisson process."""
    return _renewal_times(spec.rate_per_s, 1.0, rng)


def gamma_times(spec: GammaArrivals, rng: np.random.Generator) -> Iterator[float]:
    """Endless arrival times of a Gamma renewal process: shape ``1 / cv^2``, mean ``1 / rate``."""
    return _renewal_times(spec.rate_per_s, spec.cv, rng)


def diurnal_times(spec: DiurnalArrivals, rng: np.random.Generator) -> Iterator[float]:
    """Endless arrival times of a Gamma renewal process in a clock that runs at the day's rate."""
    return _periodic_times(*_daily_profile(spec), spec.cv, rng)


def staged_times(spec: StagedArrivals, rng: np.random.Generator) -> Iterator[float]:
    """Endless arrival times of a Gamma renewal process in a clock that runs at stages' rates."""
    lengths_s = [stage.duration_s for stage in spec.stages]
    expected = [stage.duration_s * stage.rate_per_s for stage in spec.stages]
    times = np.concatenate([[0.0], np.cumsum(lengths_s)])
    return _periodic_times(times, np.concatenate([[0.0], np.cumsum(expected)]), spec.cv, rng)


def _periodic_times(
    times: NDArray[np.float64],
    cumulative: NDArray[np.float64],
    cv: float,
    rng: np.random.Generator,
) -> Iterator[float]:
    """Endless arrival times at a rate that repeats.

    The renewal process is drawn in operational time (one arrival a unit on average) and each point
    is mapped through the inverse of the cumulative rate.

    Args:
        times: over one period, from 0. ``cumulative``: the expected number of arrivals up to each.
    """
    period_s, per_period = float(times[-1]), float(cumulative[-1])
    for operational in _renewal_times(1.0, cv, rng):
        periods, rest = divmod(operational, per_period)
        yield periods * period_s + float(np.interp(rest, cumulative, times))


def _renewal_times(rate_per_s: float, cv: float, rng: np.random.Generator) -> Iterator[float]:
    shape = 1.0 / cv**2
    now = 0.0
    while True:
        gaps = rng.gamma(shape, 1.0 / (shape * rate_per_s), size=_CHUNK)
        for time_s in now + np.cumsum(gaps):
            now = float(time_s)
            yield now


def _daily_profile(
    spec: DiurnalArrivals,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times over one period and the expected number of arrivals up to each."""
    k = _concentration(spec.peak_to_mean)
    phase = np.linspace(-math.pi, math.pi, _PROFILE_STEPS + 1)
    # exp(k (cos - 1)) rather than exp(k cos): the same shape, and it cannot overflow.
    density = np.exp(k * (np.cos(phase) - 1.0))
    cumulative = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    cumulative *= spec.rate_per_s * spec.period_s / cumulative[-1]
    return (phase + math.pi) / (2 * math.pi) * spec.period_s, cumulative


def _concentration(peak_to_mean: float) -> float:
    """Solve ``exp(k) / I0(k) = peak_to_mean`` by bisection (the left side grows with k)."""
    low, high = 0.0, 700.0
    for _ in range(80):
        middle = (low + high) / 2
        if math.exp(middle) / float(np.i0(middle)) < peak_to_mean:
            low = middle
        else:
            high = middle
    return (low + high) / 2
