"""Shares of recent tool calls within given times, counted as calls come in."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from agentserve_gym.sim.tools import KindStatistics


class RecentCalls:
    """Follows the ``recent`` durations of one tool kind without counting them anew each time.

    Attributes:
        kind: the statistics that are followed.
    """

    def __init__(self, kind: KindStatistics, limits_s: Sequence[float]) -> None:
        self.kind = kind
        self._limits_s = limits_s
        self._seen = 0
        self._within: deque[list[bool]] = deque()
        self._counts = [0] * len(limits_s)
        self._shares = [0.0] * len(limits_s)

    def shares_within(self) -> list[float]:
        """The share of recent durations within each limit; zeros before the first call."""
        count = self.kind.count
        if count != self._seen:
            recent = self.kind.recent
            for back in range(min(count - self._seen, len(recent)), 0, -1):
                self._add(recent[-back], recent.maxlen)
            self._seen = count
            share = 1.0 / len(self._within)
            self._shares = [within * share for within in self._counts]
        return self._shares

    def _add(self, duration_s: float, most: int | None) -> None:
        if len(self._within) == most:
            for number, within in enumerate(self._within.popleft()):
                self._counts[number] -= within
        added = [duration_s <= limit_s for limit_s in self._limits_s]
        self._within.append(added)
        for number, within in enumerate(added):
            self._counts[number] += within
