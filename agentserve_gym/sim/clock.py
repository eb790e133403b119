"""The clock and event queue: SimPy's environment, driven by callbacks instead of processes.

A generator process cannot be copied, a callback on an event can: that is what makes a simulation
cheap to snapshot. The environment is extended by one method, ``call_at``, which schedules at an
absolute time; going through a delay would round the time twice.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush
from typing import Any

import simpy
from simpy.events import NORMAL, Event

LATE = NORMAL + 1
"""Priority of what must see everything else that happens at the same instant."""


class _EventIds:
    """Event sequence numbers; unlike ``itertools.count``, copyable in every Python version."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last = -1

    def __next__(self) -> int:
        self.last += 1
        return self.last


class Clock(simpy.Environment):
    """SimPy's environment with absolute-time callbacks."""

    def __init__(self) -> None:
        super().__init__()
        self._eid = _EventIds()  # type: ignore[assignment]

    def call_at(
        self,
        time_s: float,
        function: Callable[[Event], Any],
        value: Any = None,
        priority: Any = NORMAL,
    ) -> None:
        """Call ``function(event)`` at ``time_s``; ``event.value`` is ``value``.

        Raises:
            ValueError: if ``time_s`` lies in the past.
        """
        if time_s < self._now:
            raise ValueError(f"time_s is {time_s}, before the current time {self._now}")
        event = Event(self)
        event._ok = True
        event._value = value
        event.callbacks = [function]
        heappush(self._queue, (time_s, priority, next(self._eid), event))

    @property
    def events_processed_or_queued(self) -> int:
        """How many events have been scheduled so far: a deterministic measure of work."""
        return int(self._eid.last) + 1  # type: ignore[attr-defined]
