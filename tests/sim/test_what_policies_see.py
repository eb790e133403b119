"""A policy is given the past and the present, and from there no public name leads to the future."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from sim_helpers import home_or_first

from agentserve_gym.sim import (
    Decision,
    PlacementDecision,
    ProgramState,
    RouteDecision,
    Simulation,
    TurnState,
    load_scenario,
)
from agentserve_gym.sim.kernel.engine import Engine
from agentserve_gym.sim.kernel.request import Request
from agentserve_gym.sim.orchestrator import Orchestrator
from agentserve_gym.workloads.program import Program, Turn

FUTURE = (Program, Turn, Request, Engine, Orchestrator, Simulation)
PLAIN = (str, bytes, int, float, type(None))


def public_parts(thing: Any) -> Iterator[Any]:
    """What the public attributes and the items of a thing hold; what it has to be asked for
    (methods) is no part of it."""
    if isinstance(thing, Mapping):
        yield from thing.values()
    elif isinstance(thing, list | tuple | set | frozenset | deque):
        yield from thing
    for name in dir(thing) if not isinstance(thing, Mapping) else ():
        if not name.startswith("_"):
            value = getattr(thing, name)
            if not callable(value):
                yield value


def reachable(decision: Decision) -> list[Any]:
    """Everything that public names lead to from a decision."""
    found: dict[int, Any] = {id(decision): decision}
    todo: deque[Any] = deque([decision])
    while todo:
        for part in public_parts(todo.popleft()):
            if not isinstance(part, PLAIN) and id(part) not in found:
                found[id(part)] = part
                todo.append(part)
    return list(found.values())


@pytest.mark.parametrize("kind", [RouteDecision, PlacementDecision])
@pytest.mark.parametrize("delay_s", [0.0, 0.5])
def test_no_public_name_leads_from_a_decision_to_the_future(kind: type, delay_s: float) -> None:
    data = load_scenario("default").model_dump()
    data["router"]["signal_delay_s"] = delay_s
    simulation = Simulation(load_scenario(data), 0)
    decision = simulation.advance()
    for _ in range(200):
        assert decision is not None
        decision = simulation.advance(home_or_first(decision))
    while not isinstance(decision, kind):
        assert decision is not None
        decision = simulation.advance(home_or_first(decision))
    seen = reachable(decision)  # type: ignore[arg-type]
    assert sum(isinstance(thing, ProgramState) for thing in seen) > 1
    assert any(isinstance(thing, TurnState) for thing in seen) == (kind is RouteDecision)
    assert [thing for thing in seen if isinstance(thing, FUTURE)] == []
