"""What is known of a tool kind's calls, counted as calls come in."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import exp, sqrt

from agentserve_gym.sim.kernel.tool_statistics import KindStatistics


class RecentCalls:
    """Follows the ``recent`` durations of one tool kind without counting them anew each time.

    Attributes:
        kind: the statistics that are followed.
    """

    def __init__(self, kind: KindStatistics, limits_s: Sequence[float]) -> None:
        self.kind = kind
        self._limits_s = limits_s
        self._seen = 0
        self._recent: deque[float] = deque()
        self._within = [0] * len(limits_s)
        self._shares = [0.0] * len(limits_s)

    def shares_within(self) -> list[float]:
        """The share of recent durations within each limit; zeros before the first call. The list
        is kept and changed by the next call."""
        count = self.kind.count
        if count != self._seen:
            self._catch_up(count - self._seen)
            self._seen = count
            share = 1.0 / len(self._recent)
            for number, within in enumerate(self._within):
                self._shares[number] = within * share
        return self._shares

    def _catch_up(self, calls: int) -> None:
        """Take in the last ``calls`` durations, as far as they are still recent."""
        theirs, recent = self.kind.recent, self._recent
        for back in range(min(calls, len(theirs)), 0, -1):
            duration_s = theirs[-back]
            if len(recent) == theirs.maxlen:
                self._count(recent.popleft(), -1)
            recent.append(duration_s)
            self._count(duration_s, 1)

    def _count(self, duration_s: float, change: int) -> None:
        """One more call of this duration is recent, or one less (``change`` is 1 or -1)."""
        for number, limit_s in enumerate(self._limits_s):
            if duration_s <= limit_s:
                self._within[number] += change


class CallSummary:
    """Completed calls in a few numbers, computed anew only after another call has completed.

    Attributes:
        kind: the statistics that are followed.
        count: calls.
        mean_s, ema_s: mean of their durations, and the exponential average.
        median_s: exp of the exponential average of log durations.
        log_sigma: standard deviation of log durations.
        shares_within: the share of recent calls within each limit.
    """

    def __init__(self, kind: KindStatistics, limits_s: Sequence[float]) -> None:
        self.kind = kind
        self.count = 0
        self.mean_s = 0.0
        self.ema_s = 0.0
        self.median_s = 0.0
        self.log_sigma = 0.0
        self._recent = RecentCalls(kind, limits_s)
        self.shares_within = self._recent.shares_within()

    def refresh(self) -> None:
        """Take in the calls since the last time."""
        kind = self.kind
        if kind.count == self.count:
            return
        self.count = kind.count
        self.mean_s, self.ema_s = kind.mean_s, kind.ema_s
        self.median_s = exp(kind.log_mean)
        self.log_sigma = sqrt(kind.log_variance)
        self.shares_within = self._recent.shares_within()
