"""What may be learned from tool calls that are over: the only thing that policies see of tools."""

from __future__ import annotations

from collections import deque
from math import log

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.copying import Copyable

SHORTEST_S = 1e-6
"""Shorter durations count as this, so that their logarithm is finite."""


@mypyc_attr(allow_interpreted_subclasses=True)
class KindStatistics(Copyable):
    """Durations of completed calls of one tool kind, seconds; tool time only, no queueing.

    ``log_mean`` and ``log_variance`` are exponential averages (weight 0.2) of log durations;
    ``ema_s`` is the same for durations; ``recent`` holds the last 100 durations.
    """

    __slots__ = ("count", "ema_s", "log_mean", "log_variance", "recent", "total_s")

    def __init__(self) -> None:
        self.count = 0
        self.total_s = 0.0
        self.ema_s = 0.0
        self.log_mean = 0.0
        self.log_variance = 0.0
        self.recent: deque[float] = deque(maxlen=100)

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


@mypyc_attr(allow_interpreted_subclasses=True)
class ToolStatistics(Copyable):
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
