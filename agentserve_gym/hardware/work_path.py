"""Attention of steps with prefill where only whole kernels were measured: work against path.

``(work^q + path^q)^(1/q)``: attention takes as long as its total work or its longest sequence,
softened by the exponent q. Sums of kernels have no overlap of chunk and decodes to fit; ``mixed``
is the form of measured mixed steps.
"""

from __future__ import annotations

from pydantic import Field

from .coefficients import Coefficients
from .curves import DecodeAttention, tabulate

TILE_ROWS = 128
"""Query rows per tile of the attention kernel: chunks are padded to whole tiles."""


class MixedWork(Coefficients):
    """Seconds of attention work in a step with prefill, per unit of each quantity.

    ``decode_alone``: share of what the decodes would cost in a step of their own (no unit).
    ``tile_pair``: query-key pairs with chunks padded to whole tiles; ``pair``: without padding.
    ``crowd_*``: above 64 (32) sequences of more than 1,024 (2,048) tokens the kernel's reads stop
    sharing the cache; per sequence above, times token above.
    """

    constant: float = Field(ge=0)
    decode: float = Field(ge=0)
    context_token: float = Field(ge=0)
    decode_times_chunk_token: float = Field(ge=0)
    chunk_token: float = Field(ge=0)
    tile_pair: float = Field(ge=0)
    pair: float = Field(ge=0)
    tile_row: float = Field(ge=0)
    history_token: float = Field(ge=0)
    crowd_64: float = Field(ge=0)
    crowd_32: float = Field(ge=0)
    decode_alone: float = Field(default=0.0, ge=0)


class MixedPath(Coefficients):
    """Seconds of the longest sequence in a step with prefill, which one block works off alone."""

    constant: float = Field(ge=0)
    longest_token: float = Field(ge=0)
    decode: float = Field(ge=0)
    chunk_token: float = Field(ge=0)


class MixedAttention(Coefficients):
    """``(work^q + path^q)^(1/q)``; ``skew`` weighs unequal decode contexts, by chunk tokens."""

    exponent: float = Field(ge=1)
    work: MixedWork
    path: MixedPath
    skew_at: tuple[int, ...] = (0,)
    skew: tuple[float, ...] = (0.0,)


class WorkPathPricer:
    """Evaluates ``MixedAttention``."""

    __slots__ = ("_decode", "_skew", "_terms")

    def __init__(self, mixed: MixedAttention, decode: DecodeAttention) -> None:
        work, path = mixed.work, mixed.path
        self._decode = decode
        self._terms = (
            *(getattr(work, name) for name in MixedWork.model_fields),
            *(getattr(path, name) for name in MixedPath.model_fields),
            mixed.exponent,
        )
        self._skew = tabulate((*mixed.skew_at, 1 << 30), (*mixed.skew, mixed.skew[-1]), 2049)

    def seconds(
        self,
        count: int,
        context: int,
        longest: int,
        prefills: int,
        chunk: int,
        area: float,
    ) -> float:
        """Attention of a step with prefill; arguments as in ``BatchStep``."""
        shape = (prefills, chunk, area)
        attention = self._uniform(count, context, *shape)
        if count and longest * count > context:
            skew = self._skew[chunk if chunk < len(self._skew) else -1]
            attention += skew * (self._uniform(count, longest * count, *shape) - attention)
        return attention

    def _uniform(self, count: int, context: int, prefills: int, chunk: int, area: float) -> float:
        """Attention of a step with prefill, with all decodes at their mean context."""
        w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, p0, p1, p2, p3, power = self._terms
        mean_chunk = chunk / prefills
        before = area / chunk - (mean_chunk + 1) / 2
        rows = -(-mean_chunk // TILE_ROWS) * TILE_ROWS * prefills
        work = (
            w0
            + w1 * count
            + w2 * context
            + (w3 * count + w4) * chunk
            + w5 * rows * (before + mean_chunk / 2)
            + w6 * area
            + w7 * rows
            + w8 * before * prefills
        )
        longest = before + mean_chunk
        if count:
            decode = context / count
            if w11:
                work += w11 * self._decode(count, context, 0).value_s
            if decode > longest:
                longest = decode
            if count > 32 and decode > 1024:
                work += w9 * max(count - 64, 0) * (decode - 1024)
                work += w10 * (count - 32) * max(decode - 2048, 0)
        path = p0 + p1 * longest + p2 * count + p3 * chunk
        if path > work:
            work, path = path, work
        total: float = work * (1.0 + (path / work) ** power) ** (1.0 / power)
        return total
