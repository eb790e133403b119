"""Loads as engines' metrics show them: as they were when the last step ended."""

from __future__ import annotations

import pytest
from sim_helpers import Chooser, LinearLatency, drive, program, scenario, simulate

from agentserve_gym.sim import KEEP, Answer, Decision, Load, Route, RouteDecision, Simulation

SECOND = LinearLatency(1.0)


def loads_seen(*probes_s: float, asynchronous: bool, fused: bool = True) -> dict[float, Load]:
    """The load of instance 0 at these times; a turn of 100 tokens runs there from 0.5 s on, six
    steps of 1 s, and one of 200 comes at 2.7 s. Probes go to instance 1."""
    programs = [
        program((100, 6), program_id="a", arrival_s=0.5),
        program((200, 3), program_id="b", arrival_s=2.7),
        *(program((10, 1), program_id=f"probe {at_s}", arrival_s=at_s) for at_s in probes_s),
    ]
    simulation = simulate(
        scenario(
            programs,
            instances=2,
            engine={"async_scheduling": asynchronous},
            router={"load_signal": "step_end"},
        ),
        SECOND,
        fused=fused,
    )
    seen: dict[float, Load] = {}

    def decide(decision: Decision) -> Answer:
        if not isinstance(decision, RouteDecision):
            return KEEP
        if not decision.program.program_id.startswith("probe"):
            return Route(0)
        seen[decision.time_s] = decision.cluster.instances[0].load()
        return Route(1)

    drive(simulation, decide)
    return seen


def test_a_first_step_hides_its_turn_until_it_ends() -> None:
    seen = loads_seen(1.4, 1.6, asynchronous=False)
    assert (seen[1.4].turns, seen[1.4].free_blocks) == (0, 1000)
    assert seen[1.6].decoding_turns == 1
    assert seen[1.6].free_blocks == 1000 - 7


def test_a_prefill_is_seen_when_it_ends() -> None:
    """Steps end at 1.5, 2.5 and so on; the turn that came at 2.7 runs from 3.5 to 4.5."""
    seen = loads_seen(3.0, 4.0, 4.6, asynchronous=False)
    assert [seen[at_s].turns for at_s in (3.0, 4.0, 4.6)] == [1, 1, 2]
    assert seen[4.0].queued_turns == 0
    assert seen[4.0].free_blocks == 1000 - 7


def test_async_scheduling_shows_the_step_that_it_has_planned() -> None:
    """What came at 2.7 s is planned at 3.5 s for the step from 4.5 s on, and shown by then."""
    seen = loads_seen(4.4, 4.6, asynchronous=True)
    assert [seen[at_s].turns for at_s in (4.4, 4.6)] == [1, 2]
    assert seen[4.6].prefilling_turns == 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_fused_steps_show_the_same(asynchronous: bool) -> None:
    probes = [0.1, 1.4, 1.6, 2.6, 3.1, 3.6, 4.4, 4.7, 5.2, 6.6, 7.7, 9.3]
    fused, single = (
        loads_seen(*probes, asynchronous=asynchronous, fused=fused) for fused in (True, False)
    )
    assert fused == single
    assert len(fused) == len(probes)


def test_a_turn_that_finds_no_room_counts_as_queued_from_the_next_end_on() -> None:
    """A turn needs 13 of 16 blocks; the one that comes at 1.7 s waits until the first is done."""
    simulation = simulate(
        scenario(
            [
                program((200, 6), program_id="a"),
                program((200, 2), program_id="b", arrival_s=1.7),
                program((10, 1), program_id="early", arrival_s=1.9),
                program((10, 1), program_id="late", arrival_s=3.1),
            ],
            kv_blocks=16,
            instances=2,
            engine={"async_scheduling": False},
            router={"load_signal": "step_end"},
        ),
        SECOND,
    )
    queued: dict[str, int] = {}

    def decide(decision: Decision) -> Answer:
        if not isinstance(decision, RouteDecision):
            return KEEP
        name = decision.program.program_id
        queued[name] = decision.cluster.instances[0].load().queued_turns
        return Route(1 if name in ("early", "late") else 0)

    drive(simulation, decide)
    assert (queued["early"], queued["late"]) == (0, 1)


def test_cached_blocks_are_as_old_as_the_delay_says() -> None:
    programs = [program((160, 2, 9.0), (10, 1), program_id=f"p{i}") for i in range(2)]
    simulation = simulate(
        scenario(
            programs,
            engine={"async_scheduling": False},
            router={"load_signal": "step_end", "signal_delay_s": 1000.0},
        ),
        SECOND,
    )

    def check(simulation: Simulation) -> None:
        decision = simulation.pending
        if decision is not None:
            signals = decision.cluster.instances[0].signals
            assert signals.cached_blocks(decision.program, 100) == 0

    drive(simulation, Chooser(1, 1), check)
    assert simulation.report()["turns"] == 4
