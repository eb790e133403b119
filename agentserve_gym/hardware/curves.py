"""Piecewise linear curves: how measured points become a function that is cheap to evaluate.

A decode step's attention time is measured at a grid of (sequences, context). Between grid points it
is taken linear, so a run of decode steps with a constant batch is exactly linear until the mean
context crosses a grid line: that is what lets an engine fuse steps.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .timing import UNBOUNDED_STEPS


def tabulate(xs: npt.ArrayLike, ys: npt.ArrayLike, count: int) -> tuple[float, ...]:
    """Values at 0, 1, ..., count - 1 of the curve through the points.

    Zero at 0 (an empty batch costs nothing), linear between the points. Beyond the last, at
    the mean slope of the curve's upper half.
    """
    at, known = np.asarray(xs, dtype=float), np.asarray(ys, dtype=float)
    grid = np.arange(count, dtype=float)
    values = np.interp(grid, at, known)
    if len(at) > 1:
        # Tile sizes make the last step flat or steep; the upper half of the curve is neither.
        middle = max(at[-1] / 2, at[0])
        slope = (known[-1] - np.interp(middle, at, known)) / (at[-1] - middle)
        values = np.where(grid > at[-1], known[-1] + slope * (grid - at[-1]), values)
    values[0] = 0.0
    return tuple(values.tolist())


def smooth(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The middle of the smallest rising curve above and the largest below: rises everywhere."""
    above = np.maximum.accumulate(values)
    below = np.minimum.accumulate(values[::-1])[::-1]
    return np.asarray((above + below) / 2)


class DecodeAttention:
    """Attention time of decode-only steps, bilinear in sequences and context per sequence.

    Sequences of unequal length cost more than as many of their mean length. The curve is read at
    ``mean + skew * (longest - mean)``, with a small measured ``skew`` for each batch size.

    Args:
        counts: grid of decode counts, increasing.
        contexts: grid of context lengths, tokens, increasing.
        seconds: one row per count, one value per context.
        skew: one value per count.
    """

    __slots__ = ("_contexts", "_counts", "_rows", "_seconds", "_skew", "knots")

    def __init__(
        self,
        counts: Sequence[int],
        contexts: Sequence[int],
        seconds: Sequence[Sequence[float]],
        skew: Sequence[float],
    ) -> None:
        self._counts = tuple(counts)
        self._contexts = np.asarray(contexts, dtype=float)
        # Measured noise must not make a longer context cheaper.
        self._seconds = np.apply_along_axis(smooth, 1, np.asarray(seconds, dtype=float))
        self._skew = tuple(skew)
        self.knots = [float(x) for x in contexts[1:-1]]
        self._rows: dict[int, tuple[list[float], list[float], float]] = {}

    def __call__(self, count: int, context: int, longest: int) -> tuple[float, float, int]:
        """Price ``count`` > 0 decodes whose contexts sum to ``context`` tokens.

        Returns:
            Seconds of the first step, by how much each step takes longer than the one before, and
            for how many steps that holds.
        """
        row = self._rows.get(count)
        starts, slopes, skew = self.row(count) if row is None else row
        mean = context / count
        if longest > mean:
            mean += skew * (longest - mean)
        knots = self.knots
        segment = bisect_right(knots, mean)
        slope = slopes[segment]
        value = starts[segment] + slope * mean
        if segment == len(knots):
            return value, slope, UNBOUNDED_STEPS
        return value, slope, int(knots[segment] - mean) + 1

    def seconds(self, count: int, context: float) -> float:
        """Seconds of ``count`` > 0 decodes of ``context`` tokens each."""
        starts, slopes, _ = self.row(count)
        segment = bisect_right(self.knots, context)
        return starts[segment] + slopes[segment] * context

    def outside(self, count: int, context: int) -> bool:
        """Whether such a step lies beyond the measured grid."""
        return count > self._counts[-1] or context > count * float(self._contexts[-1])

    def row(self, count: int) -> tuple[list[float], list[float], float]:
        """The curve of one batch size: intercept and slope of each segment, and its skew."""
        known = self._rows.get(count)
        if known is None:
            known = self._rows[count] = self._row(count)
        return known

    def _row(self, count: int) -> tuple[list[float], list[float], float]:
        counts = self._counts
        if len(counts) == 1:
            values, skew = self._seconds[0], self._skew[0]
        else:
            right = min(max(bisect_right(counts, count), 1), len(counts) - 1)
            share = (count - counts[right - 1]) / (counts[right] - counts[right - 1])
            values = (1 - share) * self._seconds[right - 1] + share * self._seconds[right]
            inside = min(max(share, 0.0), 1.0)
            skew = (1 - inside) * self._skew[right - 1] + inside * self._skew[right]
        slopes = np.diff(values) / np.diff(self._contexts)
        starts = values[:-1] - slopes * self._contexts[:-1]
        return starts.tolist(), slopes.tolist(), skew


