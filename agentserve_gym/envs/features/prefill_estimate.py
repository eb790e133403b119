"""Prefill times from a table, for features that need several of them at every decision.

A prefill runs in chunks of the scheduler's token budget. A chunk's time is close to linear in the
history that it attends, and nearly piecewise linear in its own length; so the times of every 32nd
length, each at two histories, tell the rest at a tenth of the cost of asking the latency model.
"""

from __future__ import annotations

from array import array
from itertools import pairwise

from agentserve_gym.hardware.pricing.timing import LatencyModel, lone_chunk

_STEP_TOKENS = 32
_FAR_TOKENS = 32768


class PrefillEstimate:
    """Time to prefill alone on an idle instance.

    Attributes:
        latency: the model that was sampled. ``budget``: tokens per step.
    """

    def __init__(self, latency: LatencyModel, max_num_batched_tokens: int) -> None:
        """Sample the latency model."""
        self.latency = latency
        self.budget = budget = max_num_batched_tokens
        self._table = _table(latency, budget)

    def seconds(self, new_tokens: int, history_tokens: int) -> float:
        """Time to prefill ``new_tokens`` after ``history_tokens`` that are known."""
        budget, table = self.budget, self._table
        if new_tokens <= budget:
            at = 2 * new_tokens
            return table[at] + table[at + 1] * history_tokens
        full, rest = divmod(new_tokens, budget)
        middle = history_tokens + 0.5 * (full - 1) * budget
        full_s = full * (table[-2] + table[-1] * middle)
        history = history_tokens + full * budget
        return full_s + (table[2 * rest] + table[2 * rest + 1] * history)


def _table(latency: LatencyModel, budget: int) -> array[float]:
    """For chunks of 0 to ``budget`` tokens, pairs: time without history, growth per token of it."""
    lines = [
        _line(latency, max(tokens, 1)) for tokens in range(0, budget + _STEP_TOKENS, _STEP_TOKENS)
    ]
    table = array("d")
    for (near, slope), (next_near, next_slope) in pairwise(lines):
        near_growth = (next_near - near) / _STEP_TOKENS
        slope_growth = (next_slope - slope) / _STEP_TOKENS
        for over in range(_STEP_TOKENS):
            table.extend((near + near_growth * over, slope + slope_growth * over))
    table[:2] = array("d", (0.0, 0.0))  # nothing takes no time
    del table[2 * budget :]
    table.extend(_line(latency, budget))
    return table


def _line(latency: LatencyModel, tokens: int) -> tuple[float, float]:
    """A chunk's time without history, and its growth per token of history."""
    near = latency.step_s(lone_chunk(tokens))
    return near, (latency.step_s(lone_chunk(tokens, _FAR_TOKENS)) - near) / _FAR_TOKENS
