"""The compact latency form: one small set of tables per (accelerator, model, parallelism).

::

    t = dense(T) + head(S) + all_reduce(T) + experts
      + decode-only step:  decode_attention(sequences, context)          piecewise linear
      | step with prefill: chunk and decodes, partly overlapping         see ``overlap``

T tokens in the batch, S sampled sequences. ``dense`` and ``head`` are curves through few points,
because tile sizes make real linear layers rise in steps. Decode-only steps are linear in the
contexts between grid lines, so a run of them has a closed form.

The host's part comes on top (see ``HostTime``): a constant in every step, and in steps with prefill
all but attention takes at least as long as launching its kernels one by one.
"""

from __future__ import annotations

from typing import NamedTuple

from agentserve_gym.hardware.pricing.curves import (
    DecodeAttention,
    DecodeTable,
    Points,
    TokenCost,
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
from agentserve_gym.hardware.pricing.overlap import OverlapPricer, OverlapTables
from agentserve_gym.hardware.pricing.timing import BatchStep, DecodeRun


class HostTime(NamedTuple):
    """What the host adds to a step's kernels, seconds.

    Attributes:
        step_s: in every step, while the GPU waits.
        launch_s: launching the kernels of a step that does not run as a CUDA graph; the GPU works
            on short ones faster than they come.
    """

    step_s: float = 0.0
    launch_s: float = 0.0


NO_HOST_TIME = HostTime()
"""Where the host's part is not known, or in the measured tables."""


class CompactTables(NamedTuple):
    """Everything that prices a step of one (accelerator, model, tensor parallelism)."""

    dense: Points
    head: Points
    all_reduce: TokenCost
    decode: DecodeTable
    overlap: OverlapTables
    experts: ExpertTable | None
    host: HostTime


class CompactLatency(SharedExpertLatency):
    """Evaluates the compact form. Immutable and shared by copies.

    With data parallelism, ``step_s`` prices a step as if every engine of the group had the same
    batch; ``lockstep`` prices a group with unequal ones.
    """

    __slots__ = (
        "_decode", "_expert", "_head", "_host_s", "_launch_s", "_linear", "_overlap", "_spread",
        "_tables",
    )  # fmt: skip

    def __init__(self, tables: CompactTables, spread: ExpertSpread) -> None:
        self._tables = tables
        self._spread = spread
        self._expert = expert_table_s(tables.experts, spread)
        self._linear = linear_table_s(tables.dense, self._expert, tables.all_reduce)
        self._head = tabulate(tables.head, CACHED_TOKENS)
        self._decode = DecodeAttention(tables.decode)
        self._overlap = OverlapPricer(tables.overlap)
        self._host_s: float = tables.host.step_s
        self._launch_s: float = tables.host.launch_s

    def step_s(self, step: BatchStep) -> float:
        """Seconds that one iteration takes."""
        if step.prefill_count:
            return self.prefill_run(step, 1)[0]
        return self.decode_run(step).first_step_s

    def decode_run(self, step: BatchStep) -> DecodeRun:
        """Price the run that starts with this decode-only step; linear to the next grid line."""
        count = step.decode_count
        if not count:
            return DecodeRun(0.0, 0.0, 1)
        value, growth, steps = self._decode.run(
            count, step.decode_context_tokens, step.decode_max_context_tokens
        )
        fixed_s = self._fixed_s(count, step.sampled_count) + self._host_s
        return DecodeRun(fixed_s + value, growth, steps)

    def prefill_run(self, step: BatchStep, steps: int) -> list[float]:
        """Seconds of each of ``steps`` steps in a row; see ``LatencyModel``."""
        count, chunk = step.decode_count, step.prefill_tokens
        fixed_s = self._fixed_s(count + chunk, step.sampled_count)
        return self._overlap.run(
            max(fixed_s, self._launch_s) + self._host_s,
            count,
            step.decode_context_tokens,
            step.decode_max_context_tokens,
            step.prefill_count,
            chunk,
            step.prefill_area,
            steps,
        )

    def expert_s(self, tokens: int) -> float:
        """The part of a step that a data-parallel group shares, padded to its largest batch."""
        return _beyond(self._expert, tokens)

    def _fixed_s(self, tokens: int, sampled: int) -> float:
        """All but attention."""
        if tokens < CACHED_TOKENS:
            return self._linear[tokens] + self._head[sampled]
        return _beyond(self._linear, tokens) + _beyond(self._head, sampled)

    def __reduce__(self) -> tuple[type[CompactLatency], tuple[object, ...]]:
        return (CompactLatency, (self._tables, self._spread))


def _beyond(table: list[float], index: int) -> float:
    """A tabulated value; beyond the table, on at the mean slope of its upper half."""
    if index < CACHED_TOKENS:
        return table[index]
    half = CACHED_TOKENS // 2
    slope = (table[-1] - table[half]) / (CACHED_TOKENS - 1 - half)
    return table[-1] + slope * (index - CACHED_TOKENS + 1)
