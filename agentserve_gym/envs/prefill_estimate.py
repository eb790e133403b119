"""Prefill times from a table, for features that need several of them at every decision.

A prefill runs in chunks of the scheduler's token budget. A chunk's time is close to linear in the
history that it attends, and nearly piecewise linear in its own length; so the times of every 32nd
length, each at two histories, tell the rest at a tenth of the cost of asking the latency model.
"""

from __future__ import annotations

from itertools import pairwise

from agentserve_gym.hardware.timing import BatchStep, LatencyModel

_STEP_TOKENS = 32
_FAR_TOKENS = 32768


class PrefillEstimate:
    """Time to prefill alone on an idle instance.

    Attributes:
        latency: the model that was sampled.
    """

    def __init__(self, latency: LatencyModel, max_num_batched_tokens: int) -> None:
        """Sample the latency model."""
        self.latency = latency
        self._budget = budget = max_num_batched_tokens
        lines = [
            _line(latency, max(tokens, 1))
            for tokens in range(0, budget + _STEP_TOKENS, _STEP_TOKENS)
        ]
        self._pieces = [
            (near, (next_near - near) / _STEP_TOKENS, slope, (next_slope - slope) / _STEP_TOKENS)
            for (near, slope), (next_near, next_slope) in pairwise(lines)
        ]
        self._full_s, self._full_slope = _line(latency, budget)

    def __call__(self, new_tokens: int, history_tokens: int) -> float:
        """Seconds to prefill ``new_tokens`` after ``history_tokens`` that are known."""
        budget = self._budget
        full, rest = divmod(new_tokens, budget)
        total = 0.0
        if full:
            middle = history_tokens + 0.5 * (full - 1) * budget
            total = full * (self._full_s + self._full_slope * middle)
        if rest:
            piece, over = divmod(rest, _STEP_TOKENS)
            near, near_growth, slope, slope_growth = self._pieces[piece]
            history = history_tokens + full * budget
            total += near + near_growth * over + (slope + slope_growth * over) * history
        return total


def _line(latency: LatencyModel, tokens: int) -> tuple[float, float]:
    """A chunk's time without history, and its growth per token of history."""
    near = latency.step_s(_chunk(tokens, 0))
    return near, (latency.step_s(_chunk(tokens, _FAR_TOKENS)) - near) / _FAR_TOKENS


def _chunk(tokens: int, history: int) -> BatchStep:
    area = tokens * history + 0.5 * tokens * (tokens + 1)
    return BatchStep(0, 0, 0, 1, tokens, history, area, 1)
