"""SimPy beside the simulation: processes and models of a user's own, on the same clock.

    simulation = Simulation(scenario, seed)
    environment = SimpyEnvironment(simulation.clock)
    environment.process(my_process(environment, simulation))
    run(simulation, policy)

SimPy's events lie in the simulation's own queue, so both see one order of events. A generator
cannot be copied, so neither can a simulation while a SimPy process waits in it.
"""

from __future__ import annotations

from typing import Any

import simpy
from simpy.core import EmptySchedule

from agentserve_gym.sim.kernel.events import NORMAL, Clock, Event


class _SimpyEvent(Event):
    """A SimPy event in the simulation's queue: its callbacks run as SimPy runs them."""

    __slots__ = ("_event",)

    def __init__(self, event: simpy.Event) -> None:
        self._event = event

    def fire(self) -> None:
        event = self._event
        callbacks, event.callbacks = event.callbacks, None  # type: ignore[assignment]
        for callback in callbacks:
            callback(event)
        if not event._ok and not event.defused:
            raise event._value

    def __deepcopy__(self, memo: dict[int, Any]) -> _SimpyEvent:
        raise TypeError(
            "a simulation with SimPy processes cannot be copied: a generator is bound to its frame"
        )


class SimpyEnvironment(simpy.Environment):
    """SimPy's environment over a simulation's clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    @property
    def now(self) -> float:
        """The simulation's time, seconds."""
        return self._clock.time_s

    def schedule(self, event: simpy.Event, priority: Any = NORMAL, delay: float = 0.0) -> None:
        """Schedule a SimPy event ``delay`` seconds from now."""
        self._clock.schedule(self._clock.time_s + delay, _SimpyEvent(event), priority)

    def peek(self) -> float:
        """When the next event of either kind happens; infinite if there is none."""
        return self._clock.peek_s()

    def step(self) -> None:
        """Let the next event of either kind happen.

        Raises:
            EmptySchedule: if there is none.
        """
        try:
            self._clock.step()
        except IndexError:
            raise EmptySchedule from None
