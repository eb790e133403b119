"""What the machine does at this moment: event loops that do nothing else.

A second on one machine is not a second on another, nor on the same one while something else runs.
So every repetition of every row is measured beside a bare event loop, and is also given in bare
events: times that hold elsewhere about as well as here.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import simpy

_OBJECTS = 32


class _Ticker:
    """An object whose method is the event."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def tick(self, now: float) -> float:
        self.count += 1
        return now + 1.0


def bare_events(number: int) -> float:
    """Seconds per event of a heap with a method call for each event."""
    heap = [(float(index), index, _Ticker()) for index in range(_OBJECTS)]
    order = _OBJECTS
    pop, push = heapq.heappop, heapq.heappush
    started = time.perf_counter()
    for _ in range(number):
        now, _, ticker = pop(heap)
        push(heap, (ticker.tick(now), order, ticker))
        order += 1
    return (time.perf_counter() - started) / number


def simpy_callbacks(number: int) -> float:
    """Seconds per event of SimPy's queue with a callback for each event."""
    clock = simpy.Environment()
    left = number

    def again(_event: Any) -> None:
        nonlocal left
        left -= 1
        if left > 0:
            event = clock.timeout(1.0)
            event.callbacks.append(again)

    for _ in range(_OBJECTS):
        again(None)
    started = time.perf_counter()
    clock.run()
    return (time.perf_counter() - started) / number


def simpy_processes(number: int) -> float:
    """Seconds per item handed from a process to another through a store, with a timeout each."""
    clock = simpy.Environment()
    pairs = 8
    each = max(1, number // pairs)

    def produce(store: simpy.Store) -> Generator[Any, Any, None]:
        for item in range(each):
            yield clock.timeout(1.0)
            yield store.put(item)

    def consume(store: simpy.Store) -> Generator[Any, Any, None]:
        for _ in range(each):
            yield store.get()

    for _ in range(pairs):
        store = simpy.Store(clock)
        clock.process(produce(store))
        clock.process(consume(store))
    started = time.perf_counter()
    clock.run()
    # A timeout, a put and a get for each item.
    return (time.perf_counter() - started) / (3 * pairs * each)


CONTROLS: dict[str, Callable[[int], float]] = {
    "bare heap with method calls": bare_events,
    "SimPy events with callbacks": simpy_callbacks,
    "SimPy processes with stores": simpy_processes,
}
BARE = "bare heap with method calls"


@dataclass(slots=True)
class Control:
    """Measures controls between other things and keeps what was measured, seconds per event."""

    events: int
    seconds: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in CONTROLS})

    def bare(self) -> float:
        """Seconds per bare event now."""
        taken = bare_events(self.events)
        self.seconds[BARE].append(taken)
        return taken

    def all(self) -> None:
        """Measure every control once."""
        for name, measure in CONTROLS.items():
            self.seconds[name].append(measure(self.events))

    def around(self, work: Callable[[], float]) -> tuple[float, float]:
        """Do work that says how many seconds it took, between two bare loops.

        Returns:
            Its seconds, and seconds per bare event beside it.
        """
        before = self.bare()
        taken = work()
        return taken, fmean((before, self.bare()))
