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


class Call(Event):
    """A function to be called at some time; ``argument`` is what it wants to know."""

    argument: Any


class Clock(simpy.Environment):
    """SimPy's environment with absolute-time callbacks."""

    def __init__(self) -> None:
        super().__init__()
        self._eid = _EventIds()  # type: ignore[assignment]

    def call_at(
        self,
        time_s: float,
        function: Callable[[Call], None],
        argument: Any = None,
        priority: Any = NORMAL,
    ) -> None:
        """Call ``function(call)`` at ``time_s``, with ``call.argument`` set to ``argument``.

        Raises:
            ValueError: if ``time_s`` lies in the past.
        """
        if time_s < self._now:
            raise ValueError(f"time_s is {time_s}, before the current time {self._now}")
        call = Call(self)
        call.argument = argument
        call._ok = True
        call._value = None
        call.callbacks = [function]
        heappush(self._queue, (time_s, priority, next(self._eid), call))

    @property
    def scheduled_events(self) -> int:
        """How many events have been scheduled so far: a deterministic measure of work."""
        return self._eid.last + 1  # type: ignore[attr-defined,no-any-return]
