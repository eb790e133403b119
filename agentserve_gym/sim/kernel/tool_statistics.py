"""What may be learned from tool calls that are over: the only thing that policies see of tools."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import log

SHORTEST_S = 1e-6
"""Shorter durations count as this, so that their logarithm is finite."""


@dataclass(slots=True)
class KindStatistics:
    """Durations of completed calls of one tool kind, seconds; tool time only, no queueing.

    ``log_mean`` and ``log_variance`` are exponential averages (weight 0.2) of log durations;
    ``ema_s`` is the same for durations; ``recent`` holds the last 100 durations.
    """

    count: int = 0
    total_s: float = 0.0
    ema_s: float = 0.0
    log_mean: float = 0.0
    log_variance: float = 0.0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=100))

    @property
    def mean_s(self) -> float:
        return self.total_s / self.count if self.count else 0.0

    def learn(self, duration_s: float) -> None:
        value = log(duration_s if duration_s > SHORTEST_S else SHORTEST_S)
        if self.count == 0:
            self.ema_s, self.log_mean = duration_s, value
        else:
            delta = value - self.log_mean
            self.log_mean += 0.2 * delta
            self.log_variance = 0.8 * (self.log_variance + 0.2 * delta * delta)
            self.ema_s += 0.2 * (duration_s - self.ema_s)
        self.count += 1
        self.total_s += duration_s
        self.recent.append(duration_s)


class ToolStatistics:
    """Statistics by tool kind, and over all completed calls together (``overall``)."""

    def __init__(self) -> None:
        self.overall = KindStatistics()
        self._kinds: dict[str, KindStatistics] = {}

    def kind(self, name: str) -> KindStatistics | None:
        """Statistics of a kind, or ``None`` before its first completed call."""
        return self._kinds.get(name)

    def learn(self, kind: str, duration_s: float) -> None:
        """Book a completed call."""
        statistics = self._kinds.get(kind)
        if statistics is None:
            statistics = self._kinds[kind] = KindStatistics()
        statistics.learn(duration_s)
        self.overall.learn(duration_s)
