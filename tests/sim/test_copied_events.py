"""A copy's events belong to the copy: what happens in it never reaches the original."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentserve_gym.baselines import parse_policy
from agentserve_gym.sim import Simulation, load_scenario
from agentserve_gym.sim.kernel.events import Event

pytestmark = pytest.mark.no_cover

POLICIES = ("affinity+continuum", "lmetric+dram_cxl", "affinity+kvflow")


def halfway(policy: str) -> tuple[Simulation, Any]:
    """A simulation in the middle of a run, with events of many kinds ahead."""
    simulation = Simulation(load_scenario("cxl-shared"), 3, record_turns=True)
    decider = parse_policy(policy)
    decider.bind(simulation)
    decision = simulation.advance()
    for _ in range(400):
        assert decision is not None
        decision = simulation.advance(decider.decide(decision))
    return simulation, decider


def pending(simulation: Simulation) -> Iterator[Event]:
    return (event for *_, event in simulation.clock._queue)


def reachable(event: Event) -> Iterator[Any]:
    """What an event acts on: the values of its fields."""
    for cls in type(event).__mro__:
        for name in getattr(cls, "__slots__", ()):
            yield getattr(event, name)


COPIES: dict[str, Callable[[Simulation], Simulation]] = {
    "snapshot": Simulation.snapshot,
    "deepcopy": copy.deepcopy,
    "pickle": lambda simulation: pickle.loads(pickle.dumps(simulation)),
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("policy", POLICIES)
def test_events_of_a_copy_act_on_the_copy(how: str, policy: str) -> None:
    simulation, _ = halfway(policy)
    other = COPIES[how](simulation)
    parts = ("engines", "residency", "router", "orchestrator", "tools")
    originals = {id(getattr(simulation, part)) for part in parts} | {id(simulation)}
    originals |= {id(engine) for engine in simulation.engines}
    originals |= {id(engine._stepper) for engine in simulation.engines}
    originals |= {id(program) for program in simulation.orchestrator.live.values()}
    events = list(pending(other))
    assert len(events) == len(list(pending(simulation))) > 5
    for event in events:
        for value in reachable(event):
            assert id(value) not in originals, f"{type(event).__name__} reaches into the original"


@pytest.mark.parametrize("policy", POLICIES)
def test_running_a_copy_leaves_the_original_alone(policy: str) -> None:
    simulation, decider = halfway(policy)
    before = pickle.dumps(simulation.report())
    now_s, events = simulation.now_s, simulation.clock.scheduled_events
    other = simulation.snapshot()
    decision = other.pending
    while decision is not None:
        decision = other.advance(copy.deepcopy(decider).decide(decision))
        if other.now_s > now_s + 200.0:
            break
    assert other.now_s > now_s
    assert (simulation.now_s, simulation.clock.scheduled_events) == (now_s, events)
    assert pickle.dumps(simulation.report()) == before
