"""After its last turn a program may have handed over to a person: nobody knows who comes back."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import pytest
from residency_helpers import build, placing, records
from sim_helpers import audit, drive, program

from agentserve_gym.sim import (
    KEEP,
    Answer,
    Decision,
    Place,
    PlacementDecision,
    PlacementKind,
    RouteDecision,
    Simulation,
)
from agentserve_gym.sim.kernel.events import Event
from agentserve_gym.workloads import GeneratedWorkload, PoissonArrivals, build_workload

B = 2
"""The number of program b, in order of arrival."""
LONG = program((16, 200), program_id="long", agent_class="tools")


def session(name: str, *turns: Any, arrival_s: float = 0.0) -> dict[str, Any]:
    """A program of a class with people in it, if any of its programs has a gap."""
    content = program(*turns, program_id=name, agent_class="chat", arrival_s=arrival_s)
    for turn in content["turns"][:-1]:
        turn["gap_kind"] = "user"
    return content


def returns_and_leaves(**parts: Any) -> Simulation:
    """Of two equal sessions, a comes back after 60 s and b does not; a long turn runs beside."""
    first = (160, 1)
    sessions = [session("a", (*first, 60.0), (16, 1)), session("b", first, arrival_s=0.1)]
    return build([*sessions, LONG], **parts)


class Asked:
    """Answers placements of chats by a rule and remembers them, as they were when asked."""

    def __init__(self, rule: Callable[[PlacementDecision], Place]) -> None:
        self.rule = rule
        self.seen: list[dict[str, Any]] = []

    def __call__(self, decision: Decision) -> Answer:
        if isinstance(decision, RouteDecision):
            return placing(KEEP)(decision)
        self.seen.append({"decision": decision, **what_is_known(decision)})
        return self.rule(decision)


def what_is_known(decision: PlacementDecision) -> dict[str, Any]:
    program = decision.program
    own = (
        "index", "program_id", "stream", "arrival_s", "gap_started_s", "chain_keys", "phase_s",
        "attained_service_s", "phase_since_s",
    )  # fmt: skip
    known = {name: getattr(program, name) for name in dir(program) if name[0] != "_"}
    return {
        **{name: v for name, v in known.items() if name not in own and not callable(v)},
        "fields": (decision.instance, decision.gap_kind, decision.tool_kinds, decision.elapsed_s),
        "in_table": decision.cluster.programs.get(program.index) is program,
    }


def test_who_leaves_cannot_be_told_from_who_comes_back() -> None:
    asked = Asked(lambda _: KEEP)
    simulation = drive(returns_and_leaves(), asked, audit)
    by_program = {seen.pop("decision").program.program_id: seen for seen in asked.seen[:2]}
    assert by_program["a"] == by_program["b"]
    assert by_program["a"]["fields"] == (0, "user", (), 0.0)
    # a is asked again after its second turn, its last; long, whose class has no people, never.
    assert [seen["turns_done"] for seen in asked.seen] == [1, 1, 2]
    assert simulation.report()["placements_after_last_turn"] == 2


def test_the_time_of_a_program_ends_at_its_last_token() -> None:
    """A pin after the last turn lasts until its deadline, and nobody waits for it."""
    asked = Asked(lambda _: Place(PlacementKind.PIN, ttl_s=70.0))
    simulation = returns_and_leaves()
    decision = simulation.advance()
    while decision is not None and simulation.now_s < 60.0:
        decision = simulation.advance(asked(decision))
    assert decision is not None
    assert set(simulation.engines[0].pool.pins) >= {B}  # from about 5 on; a is back
    while decision is not None:
        decision = simulation.advance(asked(decision))
    assert simulation.residency.counters.pins_expired == 2
    ends = [record.end_s for record in records(simulation).values()]
    assert simulation.now_s == max(ends)
    assert simulation.report()["mean_jct_s"]["all"] == simulation.report()["mean_jct_s"]["finished"]
    turn = records(simulation)["b", 0]
    assert turn.end_s - turn.ready_s in simulation.metrics.jct_s


@pytest.mark.parametrize("ttl_s", [40.0, inf])
def test_a_session_is_forgotten_in_time(ttl_s: float) -> None:
    """After ten seconds; an endless pin ends with it, one with a deadline does not."""
    simulation = returns_and_leaves(router={"session_timeout_s": 10.0})
    listed_s: list[float] = []
    pinned_s: list[float] = []

    def look(simulation: Simulation) -> None:
        audit(simulation)
        if B in simulation.cluster.programs:
            listed_s.append(simulation.now_s)
        if B in simulation.engines[0].pool.pins:
            pinned_s.append(simulation.now_s)

    # An event a second: something to look at in between.
    for second in range(100):
        simulation.clock.schedule(float(second), Tick())
    drive(simulation, placing(Place(PlacementKind.PIN, ttl_s=ttl_s)), look)
    left_s = records(simulation)["b", 0].end_s
    assert left_s + 9.0 <= max(listed_s) < left_s + 10.0
    lasts_s = 10.0 if ttl_s == inf else ttl_s
    assert left_s + lasts_s - 1.0 <= max(pinned_s) < left_s + lasts_s


class Tick(Event):
    """Nothing happens."""

    def fire(self) -> None:
        pass


def test_a_policy_may_ask_again_about_who_left_until_the_session_is_forgotten() -> None:
    times: list[float] = []

    def again(decision: PlacementDecision) -> Place:
        if decision.program.program_id == "b":
            times.append(decision.elapsed_s)
        return Place(PlacementKind.KEEP, ask_again_s=4.0)

    drive(returns_and_leaves(router={"session_timeout_s": 10.0}), Asked(again), audit)
    assert times == pytest.approx([0.0, 4.0, 8.0])


def test_classes_with_people_are_those_of_the_generators() -> None:
    spec = GeneratedWorkload(
        kind="generated", mix={"coding_interactive": 0.5, "coding_auto": 0.5}, programs=8
    )
    workload = build_workload(spec, PoissonArrivals(kind="poisson", rate_per_s=1.0), 0)
    assert workload.classes_with_people() == {"coding_interactive"}
