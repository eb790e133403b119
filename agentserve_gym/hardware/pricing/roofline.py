"""The roofline latency form, for hardware without measured tables.

::

    t = L*[ linear(T) + k ] + head weights / (eh*BW) + c*S
      + decode-only: L*[ kv_bytes*ctx / (ea*BW) + ka ]
      + mixed:       L*[ 4*q_dim*A64 / (ef*FLOPS) + cs*nd + cm ]
      + all-reduce:  2*L*[ latency + bytes*2(n-1)/n / bandwidth ]

``linear(T) = (m^p + c^p)^(1/p)`` with m the time to read the weights and c the time to multiply
them, softened by the exponent p. A64 counts query-key pairs with chunks padded to the 64-row tiles
of the attention kernel: a decode in a mixed step costs a whole tile, 64 * its context. With latent
attention the decodes of a mixed step run by themselves, as in a decode-only step.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from agentserve_gym.hardware.pricing.curves import TokenCost
from agentserve_gym.hardware.pricing.lockstep import SharedExpertLatency
from agentserve_gym.hardware.pricing.timing import UNBOUNDED_STEPS, BatchStep, DecodeRun

TILE_ROWS: Final = 64
CACHED_COUNTS: Final = 1025


class WeightTimes(NamedTuple):
    """Seconds to read a matrix, and to multiply it with one token."""

    read_s: float
    multiply_s: float


class RooflineExperts(NamedTuple):
    """Expert layers. ``weights``: of one expert, in one layer on one rank.

    Attributes:
        layers: that have experts.
        experts, per_token: of the model, and those that a token runs.
        ranks, engines: see `ExpertSpread`.
        overhead_s: of one layer.
        exchange: of tokens between engines, in a whole step.
    """

    layers: int
    experts: int
    per_token: int
    ranks: int
    engines: int
    weights: WeightTimes
    overhead_s: float
    exchange: TokenCost


class WindowTerms(NamedTuple):
    """Layers with sliding-window attention: seconds per token of context that a decode still sees,
    and per query-key pair of a prefill."""

    tokens: int
    context_s: float
    pair_s: float


class RooflineTerms(NamedTuple):
    """The terms of the form for one engine, seconds.

    Attributes:
        layers: of the model.
        exponent: p above.
        dense: of one layer, whatever is not an expert.
        step_s: overhead of a step and of its layers.
        head: reading its weights, and each sampled sequence.
        all_reduce: of a step.
        decode: attention of a decode-only step, and of each token of context.
        pair_s: attention of steps with prefill, per query-key pair.
        decode_rows: pairs that a decode in such a step costs, per token of its context.
        mixed: the same for the step, and per decode.
        windows: layers whose attention ends at a window; ``None`` if there are none.
        state_s: of each decode, whatever its context: linear attention.
        experts: ``None`` for a dense model.
    """

    layers: int
    exponent: float
    dense: WeightTimes
    step_s: float
    head: TokenCost
    all_reduce: TokenCost
    decode: TokenCost
    pair_s: float
    decode_rows: float
    mixed: TokenCost
    windows: WindowTerms | None
    state_s: float
    experts: RooflineExperts | None


class RooflineLatency(SharedExpertLatency):
    """Prices steps from peak rates and efficiencies. Immutable and shared by copies.

    Engines that step together are priced as if each had this batch.
    """

    __slots__ = (
        "_all_reduce_s",
        "_all_reduce_token_s",
        "_attention_s",
        "_context_s",
        "_decode_base",
        "_decode_rows",
        "_experts",
        "_exponent",
        "_head_s",
        "_layers",
        "_mixed_s",
        "_mixed_sequence_s",
        "_multiply_s",
        "_pair_s",
        "_read_s",
        "_sequence_s",
        "_state_s",
        "_step_s",
        "_terms",
        "_windows",
    )

    def __init__(self, terms: RooflineTerms) -> None:
        self._terms = terms
        self._layers = terms.layers
        self._exponent = terms.exponent
        self._read_s, self._multiply_s = terms.dense
        self._step_s = terms.step_s
        self._head_s, self._sequence_s = terms.head
        self._all_reduce_s, self._all_reduce_token_s = terms.all_reduce
        self._attention_s, self._context_s = terms.decode
        self._pair_s = terms.pair_s
        self._decode_rows = terms.decode_rows
        self._mixed_s, self._mixed_sequence_s = terms.mixed
        self._experts = terms.experts
        self._windows = terms.windows
        self._state_s = terms.state_s
        self._decode_base: list[float] = []
        self._decode_base = [self._base_s(count) for count in range(CACHED_COUNTS)]

    def step_s(self, step: BatchStep) -> float:
        """Seconds that one iteration takes."""
        count, context = step.decode_count, step.decode_context_tokens
        prefills, chunk = step.prefill_count, step.prefill_tokens
        windows = self._windows
        if not prefills:
            seconds = self._decode_base_s(count) + self._context_s * context
            if windows is not None:
                seconds += windows.context_s * min(context, count * windows.tokens)
            return seconds
        mean_chunk = chunk / prefills
        padding = -(-mean_chunk // TILE_ROWS) * TILE_ROWS / mean_chunk
        pairs = step.prefill_area * padding + self._decode_rows * context
        attention = self._pair_s * pairs + self._mixed_sequence_s * count + self._mixed_s
        if windows is not None:
            attention += self._windows_s(windows, step, padding)
        if self._state_s:
            attention += self._state_s * count
        return self._linear_s(count + chunk, step.sampled_count) + attention

    def decode_run(self, step: BatchStep) -> DecodeRun:
        """Price the run that starts with this decode-only step: it is linear without end, or until
        the contexts have filled the windows."""
        count, context = step.decode_count, step.decode_context_tokens
        first, growth = self.step_s(step), self._context_s * count
        windows = self._windows
        if windows is None or not count or context >= count * windows.tokens:
            return DecodeRun(first, growth, UNBOUNDED_STEPS)
        steps = (count * windows.tokens - context) // count + 1
        return DecodeRun(first, growth + windows.context_s * count, steps)

    def expert_s(self, tokens: int) -> float:
        """The part of a step that a data-parallel group shares, padded to its largest batch."""
        terms = self._experts
        if terms is None or not tokens:
            return 0.0
        layers, experts, per_token, ranks, engines, weights, overhead_s, exchange = terms
        everyone = tokens * engines
        activated = experts / ranks * (1.0 - (1.0 - per_token / experts) ** everyone)
        read_s, multiply_s = weights
        layer = _soft_max(read_s * activated, multiply_s * everyone, self._exponent) + overhead_s
        return layers * layer + exchange.constant_s + exchange.token_s * tokens * engines

    def _decode_base_s(self, count: int) -> float:
        return self._decode_base[count] if count < CACHED_COUNTS else self._base_s(count)

    def _base_s(self, count: int) -> float:
        """The part of a decode-only step that does not depend on the contexts."""
        if not count:
            return 0.0
        return self._linear_s(count, count) + self._attention_s + self._state_s * count

    def _windows_s(self, windows: WindowTerms, step: BatchStep, padding: float) -> float:
        """Windowed layers of a step with prefill; chunks and contexts as if all were their mean."""
        chunk = step.prefill_tokens / step.prefill_count
        seen = step.prefill_history_tokens / step.prefill_count
        growing = min(max(windows.tokens - seen, 0.0), chunk)
        inside = growing * seen + growing * (growing + 1.0) / 2.0
        pairs = step.prefill_count * (inside + (chunk - growing) * windows.tokens) * padding
        context = min(step.decode_context_tokens, step.decode_count * windows.tokens)
        return windows.pair_s * (pairs + self._decode_rows * context)

    def _linear_s(self, tokens: int, sampled: int) -> float:
        layer = _soft_max(self._read_s, self._multiply_s * tokens, self._exponent)
        total = self._layers * layer + self.expert_s(tokens) + self._step_s
        if sampled:
            total += self._head_s + self._sequence_s * sampled
        return total + self._all_reduce_s + self._all_reduce_token_s * tokens

    def __reduce__(self) -> tuple[type[RooflineLatency], tuple[object, ...]]:
        return (RooflineLatency, (self._terms,))


def _soft_max(first: float, second: float, exponent: float) -> float:
    """``(a^p + b^p)^(1/p)``: near the larger, above both where they are close."""
    larger, smaller = (first, second) if first > second else (second, first)
    ratio: float = (1.0 + (smaller / larger) ** exponent) ** (1.0 / exponent)
    return larger * ratio
