"""The compact latency form: one small coefficient file per (accelerator, model, parallelism).

::

    t = dense(T) + head(S) + all_reduce(T) + experts
      + decode-only step:  decode_attention(sequences, context)          piecewise linear
      | step with prefill: chunk and decodes, partly overlapping         see ``mixed``

T tokens in the batch, S sampled sequences. ``dense`` and ``head`` are curves through few points,
because tile sizes make real linear layers rise in steps. Decode-only steps are linear in the
contexts between grid lines, so a run of them has a closed form.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field, model_validator

from .coefficients import Coefficients, check_increasing
from .curves import DecodeAttention, ExpertSurface, tabulate
from .mixed import OverlapAttention, OverlapPricer
from .timing import BatchStep, DecodeRun, LatencyModel

CACHED_TOKENS = 8705
"""Batches up to a budget of 8,192 tokens and 512 sequences are looked up in tables."""


class Curve(Coefficients):
    """Points of a piecewise linear curve; ``seconds`` for the whole step (all layers)."""

    at: tuple[int, ...] = Field(min_length=1)
    seconds: tuple[float, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _shape(self) -> Curve:
        if len(self.at) != len(self.seconds):
            raise ValueError(f"at has {len(self.at)} points, seconds {len(self.seconds)}")
        check_increasing("at", self.at)
        return self


class DecodeGrid(Coefficients):
    """Attention of decode-only steps: seconds by (sequences, context tokens of each)."""

    counts: tuple[int, ...] = Field(min_length=1)
    contexts: tuple[int, ...] = Field(min_length=2)
    seconds: tuple[tuple[float, ...], ...]
    skew: tuple[float, ...]

    @model_validator(mode="after")
    def _shape(self) -> DecodeGrid:
        check_increasing("counts", self.counts)
        check_increasing("contexts", self.contexts)
        rows, columns = len(self.counts), len(self.contexts)
        if len(self.seconds) != rows or any(len(row) != columns for row in self.seconds):
            raise ValueError(f"seconds must have {rows} rows of {columns} values")
        if len(self.skew) != rows:
            raise ValueError(f"skew has {len(self.skew)} values for {rows} counts")
        return self


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
    mixed_attention: OverlapAttention
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


class CompactLatency(LatencyModel):
    """Evaluates the compact form. Immutable and shared by copies.

    With data parallelism, ``step_s`` prices a step as if every engine of the group had the same
    batch; ``lockstep`` prices a group with unequal ones.
    """

    __slots__ = ("_arguments", "_decode", "_expert", "_head", "_linear", "_mixed")

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
        self._mixed = OverlapPricer(coefficients.mixed_attention).run

    def step_s(self, step: BatchStep) -> float:
        """Seconds that one iteration takes."""
        return self.prefill_run(step, 1)[0] if step.prefill_count else self.decode_run(step)[0]

    def decode_run(self, step: BatchStep) -> DecodeRun:
        """Price the run that starts with this decode-only step; linear to the next grid line."""
        count = step[0]
        if not count:
            return DecodeRun(0.0, 0.0, 1)
        value, growth, steps = self._decode(count, step[1], step[2])
        if count < CACHED_TOKENS:
            fixed = self._linear[count] + self._head[step[7]]
        else:
            fixed = _beyond(self._linear, count) + _beyond(self._head, step[7])
        return DecodeRun(fixed + value, growth, steps)

    def prefill_run(self, step: BatchStep, steps: int) -> list[float]:
        """Seconds of each of ``steps`` steps in a row; see ``LatencyModel``."""
        count, context, longest, prefills, chunk, _, area, sampled = step
        tokens = count + chunk
        if tokens < CACHED_TOKENS:
            fixed = self._linear[tokens] + self._head[sampled]
        else:
            fixed = _beyond(self._linear, tokens) + _beyond(self._head, sampled)
        return self._mixed(fixed, count, context, longest, prefills, chunk, area, steps)

    def expert_s(self, tokens: int) -> float:
        """The part of a step that a data-parallel group shares, padded to its largest batch."""
        return _beyond(self._expert, tokens)

    def __deepcopy__(self, memo: dict[int, object]) -> CompactLatency:
        return self

    def __reduce__(self) -> tuple[type[CompactLatency], tuple[object, ...]]:
        return (CompactLatency, self._arguments)


def _beyond(table: tuple[float, ...], index: int) -> float:
    """A tabulated value; beyond the table, on at the mean slope of its upper half."""
    if index < CACHED_TOKENS:
        return table[index]
    half = CACHED_TOKENS // 2
    slope = (table[-1] - table[half]) / (CACHED_TOKENS - 1 - half)
    return table[-1] + slope * (index - CACHED_TOKENS + 1)
