"""Fit the attention of steps with prefill: tables as they are, and how far their parts overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agentserve_gym.hardware.coefficients import BesideGrid, OverlapAttention, PrefillGrid, SkewGrid
from agentserve_gym.hardware.pricing.curves import DecodeAttention, DecodeTable
from agentserve_gym.hardware.pricing.overlap import PrefillAttention
from agentserve_gym.hardware.pricing.profile import AttentionGrid
from agentserve_gym.hardware.profile import attention_table
from agentserve_gym.hardware.profile_tables import SKEW_RATES, Array, ProfileTables

_SMALL_CHUNK = 64
"""Up to here a chunk is one tile of queries, and the decodes beside it cost the same."""
_BEYOND_POOL_WEIGHT = 0.2
"""Weight of batches that do not fit the KV pool: a skewed batch is priced between its mean and
one of its longest context, at about this share."""
_MOST_SERIAL = 2.5
"""Bound of ``serial``: a chunk that had idle blocks alone can cost more than twice its time."""

Mask = npt.NDArray[np.bool_]


def fit_mixed(
    tables: ProfileTables, layers: int, whole_s: Array, fitted: Mask, inside: Mask
) -> tuple[OverlapAttention, Array]:
    """Fit the steps with prefill of a profile.

    Args:
        tables: of one layer.
        layers: of the model.
        whole_s: time of the whole step of every row of ``mixed_rows(tables)``: errors are shares
            of it.
        fitted: which of those rows to use.
        inside: which of them fit the KV pool.

    Returns:
        The coefficients, and predicted attention of every row, seconds.
    """
    rows = mixed_rows(tables)
    grid = AttentionGrid(attention_table(tables, layers))
    prefill = _prefill_grid(rows, grid)
    counts = [int(n) for n in np.unique(rows[:, 2]) if n > 0]
    contexts = [int(x) for x in np.unique(rows[rows[:, 2] > 0, 3])]
    small = [chunk for chunk in prefill.chunks if chunk <= _SMALL_CHUNK] or [prefill.chunks[0]]
    seconds = [
        [float(np.mean([grid.one_chunk(c, 0, n, x) for c in small])) for x in contexts]
        for n in counts
    ]
    decode = DecodeAttention(DecodeTable(counts, contexts, seconds, [0.0] * len(counts)))
    alone_of = PrefillAttention(prefill.plain())
    alone = np.array([alone_of.seconds(c, h) for c, h in rows[:, :2]])
    beside = np.array([decode.seconds(int(n), x) if n else 0.0 for n, x in rows[:, 2:4]])
    true = rows[:, 4] * layers * 1e-6
    weight = np.where(inside, 1.0, _BEYOND_POOL_WEIGHT) / whole_s * fitted
    terms = np.zeros((2, len(counts), len(prefill.chunks)))
    for i, count in enumerate(counts):
        for j, chunk in enumerate(prefill.chunks):
            here = (rows[:, 2] == count) & (rows[:, 0] == chunk)
            parts = np.maximum(alone, beside)[here], np.minimum(alone, beside)[here]
            terms[:, i, j] = _overlap(parts, true[here], weight[here])
    overlap = OverlapAttention(
        prefill=prefill,
        beside=BesideGrid(
            counts=tuple(counts),
            contexts=tuple(contexts),
            seconds=tuple(rounded(row) for row in seconds),
            serial=tuple(tuple(round(float(s), 3) for s in row) for row in terms[0]),
            extra=tuple(rounded(row, digits=4) for row in terms[1]),
        ),
        skew=_skew_grid(tables, counts),
    )
    column = np.searchsorted(prefill.chunks, rows[:, 0])
    row = np.maximum(np.searchsorted(counts, rows[:, 2]), 0)
    predicted = np.maximum(alone, beside) + np.where(
        rows[:, 2] > 0,
        terms[0][row, column] * np.minimum(alone, beside) + terms[1][row, column],
        0.0,
    )
    return overlap, predicted


def mixed_rows(tables: ProfileTables) -> Array:
    """Rows of the attention table with a prefill chunk."""
    return tables.attention[tables.attention[:, 0] > 0]


def rounded(values: Sequence[float] | Array, digits: int = 5) -> tuple[float, ...]:
    """Values with so many significant digits, as coefficient files have them."""
    return tuple(float(f"{value:.{digits}g}") for value in values)


def _prefill_grid(rows: Array, grid: AttentionGrid) -> PrefillGrid:
    chunks = [int(chunk) for chunk in np.unique(rows[:, 0])]
    histories = _doubling(np.unique(rows[:, 1]))
    return PrefillGrid(
        chunks=tuple(chunks),
        histories=tuple(histories),
        seconds=tuple(rounded([grid.one_chunk(c, h, 0, 0) for h in histories]) for c in chunks),
    )


def _doubling(values: Array) -> list[int]:
    """A subset, each at least twice the one before it, with the last."""
    chosen: list[int] = []
    for value in values:
        if not chosen or value >= 2 * chosen[-1]:
            chosen.append(int(value))
    return chosen if values[-1] == chosen[-1] else [*chosen, int(values[-1])]


def _overlap(parts: tuple[Array, Array], true: Array, weight: Array) -> tuple[float, float]:
    """(serial, extra) of one batch size and chunk, by weighted least squares."""
    longer, shorter = parts
    if not weight.any():
        return 1.0, 0.0
    rest = (true - longer) * weight
    slope = np.stack([shorter * weight, weight], axis=1)
    serial = float(np.clip(np.linalg.lstsq(slope, rest, rcond=None)[0][0], 0.0, _MOST_SERIAL))
    extra = float(((rest - serial * slope[:, 0]) @ weight) / (weight @ weight))
    return serial, extra


def _skew_grid(tables: ProfileTables, counts: list[int]) -> SkewGrid:
    share = tables.skew_by_rate(counts)
    return SkewGrid(
        counts=tuple(counts),
        rates=SKEW_RATES,
        share=tuple(tuple(round(value, 4) for value in row) for row in share),
    )
