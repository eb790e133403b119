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


class PrefillAttention:
    """Attention of one chunk alone, bilinear in (chunk, history).

    Args:
        chunks: grid of chunk lengths, tokens, increasing.
        histories: grid of tokens already computed before the chunk, increasing.
        seconds: one row per chunk, one value per history.
    """

    __slots__ = ("_chunks", "_inner", "_pieces", "largest", "launch_s")

    def __init__(self, chunks: Sequence[int], histories: Sequence[int], seconds: Rows) -> None:
        self._chunks = [float(chunk) for chunk in chunks]
        self._inner = [float(history) for history in histories[1:-1]]
        self._pieces = [_pieces(histories, row) for row in seconds]
        self.largest = float(chunks[-1])
        self.launch_s = float(seconds[0][0])

    def place(self, chunk: float) -> tuple[int, float]:
        """Index of the grid line to the left, and the share of the one to the right."""
        chunks = self._chunks
        right = bisect_right(chunks, chunk)
        if right == 0:
            return 0, 0.0
        if right == len(chunks):
            return right - 1, 0.0
        near = chunks[right - 1]
        return right - 1, (chunk - near) / (chunks[right] - near)

    def __call__(self, left: int, share: float, history: float) -> float:
        """Seconds at a place; history beyond the grid grows linearly, as it does inside."""
        piece = bisect_right(self._inner, history)
        start, slope = self._pieces[left][piece]
        near = start + slope * history
        if share == 0.0:
            return near
        start, slope = self._pieces[left + 1][piece]
        return near + share * (start + slope * history - near)


class OverlapPricer:
    """Evaluates ``OverlapAttention``. Immutable but for a cache."""

    __slots__ = ("_beside", "_decode", "_prefill", "_rows", "_skew")

    def __init__(self, coefficients: OverlapAttention) -> None:
        alone, beside, skew = coefficients.prefill, coefficients.beside, coefficients.skew
        self._prefill = PrefillAttention(alone.chunks, alone.histories, alone.seconds)
        unskewed = (0.0,) * len(beside.counts)
        self._decode = DecodeAttention(beside.counts, beside.contexts, beside.seconds, unskewed)
        self._skew = SkewShare(skew.counts, skew.rates, skew.share)
        self._beside = beside
        self._rows: dict[int, tuple[list[float], list[float]]] = {}

    def seconds(
        self,
        count: int,
        context: int,
        longest: int,
        prefills: int,
        chunk: int,
        area: float,
    ) -> float:
        """Attention of ``prefills`` equal chunks and ``count`` decodes, as in ``BatchStep``."""
        mean_chunk = chunk / prefills
        before = area / chunk - (mean_chunk + 1) / 2  # what the queries see of it, on average
        prefill = self._prefill
        left, share = prefill.place(mean_chunk)
        longer = 1.0
        if mean_chunk > prefill.largest:
            # As so many of the largest measured chunk, one after the other.
            longer = mean_chunk / prefill.largest
            before += (mean_chunk - prefill.largest) / 2
        alone = prefill(left, share, before) * longer
        more = 0.0
        if prefills > 1 and alone > prefill.launch_s:
            more = (prefills - 1) * (alone - prefill.launch_s)
        if not count:
            return alone + more
        row = self._rows.get(count)
        if row is None:
            row = self._rows[count] = self._row(count)
        serials, extras = row
        serial, extra = serials[left], extras[left]
        if share:
            serial += share * (serials[left + 1] - serial)
            extra += share * (extras[left + 1] - extra)
        extra *= longer
        mean = context / count
        beside = self._decode.seconds(count, mean)
        total = beside + serial * alone if beside > alone else alone + serial * beside
        if longest > mean:
            beside = self._decode.seconds(count, longest)
            most = beside + serial * alone if beside > alone else alone + serial * beside
            total += self._skew(count, mean / longest) * (most - total)
        total += extra
        return total + more if total > 0.0 else more

    def _row(self, count: int) -> tuple[list[float], list[float]]:
        """``serial`` and ``extra`` of one batch size, by chunk; only ``extra`` goes on beyond."""
        grid = self._beside
        inside = min(max(count, grid.counts[0]), grid.counts[-1])
        return (
            interpolated_row(grid.counts, grid.serial, inside),
            interpolated_row(grid.counts, grid.extra, count),
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
