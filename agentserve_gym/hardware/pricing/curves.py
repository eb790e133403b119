"""Piecewise linear curves: how measured points become a function that is cheap to evaluate.

A decode step's attention time is measured at a grid of (sequences, context). Between grid points it
is taken linear, so a run of decode steps with a constant batch is exactly linear until the mean
context crosses a grid line: that is what lets an engine fuse steps.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from operator import itemgetter
from typing import NamedTuple

from agentserve_gym.hardware.pricing.timing import UNBOUNDED_STEPS

Rows = Sequence[Sequence[float]]


class Points(NamedTuple):
    """Points of a piecewise linear curve: sizes, increasing, and the seconds at each."""

    at: Sequence[float]
    seconds: Sequence[float]


class TokenCost(NamedTuple):
    """Seconds that grow linearly with tokens."""

    constant_s: float
    token_s: float


class DecodeTable(NamedTuple):
    """Attention of decode-only steps.

    ``seconds``: a row per count of sequences, a value per context of each, tokens; ``skew``: see
    `DecodeAttention`.
    """

    counts: Sequence[int]
    contexts: Sequence[int]
    seconds: Rows
    skew: Sequence[float]


class SkewTable(NamedTuple):
    """Share of the way from mean to longest context that unequal decodes cost.

    ``share``: a row per count of sequences, a value per rate (mean context over longest).
    """

    counts: Sequence[int]
    rates: Sequence[float]
    share: Rows


def interpolate(at: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """The curve through the points, linear between them and constant beyond; ``xs`` increasing."""
    if at < xs[0]:
        return ys[0]
    if at >= xs[-1]:
        return ys[-1]
    left = bisect_right(xs, at) - 1
    near, value = xs[left], ys[left]
    return (ys[left + 1] - value) / (xs[left + 1] - near) * (at - near) + value


def tabulate(points: Points, count: int) -> list[float]:
    """Values at 0, 1, ..., count - 1 of the curve through the points.

    Zero at 0 (an empty batch costs nothing), linear between the points. Beyond the last, at
    the mean slope of the curve's upper half.
    """
    at, known = [float(x) for x in points.at], [float(y) for y in points.seconds]
    last, end = at[-1], known[-1]
    values = [interpolate(x, at, known) for x in range(min(count, int(last) + 1))]
    slope = 0.0
    if len(at) > 1:
        # Tile sizes make the last step flat or steep; the upper half of the curve is neither.
        middle = max(last / 2, at[0])
        slope = (end - interpolate(middle, at, known)) / (last - middle)
    values += [end + slope * (x - last) for x in range(len(values), count)]
    values[0] = 0.0
    return values


def smooth(values: Sequence[float]) -> list[float]:
    """The middle of the smallest rising curve above and the largest below: rises everywhere."""
    above = accumulate(values, max)
    below = list(accumulate(reversed(values), min))
    return [(high + low) / 2 for high, low in zip(above, reversed(below), strict=True)]


class DecodeCurve:
    """Attention of so many decodes: intercept and slope of each segment of contexts, and skew."""

    __slots__ = ("skew", "slopes", "starts")

    def __init__(self, starts: list[float], slopes: list[float], skew: float) -> None:
        self.starts = starts
        self.slopes = slopes
        self.skew = skew


class DecodeAttention:
    """Attention time of decode-only steps, bilinear in sequences and context per sequence.

    Sequences of unequal length cost more than as many of their mean length. The curve is read at
    ``mean + skew * (longest - mean)``, with a small measured ``skew`` for each batch size.

    Attributes:
        knots: contexts at which the slope changes, tokens.
    """

    __slots__ = ("_contexts", "_counts", "_curves", "_seconds", "_skew", "knots")

    def __init__(self, table: DecodeTable) -> None:
        self._counts = list(table.counts)
        self._contexts = [float(context) for context in table.contexts]
        # Measured noise must not make a longer context cheaper.
        self._seconds = [smooth(row) for row in table.seconds]
        self._skew = list(table.skew)
        self.knots = self._contexts[1:-1]
        self._curves: dict[int, DecodeCurve] = {}

    def run(self, count: int, context: int, longest: int) -> tuple[float, float, int]:
        """Price ``count`` > 0 decodes whose contexts sum to ``context`` tokens.

        Returns:
            Seconds of the first step, by how much each step takes longer than the one before, and
            for how many steps that holds.
        """
        curve = self._curves.get(count)
        if curve is None:
            curve = self.curve(count)
        mean = context / count
        if longest > mean:
            mean += curve.skew * (longest - mean)
        knots = self.knots
        segment = bisect_right(knots, mean)
        slope = curve.slopes[segment]
        value = curve.starts[segment] + slope * mean
        if segment == len(knots):
            return value, slope, UNBOUNDED_STEPS
        return value, slope, int(knots[segment] - mean) + 1

    def seconds(self, count: int, context: float) -> float:
        """Seconds of ``count`` > 0 decodes of ``context`` tokens each."""
        curve = self.curve(count)
        segment = bisect_right(self.knots, context)
        return curve.starts[segment] + curve.slopes[segment] * context

    def outside(self, count: int, context: int) -> bool:
        """Whether such a step lies beyond the measured grid."""
        return count > self._counts[-1] or context > count * self._contexts[-1]

    def curve(self, count: int) -> DecodeCurve:
        """The curve of one batch size."""
        known = self._curves.get(count)
        if known is None:
            known = self._curves[count] = self._curve(count)
        return known

    def _curve(self, count: int) -> DecodeCurve:
        counts, contexts = self._counts, self._contexts
        if len(counts) == 1:
            values, skew = self._seconds[0], self._skew[0]
        else:
            right = min(max(bisect_right(counts, count), 1), len(counts) - 1)
            share = (count - counts[right - 1]) / (counts[right] - counts[right - 1])
            pairs = zip(self._seconds[right - 1], self._seconds[right], strict=True)
            values = [(1 - share) * near + share * far for near, far in pairs]
            inside = min(max(share, 0.0), 1.0)
            skew = (1 - inside) * self._skew[right - 1] + inside * self._skew[right]
        lines = segments(contexts, values)
        return DecodeCurve([start for start, _ in lines], [slope for _, slope in lines], skew)


def segments(xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
    """Intercept and slope of every segment of a piecewise linear curve."""
    lines: list[tuple[float, float]] = []
    for at, after, value, then in zip(xs, xs[1:], ys, ys[1:], strict=False):
        slope = (then - value) / (after - at)
        lines.append((value - slope * at, slope))
    return lines


class SkewShare:
    """Share of the way from mean to longest context that decodes of unequal length cost.

    Linear in (count, rate) between the points, constant beyond them; ``rate`` is the mean context
    over the longest, looked up in steps of a hundredth.
    """

    __slots__ = ("_rows", "_table")

    def __init__(self, table: SkewTable) -> None:
        self._table = table
        self._rows: dict[int, list[float]] = {}

    def row(self, count: int) -> list[float]:
        """The share at every hundredth of a rate, for one batch size."""
        row = self._rows.get(count)
        if row is None:
            counts, rates, share = self._table
            inside = min(max(count, counts[0]), counts[-1])
            known = interpolated_row(counts, share, inside)
            row = [interpolate(percent * 0.01, rates, known) for percent in range(101)]
            self._rows[count] = row
        return row


def interpolated_row(at: Sequence[int], rows: Rows, value: int) -> list[float]:
    """The row at ``value``, linear between the rows at ``at``, and on beyond the last."""
    if len(at) == 1:
        return list(rows[0])
    right = min(max(bisect_right(at, value), 1), len(at) - 1)
    share = (value - at[right - 1]) / (at[right] - at[right - 1])
    pairs = zip(rows[right - 1], rows[right], strict=True)
    return [near + share * (far - near) for near, far in pairs]


class ExpertSurface:
    """Expert layer time, bilinear in (local tokens, activated experts).

    Args:
        points: (local tokens, activated experts, seconds), in any order.
    """

    __slots__ = ("_curves", "_tokens")

    def __init__(self, points: Sequence[tuple[float, float, float]]) -> None:
        curves: dict[float, tuple[list[float], list[float]]] = {}
        for tokens, activated, seconds in sorted(points, key=itemgetter(0, 1)):
            experts, times = curves.setdefault(tokens, ([], []))
            experts.append(activated)
            times.append(seconds)
        self._tokens = list(curves)
        self._curves = list(curves.values())

    def seconds(self, tokens: float, activated: float) -> float:
        """Seconds of one layer, or of as many as the points are of."""
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
            return times[-1] + slope * (activated - experts[-1])
        return interpolate(activated, experts, times)


def bracket(axis: list[float], value: float, extend: bool) -> tuple[int, float]:
    """Index of the grid line to the left, and the share of the one to the right."""
    if len(axis) == 1 or value <= axis[0]:
        return 0, 0.0
    if value >= axis[-1] and not extend:
        return len(axis) - 1, 0.0
    left = min(bisect_right(axis, value) - 1, len(axis) - 2)
    return left, (value - axis[left]) / (axis[left + 1] - axis[left])
