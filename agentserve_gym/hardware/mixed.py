"""Attention of steps with prefill: a chunk and the decodes beside it, and how far they overlap.

::

    alone  = prefill(chunk, history)             one chunk alone, from its table
    beside = decodes(count, context)             the decodes beside the smallest chunk, likewise
    both   = max(alone, beside) + serial * min(alone, beside) + extra

A lone decode hides behind a long chunk (``serial`` near 0); a crowd of decodes fills the GPU, so
the chunk comes on top (near 1). ``extra`` is what launching empty tiles of short queries costs.
Both depend on (count, chunk). Decodes of unequal length cost ``share`` of the way from their mean
to their longest context; each chunk after the first costs what it costs alone, less a launch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import Field, model_validator

from .coefficients import Coefficients, check_increasing
from .curves import DecodeAttention, SkewShare, interpolated_row

Rows = Sequence[Sequence[float]]


class PrefillGrid(Coefficients):
    """Attention of one chunk alone: seconds by (chunk tokens, history tokens)."""

    chunks: tuple[int, ...] = Field(min_length=1)
    histories: tuple[int, ...] = Field(min_length=2)
    seconds: tuple[tuple[float, ...], ...]

    @model_validator(mode="after")
    def _shape(self) -> PrefillGrid:
        check_increasing("chunks", self.chunks)
        check_increasing("histories", self.histories)
        _check_table("seconds", self.seconds, len(self.chunks), len(self.histories))
        return self


class BesideGrid(Coefficients):
    """Decodes beside a chunk.

    ``seconds``: by (sequences, context of each), beside the smallest chunk. ``serial`` (no unit)
    and ``extra`` (seconds): by (sequences, chunk of the prefill grid).
    """

    counts: tuple[int, ...] = Field(min_length=1)
    contexts: tuple[int, ...] = Field(min_length=2)
    seconds: tuple[tuple[float, ...], ...]
    serial: tuple[tuple[float, ...], ...]
    extra: tuple[tuple[float, ...], ...]

    @model_validator(mode="after")
    def _shape(self) -> BesideGrid:
        check_increasing("counts", self.counts)
        check_increasing("contexts", self.contexts)
        _check_table("seconds", self.seconds, len(self.counts), len(self.contexts))
        return self


class SkewGrid(Coefficients):
    """Share of the way from mean to longest context that unequal decodes cost.

    By (sequences, mean context over longest), as measured with a few long contexts among short
    ones.
    """

    counts: tuple[int, ...] = Field(min_length=1)
    rates: tuple[float, ...] = Field(min_length=1)
    share: tuple[tuple[float, ...], ...]

    @model_validator(mode="after")
    def _shape(self) -> SkewGrid:
        check_increasing("counts", self.counts)
        check_increasing("rates", self.rates)
        _check_table("share", self.share, len(self.counts), len(self.rates))
        return self


class OverlapAttention(Coefficients):
    """Attention of steps with prefill, as this module prices it."""

    prefill: PrefillGrid
    beside: BesideGrid
    skew: SkewGrid

    @model_validator(mode="after")
    def _shape(self) -> OverlapAttention:
        counts, chunks = len(self.beside.counts), len(self.prefill.chunks)
        _check_table("beside.serial", self.beside.serial, counts, chunks)
        _check_table("beside.extra", self.beside.extra, counts, chunks)
        return self


class _Place(NamedTuple):
    """Where a chunk's length lies on the grid.

    Attributes:
        left: index of the grid line to its left. ``share``: of the line to the right.
        near, far: both lines, as (intercept, slope) for every piece of the history axis.
        longer, further: how many of the largest measured chunk a still longer one is, one after the
            other, and how much further back their queries see on average, tokens.
    """

    left: int
    share: float
    near: list[tuple[float, float]]
    far: list[tuple[float, float]]
    longer: float
    further: float


class PrefillAttention:
    """Attention of one chunk alone, bilinear in (chunk, history).

    Args:
        chunks: grid of chunk lengths, tokens, increasing.
        histories: grid of tokens already computed before the chunk, increasing.
        seconds: one row per chunk, one value per history.
    """

    __slots__ = ("_chunks", "_pieces", "_places", "inner", "launch_s")

    def __init__(self, chunks: Sequence[int], histories: Sequence[int], seconds: Rows) -> None:
        self._chunks = [float(chunk) for chunk in chunks]
        self._pieces = [_pieces(histories, row) for row in seconds]
        self._places: dict[float, _Place] = {}
        self.inner = [float(history) for history in histories[1:-1]]
        self.launch_s = float(seconds[0][0])

    def place(self, chunk: float) -> _Place:
        """Where a chunk lies on the grid; remembered for whole numbers of tokens."""
        found = self._places.get(chunk)
        if found is None:
            found = self._place(chunk)
            if chunk == int(chunk):
                self._places[chunk] = found
        return found

    def _place(self, chunk: float) -> _Place:
        chunks, pieces = self._chunks, self._pieces
        left = max(bisect_right(chunks, chunk) - 1, 0)
        near = chunks[left]
        if left + 1 == len(chunks):
            longer, further = max(chunk / near, 1.0), max(chunk - near, 0.0) / 2
            return _Place(left, 0.0, pieces[left], pieces[left], longer, further)
        share = max(chunk - near, 0.0) / (chunks[left + 1] - near)
        return _Place(left, share, pieces[left], pieces[left + 1], 1.0, 0.0)

    def seconds(self, chunk: float, history: float) -> float:
        """Seconds of one chunk; history beyond the grid grows linearly, as it does inside."""
        place = self.place(chunk)
        piece = bisect_right(self.inner, history)
        start, slope = place.near[piece]
        seconds = start + slope * history
        start, slope = place.far[piece]
        return seconds + place.share * (start + slope * history - seconds)


class _Crowd(NamedTuple):
    """What pricing needs to know of so many decodes: rows of the grids at that count."""

    serial: list[float]
    extra: list[float]
    starts: list[float]
    slopes: list[float]
    skew: list[float]


_NOBODY: tuple[float, float, list[float], list[float], list[float]] = (0.0, 0.0, [], [], [])


class OverlapPricer:
    """Evaluates ``OverlapAttention``. Immutable but for a cache."""

    __slots__ = ("_beside", "_crowds", "_decode", "_knots", "_prefill", "_skew")

    def __init__(self, coefficients: OverlapAttention) -> None:
        alone, beside, skew = coefficients.prefill, coefficients.beside, coefficients.skew
        self._prefill = PrefillAttention(alone.chunks, alone.histories, alone.seconds)
        unskewed = (0.0,) * len(beside.counts)
        self._decode = DecodeAttention(beside.counts, beside.contexts, beside.seconds, unskewed)
        self._knots = self._decode.knots
        self._skew = SkewShare(skew.counts, skew.rates, skew.share)
        self._beside = beside
        self._crowds: dict[int, _Crowd] = {}

    def run(
        self,
        fixed_s: float,
        count: int,
        context: int,
        longest: int,
        prefills: int,
        chunk: int,
        area: float,
        steps: int,
    ) -> list[float]:
        """Attention of ``prefills`` equal chunks and ``count`` decodes, as in ``BatchStep``; and of
        the steps after it, in which one chunk (``prefills`` is 1) is followed by the next.

        Returns:
            Seconds of each of the ``steps`` steps, ``fixed_s`` (all but attention) included.
        """
        mean_chunk = chunk / prefills
        prefill, knots, inner = self._prefill, self._knots, self._prefill.inner
        left, share, near, far, longer, further = prefill.place(mean_chunk)
        serial, extra, starts, slopes, skew = self._beside_chunk(count, left, share)
        itself = (mean_chunk + 1) / 2
        seconds: list[float] = []
        while True:
            history = area / chunk - itself + further  # what the queries see of it, on average
            piece = bisect_right(inner, history)
            start, slope = near[piece]
            alone = start + slope * history
            if share:
                start, slope = far[piece]
                alone += share * (start + slope * history - alone)
            total = alone = alone * longer
            if count:
                mean = context / count
                piece = bisect_right(knots, mean)
                beside = starts[piece] + slopes[piece] * mean
                total = beside + serial * alone if beside > alone else alone + serial * beside
                if longest > mean:
                    piece = bisect_right(knots, longest)
                    beside = starts[piece] + slopes[piece] * longest
                    most = beside + serial * alone if beside > alone else alone + serial * beside
                    total += skew[int(100 * (mean / longest))] * (most - total)
                total += extra * longer
                if total < 0.0:
                    total = 0.0
            if prefills > 1 and alone > prefill.launch_s:
                total += (prefills - 1) * (alone - prefill.launch_s)
            seconds.append(fixed_s + total)
            if len(seconds) == steps:
                return seconds
            context += count
            longest += 1
            area += chunk * chunk

    def _beside_chunk(
        self, count: int, left: int, share: float
    ) -> tuple[float, float, list[float], list[float], list[float]]:
        """``serial`` and ``extra`` of so many decodes beside a chunk at a place of the grid, and
        their own curve and skew."""
        if not count:
            return _NOBODY
        crowd = self._crowds.get(count)
        if crowd is None:
            crowd = self._crowds[count] = self._crowd(count)
        serials, extras, starts, slopes, skew = crowd
        serial, extra = serials[left], extras[left]
        if share:
            serial += share * (serials[left + 1] - serial)
            extra += share * (extras[left + 1] - extra)
        return serial, extra, starts, slopes, skew

    def _crowd(self, count: int) -> _Crowd:
        """Rows of one batch size; of those by chunk only ``extra`` goes on beyond the grid."""
        grid = self._beside
        inside = min(max(count, grid.counts[0]), grid.counts[-1])
        starts, slopes, _ = self._decode.row(count)
        return _Crowd(
            interpolated_row(grid.counts, grid.serial, inside),
            interpolated_row(grid.counts, grid.extra, count),
            starts,
            slopes,
            self._skew.row(count),
        )


def _pieces(histories: Sequence[int], row: Sequence[float]) -> list[tuple[float, float]]:
    """Intercept and slope of every piece of a row."""
    pieces = []
    for at, after, value, then in zip(histories, histories[1:], row, row[1:], strict=False):
        slope = (then - value) / (after - at)
        pieces.append((value - slope * at, slope))
    return pieces


def _check_table(name: str, rows: Rows, count: int, columns: int) -> None:
    if len(rows) != count or any(len(row) != columns for row in rows):
        raise ValueError(f"{name} must have {count} rows of {columns} values")
