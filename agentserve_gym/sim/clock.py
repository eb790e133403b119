"""The clock and event queue: SimPy's environment, driven by callbacks instead of processes.

A generator process cannot be copied, a callback on an event can: that is what makes a simulation
cheap to snapshot. The environment is extended by one method, ``call_at``, which schedules at an
absolute time; going through a delay would round the time twice.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

import simpy
from simpy.core import EmptySchedule
from simpy.events import NORMAL, Event

LATE = NORMAL + 1
"""Priority of what must see everything else that happens at the same instant."""

LAST = LATE + 1
"""Priority of what ends an instant."""


class _EventIds:
    """Event sequence numbers; unlike ``itertools.count``, copyable in every Python version."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last = -1

    def __next__(self) -> int:
        self.last += 1
        return self.last


class Call(Event):
    """A function to be called at some time; ``argument`` is what it wants to know.

    Its one function takes the place of an event's list of callbacks.
    """

    _ok = True
    _value = None

    def __init__(self, clock: Clock, function: Callable[[Call], None], argument: Any) -> None:
        self.env = clock
        self.function = function
        self.argument = argument


class Clock(simpy.Environment):
    """SimPy's environment with absolute-time callbacks.

    Attributes:
        time_s: ``now`` as a plain attribute: it is read far more often than it changes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._eid: _EventIds = _EventIds()  # type: ignore[assignment]
        self.time_s = 0.0

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
        if time_s < self.time_s:
            raise ValueError(f"time_s is {time_s}, before the current time {self.time_s}")
        ids = self._eid
        ids.last += 1
        heappush(self._queue, (time_s, priority, ids.last, Call(self, function, argument)))

    def step(self) -> None:
        """Process the next event, as SimPy does.

        Raises:
            EmptySchedule: if there is none.
        """
        try:
            time_s, _, _, event = heappop(self._queue)
        except IndexError:
            raise EmptySchedule from None
        self._now = self.time_s = time_s
        if type(event) is Call:
            event.function(event)
            return
        callbacks, event.callbacks = event.callbacks, None  # type: ignore[assignment]
        for callback in callbacks:
            callback(event)
        if not event._ok and not event.defused:
            raise event._value

    @property
    def scheduled_events(self) -> int:
        """How many events have been scheduled so far: a deterministic measure of work."""
        return self._eid.last + 1
