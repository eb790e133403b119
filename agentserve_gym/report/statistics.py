"""Statistics of paired runs: differences, ratios, interquartile means, scores, profiles.

Two policies met the same programs, seed by seed: position ``i`` of both is the same seed, so
comparisons resample seeds jointly (common random numbers). Strata are cells of a benchmark.
Resampling is seeded: equal input, equal output. After Agarwal et al. 2021 (arXiv 2108.13264),
except that seeds are paired here and not there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.report.student_t import t_quantile

CONFIDENCE = 0.95
RESAMPLES = 2000
_PAIRED_RESAMPLES = 10_000
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its two-sided 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided 95 % interval."""

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
    a: Sequence[float], b: Sequence[float], *, resamples: int = _PAIRED_RESAMPLES
) -> PairedDifference:
    """Compare paired measurements.

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
    mean = float(difference.mean())
    half = _t_factor(difference.size) * (float(difference.std(ddof=1)) / math.sqrt(difference.size))
    draws = np.random.default_rng(0).integers(0, first.size, (resamples, first.size))
    means = difference[draws].mean(axis=1)
    return PairedDifference(
        pairs=first.size,
        mean=mean,
        t=Interval(mean - half, mean + half),
        bootstrap=Interval(*_percentiles(means)),
        relative=float(difference.mean() / second.mean()),
        relative_bootstrap=Interval(*_percentiles(means / second[draws].mean(axis=1))),
        wins=int((difference < 0).sum()),
    )


def interquartile_mean(values: Array, axis: int | None = None) -> Array:
    """Mean of the middle half: a quarter of the values, rounded down, is cut off each side."""
    ordered = np.sort(values, axis=axis)
    count = ordered.shape[-1 if axis is None else axis]
    middle = np.arange(count // 4, count - count // 4)
    return np.asarray(np.take(ordered, middle, axis=axis).mean(axis=axis))


def normalised_scores(jct_s: Array, reference_s: Array, ideal_s: Array) -> Array:
    """Per seed: 0 at the reference's JCT, 1 at the lower bound, negative below the reference.

    Raises:
        ValueError: if the bound is not below the reference.
    """
    room = np.asarray(reference_s) - np.asarray(ideal_s)
    if (room <= 0).any():
        raise ValueError(f"the lower bound must be below the reference; the room is {room.min()}")
    return np.asarray((np.asarray(reference_s) - np.asarray(jct_s)) / room)


def stratified_iqm(strata: Sequence[Array], resamples: int = RESAMPLES) -> Estimate:
    """Interquartile mean over all runs; its interval resamples seeds within each stratum."""
    _require_runs(strata)
    rng = np.random.default_rng(0)
    drawn = np.concatenate([_resample(values, rng, resamples) for values in strata], axis=1)
    value = float(interquartile_mean(np.concatenate(list(strata))))
    return _percentile_interval(value, interquartile_mean(drawn, axis=1), strata)


def probability_of_improvement(
    strata: Sequence[Array], others: Sequence[Array], resamples: int = RESAMPLES
) -> Estimate:
    """Chance that the first policy is the smaller of a pair, averaged over strata; ties count half.

    Raises:
        ValueError: if the strata of the two are not equally long.
    """
    if [len(a) for a in strata] != [len(b) for b in others]:
        raise ValueError("strata of both policies must hold the same seeds")
    _require_runs(strata)
    rng = np.random.default_rng(0)
    wins = [(a < b) + 0.5 * (a == b) for a, b in zip(strata, others, strict=True)]
    drawn = np.mean([_resample(won, rng, resamples).mean(axis=1) for won in wins], axis=0)
    value = float(np.mean([won.mean() for won in wins]))
    return _percentile_interval(value, drawn, strata)


def ratio(values: Array, others: Array) -> Estimate:
    """Geometric mean over seeds of ``values / others``, with Student's interval of its logarithm.

    Few seeds make the bootstrap of a mean too narrow; the log-ratio of paired means is close
    enough to normal for Student's t. One seed gives an interval of everything.
    """
    logs = np.log(np.asarray(values) / np.asarray(others))
    mean = float(logs.mean())
    if logs.size < 2:
        return Estimate(math.exp(mean), 0.0, math.inf)
    half = float(_t_factor(logs.size) * logs.std(ddof=1) / logs.size**0.5)
    return Estimate(math.exp(mean), math.exp(mean - half), math.exp(mean + half))


def pooled_ratio(values: Sequence[Array], others: Sequence[Array]) -> Estimate:
    """Geometric mean over strata of ``ratio``; the interval resamples seeds within each stratum."""
    logs = [np.log(a / b) for a, b in zip(values, others, strict=True)]
    _require_runs(logs)
    rng = np.random.default_rng(0)
    drawn = np.mean([_resample(log, rng, RESAMPLES).mean(axis=1) for log in logs], axis=0)
    value = float(np.mean([log.mean() for log in logs]))
    estimate = _percentile_interval(value, drawn, logs)
    return Estimate(math.exp(value), math.exp(estimate.low), math.exp(estimate.high))


def held_out_choice(candidates: dict[str, Array]) -> tuple[str, Array]:
    """The candidate of smallest mean, and per seed the figure of a choice made without that seed.

    Choosing the best of many on the seeds that measure it flatters it; the choice for each seed is
    made on all other seeds.
    """
    names = list(candidates)
    table = np.stack([candidates[name] for name in names])
    count = table.shape[1]
    best = names[int(table.mean(axis=1).argmin())]
    if count == 1:
        return best, candidates[best]
    others = (table.sum(axis=1, keepdims=True) - table) / (count - 1)
    return best, table[others.argmin(axis=0), np.arange(count)]


def performance_profile(strata: Sequence[Array], thresholds: Array) -> Array:
    """Share of runs whose score is at least each threshold, every stratum weighing the same."""
    shares = [(values[:, None] >= thresholds[None, :]).mean(axis=0) for values in strata]
    return np.asarray(np.mean(shares, axis=0))


def _require_runs(strata: Sequence[Array]) -> None:
    if not strata or any(len(values) == 0 for values in strata):
        raise ValueError("every stratum must hold at least one run")


def _resample(values: Array, rng: np.random.Generator, resamples: int) -> Array:
    """``resamples`` rows of draws with replacement.

    Deviations from the mean are widened by sqrt(n / (n - 1)): a resample of n values varies that
    much less than n new values would, which matters for few seeds.
    """
    found = np.asarray(values, dtype=float)
    count, mean = len(found), found.mean()
    widened = mean + (found - mean) * math.sqrt(count / max(count - 1, 1))
    return np.asarray(widened[rng.integers(0, count, (resamples, count))])


def _percentile_interval(value: float, drawn: Array, strata: Sequence[Array]) -> Estimate:
    """Percentiles of what was drawn; everything where a stratum has one run, which says nothing of
    its spread."""
    if min(len(values) for values in strata) == 1:
        return Estimate(value, -math.inf, math.inf)
    return Estimate(value, *_percentiles(drawn))


def _percentiles(drawn: Array) -> tuple[float, float]:
    tail = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(drawn, (tail, 100.0 - tail))
    return float(low), float(high)


def _t_factor(count: int) -> float:
    """How many standard errors of a mean of ``count`` values its interval reaches to each side."""
    return t_quantile(0.5 + CONFIDENCE / 2, count - 1)
