"""The compact latency form: one small coefficient file per (accelerator, model, parallelism).

::

    t = dense(T) + head(S) + all_reduce(T) + experts
      + decode-only step:  decode_attention(sequences, context)          piecewise linear
      | step with prefill: (work^q + path^q)^(1/q)                       see MixedAttention

T tokens in the batch, S sampled sequences. ``dense`` and ``head`` are curves through few points,
because tile sizes make real linear layers rise in steps. In a step with prefill, attention takes
as long as its total work or its longest sequence, softened by the exponent q. Decode-only steps
are linear in the contexts between grid lines, so a run of them has a closed form.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from .curves import DecodeAttention, ExpertSurface, tabulate
from .timing import BatchStep, DecodeRun

TILE_ROWS = 128
"""Query rows per tile of the attention kernel: chunks are padded to whole tiles."""

CACHED_TOKENS = 8705
"""Batches up to a budget of 8,192 tokens and 512 sequences are looked up in tables."""


class Coefficients(BaseModel):
    """Base of all coefficient groups: unknown keys and non-finite numbers are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Curve(Coefficients):
    """Points of a piecewise linear curve; ``seconds`` for the whole step (all layers)."""

    at: tuple[int, ...] = Field(min_length=1)
    seconds: tuple[float, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _shape(self) -> Curve:
        if len(self.at) != len(self.seconds):
            raise ValueError(f"at has {len(self.at)} points, seconds {len(self.seconds)}")
        _check_increasing("at", self.at)
        return self


class DecodeGrid(Coefficients):
    """Attention of decode-only steps: seconds by (sequences, context tokens of each)."""

    counts: tuple[int, ...] = Field(min_length=1)
    contexts: tuple[int, ...] = Field(min_length=2)
    seconds: tuple[tuple[float, ...], ...]
    skew: tuple[float, ...]

    @model_validator(mode="after")
    def _shape(self) -> DecodeGrid:
        _check_increasing("counts", self.counts)
        _check_increasing("contexts", self.contexts)
        rows, columns = len(self.counts), len(self.contexts)
        if len(self.seconds) != rows or any(len(row) != columns for row in self.seconds):
            raise ValueError(f"seconds must have {rows} rows of {columns} values")
        if len(self.skew) != rows:
            raise ValueError(f"skew has {len(self.skew)} values for {rows} counts")
        return self


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


class AllReduce(Coefficients):
    """All all-reduces of a step."""

    constant: float = Field(ge=0)
    token: float = Field(ge=0)


class Experts(Coefficients):
    """All expert layers of a step: points of (tokens on the rank, experts it runs, seconds).

    A table, not a formula: few experts stay in the GPU's cache, many are read from memory.
    ``dispatch`` is the gather and scatter of tokens between data-parallel engines.
    """

    points: tuple[tuple[float, float, float], ...] = Field(min_length=1)
    dispatch: AllReduce = AllReduce(constant=0.0, token=0.0)


class CompactCoefficients(Coefficients):
    """Everything that prices a step of one (accelerator, model, tensor parallelism)."""

    dense: Curve
    head: Curve
    all_reduce: AllReduce = AllReduce(constant=0.0, token=0.0)
    decode_attention: DecodeGrid
    mixed_attention: MixedAttention
    experts: Experts | None = None


class ExpertSpread(Coefficients):
    """How a model's experts are spread over an engine group.

    Attributes:
        count, per_token: of the model; 0 for a dense model.
        ranks: shares of whole experts (expert parallelism).
        engines: data-parallel engines that exchange tokens.
        slices: parts that every expert is cut into (tensor parallelism without expert parallelism).
    """

    count: int = 0
    per_token: int = 0
    ranks: int = 1
    engines: int = 1
    slices: int = 1

    def activated(self, tokens_per_engine: int) -> float:
        """Experts that a rank runs, if tokens choose theirs at random."""
        everyone = tokens_per_engine * self.engines
        return self.count / self.ranks * (1.0 - (1.0 - self.per_token / self.count) ** everyone)

    def layers_s(self, surface: ExpertSurface, dispatch: AllReduce, tokens: int) -> float:
        """Seconds of all expert layers when every engine brings ``tokens`` > 0 tokens."""
        local = tokens * self.engines / self.ranks
        busy = surface(local, self.activated(tokens)) / self.slices
        if self.engines == 1:
            return busy
        return busy + dispatch.constant + dispatch.token * tokens * self.engines

    def table(self, experts: Experts) -> tuple[float, ...]:
        """``layers_s`` for every number of tokens that an engine may bring."""
        surface = ExpertSurface(np.array(experts.points))
        sizes = range(1, CACHED_TOKENS)
        return (0.0, *(self.layers_s(surface, experts.dispatch, tokens) for tokens in sizes))


class CompactLatency:
    """Evaluates the compact form. Immutable and shared by copies.

    With data parallelism, ``step_s`` prices a step as if every engine of the group had the same
    batch; ``lockstep`` prices a group with unequal ones.
    """

    __slots__ = ("_arguments", "_decode", "_expert", "_head", "_linear", "_mixed", "_skew")

    def __init__(self, coefficients: CompactCoefficients, spread: ExpertSpread) -> None:
        self._arguments = (coefficients, spread)
        dense = tabulate(coefficients.dense.at, coefficients.dense.seconds, CACHED_TOKENS)
        reduce = coefficients.all_reduce
        self._expert = (0.0,) * CACHED_TOKENS
        if coefficients.experts is not None and spread.count:
            self._expert = spread.table(coefficients.experts)
        self._linear = tuple(
            cost + self._expert[tokens] + (reduce.constant + reduce.token * tokens) * (tokens > 0)
            for tokens, cost in enumerate(dense)
        )
        self._head = tabulate(coefficients.head.at, coefficients.head.seconds, CACHED_TOKENS)
        grid = coefficients.decode_attention
        self._decode = DecodeAttention(grid.counts, grid.contexts, grid.seconds, grid.skew)
        mixed = coefficients.mixed_attention
        work, path = mixed.work, mixed.path
        self._mixed = (
            *(getattr(work, name) for name in MixedWork.model_fields),
            *(getattr(path, name) for name in MixedPath.model_fields),
            mixed.exponent,
        )
        self._skew = tabulate((*mixed.skew_at, 1 << 30), (*mixed.skew, mixed.skew[-1]), 2049)

    def step_s(self, step: BatchStep) -> float:
        """Seconds that one iteration takes."""
        count, context, longest, prefills, chunk, history, area, sampled = step
        if not prefills:
            if not count:
                return 0.0
            return (
                self._at(self._linear, count)
                + self._at(self._head, sampled)
                + (self._decode(count, context, longest).value_s)
            )
        shape = (prefills, chunk, history, area)
        attention = self._mixed_s(count, context, *shape)
        if count and longest * count > context:
            skew = self._skew[chunk if chunk < len(self._skew) else -1]
            uniform = self._mixed_s(count, longest * count, *shape)
            attention += skew * (uniform - attention)
        return self._at(self._linear, count + chunk) + self._at(self._head, sampled) + attention

    def decode_run(self, step: BatchStep) -> DecodeRun:
        """Price the run that starts with this decode-only step; linear to the next grid line."""
        count = step[0]
        if not count:
            return DecodeRun(0.0, 0.0, 1)
        value, growth, steps = self._decode(count, step[1], step[2])
        fixed = self._at(self._linear, count) + self._at(self._head, step[7])
        return DecodeRun(fixed + value, growth, steps)

    def expert_s(self, tokens: int) -> float:
        """The part of a step that a data-parallel group shares, padded to its largest batch."""
        return self._at(self._expert, tokens)

    @staticmethod
    def _at(table: tuple[float, ...], index: int) -> float:
        """A tabulated value; beyond the table, on at the mean slope of its upper half."""
        if index < CACHED_TOKENS:
            return table[index]
        half = CACHED_TOKENS // 2
        slope = (table[-1] - table[half]) / (CACHED_TOKENS - 1 - half)
        return table[-1] + slope * (index - CACHED_TOKENS + 1)

    def _mixed_s(
        self, count: int, context: int, prefills: int, chunk: int, history: int, area: float
    ) -> float:
        """Attention of a step with prefill, with all decodes at their mean context."""
        w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, p0, p1, p2, p3, power = self._mixed
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
            + w8 * history
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

    def __deepcopy__(self, memo: dict[int, object]) -> CompactLatency:
        return self

    def __reduce__(self) -> tuple[type[CompactLatency], tuple[object, ...]]:
        return (CompactLatency, self._arguments)


def _check_increasing(name: str, values: tuple[int, ...]) -> None:
    if any(b <= a for a, b in pairwise(values)):
        raise ValueError(f"{name} must increase: {values}")
