"""Shapes of batches with prefill, and what a prefill costs on its own."""

from __future__ import annotations

from agentserve_gym.hardware.pricing.timing import (
    BatchStep,
    LatencyModel,
    lone_chunk,
    prefill_area,
)
from agentserve_gym.sim.kernel.batch import DecodeBatch
from agentserve_gym.sim.kernel.request import Request


def mixed_shape(batch: DecodeBatch, chunks: list[Request]) -> BatchStep:
    """The step in which these turns prefill their chunks beside the decoding turns."""
    count = len(batch.turns)
    tokens = history = 0
    area = 0.0
    for request in chunks:
        chunk, computed = request.chunk_tokens, request.computed_tokens
        tokens += chunk
        history += computed
        area += prefill_area(chunk, computed)
    return BatchStep(
        count, batch.context_tokens(), batch.longest_context_tokens(), len(chunks),
        tokens, history, area, count + len(chunks),
    )  # fmt: skip


def prefill_alone_s(
    latency: LatencyModel, budget_tokens: int, new_tokens: int, history_tokens: int
) -> float:
    """Seconds to prefill alone, in chunks of the budget.

    Full chunks are summed as if their cost were linear in the history: exact for linear models.
    """
    if 0 < new_tokens < budget_tokens:
        return latency.step_s(lone_chunk(new_tokens, history_tokens))
    full, rest = divmod(new_tokens, budget_tokens)
    total = 0.0
    if full:
        last = history_tokens + (full - 1) * budget_tokens
        first_s = latency.step_s(lone_chunk(budget_tokens, history_tokens))
        total += full * 0.5 * (first_s + latency.step_s(lone_chunk(budget_tokens, last)))
    if rest:
        total += latency.step_s(lone_chunk(rest, history_tokens + full * budget_tokens))
    return total


def loaded_prefill_alone_s(
    latency: LatencyModel,
    budget_tokens: int,
    layers: int,
    load_s: float,
    new_tokens: int,
    history_tokens: int,
) -> float:
    """The same where the history takes ``load_s`` to load: before the prefill (0 ``layers``), or
    beside its first chunk, which ends one of the layers after the load or later."""
    whole_s = prefill_alone_s(latency, budget_tokens, new_tokens, history_tokens)
    if not layers:
        return load_s + whole_s
    first_s = whole_s
    if new_tokens > budget_tokens:
        first_s = prefill_alone_s(latency, budget_tokens, budget_tokens, history_tokens)
    return max(first_s, load_s + first_s / layers) + whole_s - first_s
