"""SimPy beside the simulation: one clock, one order of events."""

from __future__ import annotations

import pytest
import simpy
from sim_helpers import home_or_first, program, scenario

from agentserve_gym.sim import Simulation, run
from agentserve_gym.sim.environment import SimpyEnvironment


def small() -> Simulation:
    programs = [program((2000, 40, 3.0), (500, 40), arrival_s=0.5 * n) for n in range(4)]
    return Simulation(scenario(programs))


class _Policy:
    def decide(self, decision):
        return home_or_first(decision)


def test_a_process_sees_the_simulation_as_it_goes() -> None:
    simulation = small()
    environment = SimpyEnvironment(simulation.clock)
    seen: list[tuple[float, int]] = []

    def sample():
        while True:
            seen.append((environment.now, len(simulation.orchestrator.live)))
            yield environment.timeout(0.25)

    environment.process(sample())
    report = run(simulation, _Policy())
    assert report["programs"] == 4
    assert [time_s for time_s, _ in seen] == pytest.approx([0.25 * n for n in range(len(seen))])
    assert seen[-1][0] <= report["makespan_s"] < seen[-1][0] + 0.25
    assert max(live for _, live in seen) > 1


def test_a_model_beside_it_changes_nothing() -> None:
    alone, beside = small(), small()
    environment = SimpyEnvironment(beside.clock)
    store = simpy.Store(environment)

    def produce():
        for number in range(5):
            yield environment.timeout(1.0)
            yield store.put(number)

    def consume():
        while True:
            yield store.get()

    environment.process(produce())
    environment.process(consume())
    assert run(beside, _Policy()) == run(alone, _Policy())


def test_an_event_that_fails_unseen_raises_as_in_simpy() -> None:
    simulation = small()
    environment = SimpyEnvironment(simulation.clock)

    def broken():
        yield environment.timeout(0.1)
        raise ArithmeticError("the process is broken")

    environment.process(broken())
    with pytest.raises(ArithmeticError, match="the process is broken"):
        run(simulation, _Policy())


def test_a_simulation_with_a_process_says_that_it_cannot_be_copied() -> None:
    simulation = small()
    environment = SimpyEnvironment(simulation.clock)

    def wait():
        yield environment.timeout(100.0)

    environment.process(wait())
    with pytest.raises(TypeError, match="cannot be copied"):
        simulation.snapshot()


def test_simpy_steps_the_simulation_too() -> None:
    """``environment.run(until=...)`` lets the simulation's events happen up to a decision."""
    simulation = small()
    environment = SimpyEnvironment(simulation.clock)
    fired: list[float] = []

    def note():
        yield environment.timeout(1.0)
        fired.append(environment.now)

    environment.process(note())
    environment.run(until=2.0)
    assert fired == [1.0]
    assert environment.peek() >= 2.0
    assert simulation.orchestrator.arrived == 4
