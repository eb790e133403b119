"""Paired differences with 95 % intervals: two policies met the same programs, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.student_t import t_quantile

CONFIDENCE = 0.95
_RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """``a - b`` over paired measurements, negative where ``a`` is smaller.

    Attributes:
        pairs: how many.
        mean: of the differences, in their unit.
        t: Student's interval of the mean.
        bootstrap: percentile interval of the mean over resampled pairs.
        relative: ``mean`` as a share of ``b``'s mean; ``relative_bootstrap`` its interval, both
            means resampled together.
        wins: pairs in which ``a`` is smaller.
    """

    pairs: int
    mean: float
    t: Interval
    bootstrap: Interval
    relative: float
    relative_bootstrap: Interval
    wins: int

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)


def paired_difference(
    a: Sequence[float], b: Sequence[float], *, resamples: int = _RESAMPLES
) -> PairedDifference:
    """Compare paired measurements; the resampling is seeded, so equal input gives equal output.

    Raises:
        ValueError: if lengths differ, there are fewer than two pairs, or a value is not finite.
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.shape != second.shape or first.ndim != 1 or first.size < 2:
        raise ValueError(
            f"pairs must be two equally long lists of at least two numbers, got {first.shape} "
            f"and {second.shape}"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("pairs must be finite numbers")
    difference = first - second
    draws = np.random.default_rng(0).integers(0, first.size, (resamples, first.size))
    means = difference[draws].mean(axis=1)
    return PairedDifference(
        pairs=first.size,
        mean=float(difference.mean()),
        t=_t_interval(difference),
        bootstrap=_percentiles(means),
        relative=float(difference.mean() / second.mean()),
        relative_bootstrap=_percentiles(means / second[draws].mean(axis=1)),
        wins=int((difference < 0).sum()),
    )


def _percentiles(values: NDArray[np.float64]) -> Interval:
    tail = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(values, (tail, 100.0 - tail))
    return Interval(float(low), float(high))


def _t_interval(difference: NDArray[np.float64]) -> Interval:
    freedom = difference.size - 1
    error = float(difference.std(ddof=1)) / math.sqrt(difference.size)
    half = t_quantile(0.5 + CONFIDENCE / 2.0, freedom) * error
    mean = float(difference.mean())
    return Interval(mean - half, mean + half)