class SkewShare:
    """Share of the way from mean to longest context that decodes of unequal length cost.

    Linear in (count, rate) between the points, constant beyond them; ``rate`` is the mean context
    over the longest, looked up in steps of a hundredth.

    Args:
        counts: grid of decode counts, increasing.
        rates: grid of rates, increasing, in [0, 1].
        share: one row per count, one value per rate.
    """

    __slots__ = ("_counts", "_rates", "_rows", "_share")

    def __init__(
        self, counts: Sequence[int], rates: Sequence[float], share: Sequence[Sequence[float]]
    ) -> None:
        self._counts, self._rates, self._share = counts, rates, share
        self._rows: dict[int, list[float]] = {}

    def __call__(self, count: int, rate: float) -> float:
        return self.row(count)[int(100 * rate)]

    def row(self, count: int) -> list[float]:
        """The share at every hundredth of a rate, for one batch size."""
        row = self._rows.get(count)
        if row is None:
            inside = min(max(count, self._counts[0]), self._counts[-1])
            known = interpolated_row(self._counts, self._share, inside)
            row = np.interp(np.linspace(0, 1, 101), self._rates, known).tolist()
            self._rows[count] = row
        return row


def interpolated_row(
    at: Sequence[int], rows: Sequence[Sequence[float]], value: float
) -> list[float]:
    """The row at ``value``, linear between the rows at ``at``, and on beyond the last."""
    if len(at) == 1:
        return list(rows[0])
    right = min(max(bisect_right(at, value), 1), len(at) - 1)
    share = (value - at[right - 1]) / (at[right] - at[right - 1])
    pairs = zip(rows[right - 1], rows[right], strict=True)
    return [near + share * (far - near) for near, far in pairs]


class ExpertSurface:
    """Expert layer time, bilinear in (local tokens, activated experts)."""

    def __init__(self, rows: npt.NDArray[np.float64]) -> None:
        self._tokens = np.unique(rows[:, 0]).tolist()
        self._curves = []
        for tokens in self._tokens:
            part = rows[rows[:, 0] == tokens]
            part = part[np.argsort(part[:, 1])]
            self._curves.append((part[:, 1], part[:, 2]))

    def __call__(self, tokens: float, activated: float) -> float:
        left, share = bracket(self._tokens, tokens, extend=True)
        near = self._along(left, activated)
        if share == 0.0:
            return near
        return (1 - share) * near + share * self._along(left + 1, activated)

    def _along(self, row: int, activated: float) -> float:
        """One row; few tokens were measured with few experts, so beyond its end it goes on."""
        experts, times = self._curves[row]
        if activated > experts[-1]:
            if len(experts) > 1:
                slope = (times[-1] - times[-2]) / (experts[-1] - experts[-2])
            else:
                slope = times[-1] / experts[-1]
            return float(times[-1] + slope * (activated - experts[-1]))
        return float(np.interp(activated, experts, times))


def bracket(axis: list[float], value: float, extend: bool) -> tuple[int, float]:
    """Index of the grid line to the left, and the share of the one to the right."""
    if len(axis) == 1 or value <= axis[0]:
        return 0, 0.0
    if value >= axis[-1] and not extend:
        return len(axis) - 1, 0.0
    left = min(bisect_right(axis, value) - 1, len(axis) - 2)
    return left, (value - axis[left]) / (axis[left + 1] - axis[left])
