"""The clock: a queue of typed events.

An event is an object that knows what to do, not a bound function: a copy of a simulation has events
of its own, which act on the copy. What happens at the same instant happens in the order of
priority, then of scheduling.
"""

from __future__ import annotations

from abc import abstractmethod
from heapq import heapify, heappop, heappush

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.copying import Copyable

URGENT, NORMAL, LATE, LAST = range(4)
"""Priorities at one instant; ``URGENT`` and ``NORMAL`` are SimPy's. ``LATE``: of what must see
everything else that happens then. ``LAST``: of what ends an instant."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Event(Copyable):
    """Something that happens at a time."""

    __slots__ = ()

    @abstractmethod
    def fire(self) -> None:
        """Let it happen."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Clock(Copyable):
    """Simulated time, and what is still to happen.

    Attributes:
        time_s: the current time, seconds.
        scheduled_events: how many events have been scheduled so far: a deterministic measure of
            work.
    """

    __slots__ = ("_queue", "scheduled_events", "time_s")

    def __init__(self) -> None:
        self.time_s = 0.0
        self.scheduled_events = 0
        self._queue: list[tuple[float, int, int, Event]] = []

    def schedule(self, time_s: float, event: Event, priority: int = NORMAL) -> None:
        """Let ``event`` happen at ``time_s``.

        Raises:
            ValueError: if ``time_s`` lies in the past.
        """
        if time_s < self.time_s:
            raise ValueError(f"time_s is {time_s}, before the current time {self.time_s}")
        heappush(self._queue, (time_s, priority, self.scheduled_events, event))
        self.scheduled_events += 1

    def forget(self, kinds: tuple[type, ...]) -> None:
        """Let nothing happen of what is scheduled of these kinds of events."""
        self._queue = [entry for entry in self._queue if not isinstance(entry[3], kinds)]
        heapify(self._queue)

    def step(self) -> None:
        """Let the next event happen.

        Raises:
            IndexError: if there is none.
        """
        time_s, _, _, event = heappop(self._queue)
        self.time_s = time_s
        event.fire()

    def peek_s(self) -> float:
        """When the next event happens; infinite if there is none."""
        return self._queue[0][0] if self._queue else float("inf")
