"""The compact latency form: a few fitted coefficients per (accelerator, model, tensor parallelism).

::

    t = max(d0 + d1*T, d2 + d3*T) + h0 + h1*S
      + decode-only step:  a0 + a1*nd + a2*ctx
      | step with prefill: z0 + z1*nd + z2*ctx + z3*pc + z4*kp + z5*area
      + experts:           e0 + e1*activated + e2*T

T tokens in the batch, S sampled sequences, nd decodes, ctx the sum of their contexts, pc prefill
tokens, kp prefill history, area query-key pairs of the chunks. The max is the crossing from
bandwidth-bound to compute-bound linear layers. All of it is linear in ctx, so a run of decode
steps has a closed form.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from .timing import UNBOUNDED_STEPS, BatchStep, DecodeRun

CACHED_DECODES = 513


class CompactCoefficients(BaseModel):
    """Fitted coefficients, seconds. The tuples are d, h, a, z and e of the module's formula."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    dense: tuple[float, float, float, float]
    head: tuple[float, float]
    decode_attention: tuple[float, float, float]
    mixed_attention: tuple[float, float, float, float, float, float]
    experts: tuple[float, float, float] | None = None


class CompactLatency:
    """Evaluates the compact form. Immutable and shared by copies.

    Args:
        coefficients: the fitted form.
        expert_count, experts_per_token: of the model, where it has experts.
        expert_parallel: ranks that the experts are spread over.
        data_parallel: engines that step together; a step is priced as if each had this batch.
    """

    __slots__ = ("_arguments", "_attention_slope", "_decode_base", "_dense", "_experts", "_mixed")

    def __init__(
        self,
        coefficients: CompactCoefficients,
        expert_count: int = 0,
        experts_per_token: int = 0,
        expert_parallel: int = 1,
        data_parallel: int = 1,
    ) -> None:
        self._arguments = (
            coefficients,
            expert_count,
            experts_per_token,
            expert_parallel,
            data_parallel,
        )
        self._dense = coefficients.dense + coefficients.head
        self._mixed = coefficients.mixed_attention
        self._attention_slope = coefficients.decode_attention[2]
        self._experts = coefficients.experts if expert_count else None
        self._decode_base = tuple(self._base_s(count) for count in range(CACHED_DECODES))

    def step_s(self, step: BatchStep) -> float:
        """Seconds that one iteration takes."""
        count, context, _, prefills, chunk, history, area, sampled = step
        if not prefills:
            return self._decode_base_s(count) + self._attention_slope * context
        z0, z1, z2, z3, z4, z5 = self._mixed
        attention = z0 + z1 * count + z2 * context + z3 * chunk + z4 * history + z5 * area
        return self._linear_s(count + chunk, sampled) + attention

    def decode_run(self, step: BatchStep) -> DecodeRun:
        """Price the run that starts with this decode-only step; it is linear without end."""
        count = step[0]
        slope = self._attention_slope
        first = self._decode_base_s(count) + slope * step[1]
        return DecodeRun(first, slope * count, UNBOUNDED_STEPS)

    def _decode_base_s(self, count: int) -> float:
        return self._decode_base[count] if count < CACHED_DECODES else self._base_s(count)

    def _base_s(self, count: int) -> float:
        """The part of a decode-only step that does not depend on the contexts."""
        if not count:
            return 0.0
        a0, a1, _ = self._arguments[0].decode_attention
        return self._linear_s(count, count) + a0 + a1 * count

    def _linear_s(self, tokens: int, sampled: int) -> float:
        d0, d1, d2, d3, h0, h1 = self._dense
        low, high = d0 + d1 * tokens, d2 + d3 * tokens
        total = (low if low > high else high) + h0 + h1 * sampled
        return total + self._expert_s(tokens) if self._experts else total

    def _expert_s(self, tokens: int) -> float:
        """Expert layers: experts activated on one rank under random routing, and tokens it gets."""
        if self._experts is None:
            return 0.0
        _, experts, per_token, ranks, engines = self._arguments
        everyone = tokens * engines
        activated = experts / ranks * (1.0 - (1.0 - per_token / experts) ** everyone)
        e0, e1, e2 = self._experts
        return e0 + e1 * activated + e2 * everyone / ranks

    def __deepcopy__(self, memo: dict[int, object]) -> CompactLatency:
        return self

    def __reduce__(self) -> tuple[type[CompactLatency], tuple[object, ...]]:
        return (CompactLatency, self._arguments)
