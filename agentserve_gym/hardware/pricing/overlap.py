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

from agentserve_gym.hardware.pricing.curves import (
    DecodeAttention,
    DecodeTable,
    Rows,
    SkewShare,
    SkewTable,
    interpolated_row,
    segments,
)


class PrefillTable(NamedTuple):
    """Attention of one chunk alone: a row per chunk, a value per history, both in tokens."""

    chunks: Sequence[int]
    histories: Sequence[int]
    seconds: Rows


class BesideTable(NamedTuple):
    """Decodes beside a chunk.

    ``seconds``: by (sequences, context of each), beside the smallest chunk. ``serial`` (no unit)
    and ``extra`` (seconds): by (sequences, chunk of the prefill table).
    """

    counts: Sequence[int]
    contexts: Sequence[int]
    seconds: Rows
    serial: Rows
    extra: Rows


class OverlapTables(NamedTuple):
    """Attention of steps with prefill, as this module prices it."""

    prefill: PrefillTable
    beside: BesideTable
    skew: SkewTable


class _Place:
    """Where a chunk's length lies on the grid.

    Attributes:
        left: index of the grid line to its left. ``share``: of the line to the right.
        near, far: both lines, as (intercept, slope) for every piece of the history axis.
        longer, further: how many of the largest measured chunk a still longer one is, one after the
            other, and how much further back their queries see on average, tokens.
    """

    __slots__ = ("far", "further", "left", "longer", "near", "share")

    def __init__(
        self,
        left: int,
        share: float,
        near: list[tuple[float, float]],
        far: list[tuple[float, float]],
        longer: float,
        further: float,
    ) -> None:
        self.left = left
        self.share = share
        self.near = near
        self.far = far
        self.longer = longer
        self.further = further


class PrefillAttention:
    """Attention of one chunk alone, bilinear in (chunk, history).

    Attributes:
        inner: histories at which the slope changes, tokens.
        launch_s: what the smallest chunk costs without history.
    """

    __slots__ = ("_chunks", "_pieces", "_places", "inner", "launch_s")

    def __init__(self, table: PrefillTable) -> None:
        self._chunks = [float(chunk) for chunk in table.chunks]
        self._pieces = [segments(table.histories, row) for row in table.seconds]
        self._places: dict[float, _Place] = {}
        self.inner = [float(history) for history in table.histories[1:-1]]
        self.launch_s = table.seconds[0][0]

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


class _Crowd:
    """What pricing needs to know of so many decodes.

    Attributes:
        serial, extra: rows of the table at that count, a value per chunk.
        starts, slopes: of every segment of the decodes' own curve.
        skew: see `SkewShare`.
    """

    __slots__ = ("extra", "serial", "skew", "slopes", "starts")

    def __init__(
        self,
        serial: list[float],
        extra: list[float],
        starts: list[float],
        slopes: list[float],
        skew: list[float],
    ) -> None:
        self.serial = serial
        self.extra = extra
        self.starts = starts
        self.slopes = slopes
        self.skew = skew

    def beside(self, place: _Place) -> tuple[float, float]:
        """``serial`` and ``extra`` beside a chunk at a place of the grid."""
        left, share = place.left, place.share
        serial, extra = self.serial[left], self.extra[left]
        if share:
            serial += share * (self.serial[left + 1] - serial)
            extra += share * (self.extra[left + 1] - extra)
        return serial, extra


_NOBODY = _Crowd([], [], [], [], [])


class OverlapPricer:
    """Evaluates ``OverlapTables``. Immutable but for a cache."""

    __slots__ = ("_beside", "_crowds", "_decode", "_prefill", "_skew")

    def __init__(self, tables: OverlapTables) -> None:
        self._beside = beside = tables.beside
        self._prefill = PrefillAttention(tables.prefill)
        unskewed = (0.0,) * len(beside.counts)
        self._decode = DecodeAttention(
            DecodeTable(beside.counts, beside.contexts, beside.seconds, unskewed)
        )
        self._skew = SkewShare(tables.skew)
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
        prefill, knots, inner = self._prefill, self._decode.knots, self._prefill.inner
        place = prefill.place(mean_chunk)
        share, near, far = place.share, place.near, place.far
        longer, further = place.longer, place.further
        serial = extra = 0.0
        crowd = _NOBODY
        if count:
            crowd = self._crowd(count)
            serial, extra = crowd.beside(place)
        starts, slopes, skew = crowd.starts, crowd.slopes, crowd.skew
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

    def _crowd(self, count: int) -> _Crowd:
        """Rows of one batch size; of those by chunk only ``extra`` goes on beyond the grid."""
        crowd = self._crowds.get(count)
        if crowd is None:
            table = self._beside
            inside = min(max(count, table.counts[0]), table.counts[-1])
            curve = self._decode.curve(count)
            crowd = self._crowds[count] = _Crowd(
                interpolated_row(table.counts, table.serial, inside),
                interpolated_row(table.counts, table.extra, count),
                curve.starts,
                curve.slopes,
                self._skew.row(count),
            )
        return crowd
