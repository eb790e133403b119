"""Steps priced straight from measured tables, linearly interpolated.

Interpolation is linear in every axis: leaving points out of the published tables gives 0.5 to 6 %
error that way, against 7 to 20 % by logarithmic position. Attention beyond the grid grows linearly
in the contexts and the decodes, as it does inside; the chunk is clamped. ``outside_grid`` counts
such pricings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agentserve_gym.hardware.pricing.curves import (
    DecodeAttention,
    DecodeTable,
    Points,
    SkewShare,
    SkewTable,
    TokenCost,
    bracket,
    tabulate,
)
from agentserve_gym.hardware.pricing.layers import (
    CACHED_TOKENS,
    ExpertSpread,
    ExpertTable,
    expert_table_s,
    linear_table_s,
)
from agentserve_gym.hardware.pricing.lockstep import SharedExpertLatency
from agentserve_gym.hardware.pricing.timing import BatchStep, DecodeRun


class AttentionTable(NamedTuple):
    """Attention of one chunk beside decodes.

    ``axes``: chunk, history, decodes and context of each decode, all in tokens but the third.
    ``seconds``: of every point of that grid, the last axis running fastest.
    """

    axes: Sequence[Sequence[float]]
    seconds: Sequence[float]
    skew: SkewTable


class MeasuredTables(NamedTuple):
    """Everything that prices a step; ``dense`` and ``head`` by tokens and by sequences."""

    dense: Points
    head: Points
    all_reduce: TokenCost
    decode: DecodeTable
    attention: AttentionTable
    experts: ExpertTable | None


class ProfileLatency(SharedExpertLatency):
    """Prices steps from measured tables. Immutable but for its counter; shared by copies."""

    __slots__ = (
        "_decode",
        "_expert",
        "_grid",
        "_head",
        "_largest",
        "_linear",
        "_spread",
        "_tables",
        "outside_grid",
    )

    def __init__(self, tables: MeasuredTables, spread: ExpertSpread) -> None:
        self._tables = tables
        self._spread = spread
        self.outside_grid = 0
        self._expert = expert_table_s(tables.experts, spread)
        self._linear = linear_table_s(tables.dense, self._expert, tables.all_reduce)
        self._head = tabulate(tables.head, CACHED_TOKENS)
        self._largest = int(tables.dense.at[-1])
        self._decode = DecodeAttention(tables.decode)
        self._grid = AttentionGrid(tables.attention)

    def step_s(self, step: BatchStep) -> float:
        """Seconds that one iteration takes."""
        count, context, longest = (
            step.decode_count,
            step.decode_context_tokens,
            step.decode_max_context_tokens,
        )
        prefills, chunk = step.prefill_count, step.prefill_tokens
        size = count + chunk
        if not size:
            return 0.0
        fixed = _at(self._linear, size) + _at(self._head, step.sampled_count)
        if not prefills:
            if self._decode.outside(count, context) or size > self._largest:
                self.outside_grid += 1
            return fixed + self._decode.run(count, context, longest)[0]
        mean_chunk = chunk / prefills
        history = step.prefill_area / chunk - (mean_chunk + 1) / 2
        mean = context / count if count else 0.0
        if self._grid.outside(mean_chunk, history, count, mean) or size > self._largest:
            self.outside_grid += 1
        return fixed + self._grid.seconds(prefills, mean_chunk, history, count, mean, longest)

    def decode_run(self, step: BatchStep) -> DecodeRun:
        """Price the run that starts with this decode-only step; linear to the next grid line."""
        count, context = step.decode_count, step.decode_context_tokens
        if not count:
            return DecodeRun(0.0, 0.0, 1)
        if self._decode.outside(count, context):
            self.outside_grid += 1
        value, growth, steps = self._decode.run(count, context, step.decode_max_context_tokens)
        fixed = _at(self._linear, count) + _at(self._head, step.sampled_count)
        return DecodeRun(fixed + value, growth, steps)

    def expert_s(self, tokens: int) -> float:
        """The part of a step that a data-parallel group shares, padded to its largest batch."""
        return _at(self._expert, tokens)

    def __reduce__(self) -> tuple[type[ProfileLatency], tuple[object, ...]]:
        return (ProfileLatency, (self._tables, self._spread))


def _at(table: list[float], index: int) -> float:
    return table[index] if index < CACHED_TOKENS else table[-1]


class AttentionGrid:
    """Attention of steps with prefill, linear in chunk, history, decodes and decode context."""

    __slots__ = ("_axes", "_skew", "_strides", "_values")

    def __init__(self, table: AttentionTable) -> None:
        self._axes = [list(axis) for axis in table.axes]
        self._values = list(table.seconds)
        self._skew = SkewShare(table.skew)
        self._strides = [1]
        for axis in self._axes[:0:-1]:
            self._strides.insert(0, self._strides[0] * len(axis))

    def seconds(
        self,
        prefills: int,
        chunk: float,
        history: float,
        count: int,
        mean: float,
        longest: float,
    ) -> float:
        """Attention of ``prefills`` equal chunks and ``count`` decodes.

        The tables have one chunk; each further one costs what a chunk costs alone, less the launch.
        """
        total = self.one_chunk(chunk, history, count, mean)
        if count and longest > mean:
            skew = self._skew.row(count)[int(100 * (mean / longest))]
            total += skew * (self.one_chunk(chunk, history, count, longest) - total)
        if prefills > 1:
            launch = self._values[0]
            alone = self.one_chunk(chunk, history, 0.0, 0.0)
            total += (prefills - 1) * max(alone - launch, 0.0)
        return total

    def outside(self, chunk: float, history: float, count: int, mean: float) -> bool:
        """Whether such a step lies beyond the measured grid."""
        chunks, histories, counts, contexts = self._axes
        return (
            chunk > chunks[-1] or history > histories[-1] or count > counts[-1]
            or mean > contexts[-1]
        )  # fmt: skip

    def one_chunk(self, chunk: float, history: float, count: float, context: float) -> float:
        """Seconds of one chunk beside ``count`` decodes of ``context`` tokens each."""
        corners = [(0, 1.0)]
        axes, strides = self._axes, self._strides
        position = [chunk, history, count, context]
        for number, value in enumerate(position):
            left, share = bracket(axes[number], value, extend=number > 0)
            stride = strides[number]
            near, far = left * stride, (left + 1) * stride
            if share == 0.0:
                corners = [(offset + near, weight) for offset, weight in corners]
            else:
                corners = [
                    corner
                    for offset, weight in corners
                    for corner in (
                        (offset + near, weight * (1 - share)),
                        (offset + far, weight * share),
                    )
                ]
        values = self._values
        total = 0.0
        for offset, weight in corners:
            total += values[offset] * weight
        return total
