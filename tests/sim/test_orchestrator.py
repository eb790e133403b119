"""Programs' lives: arrivals, gaps, sub-agents and their join, closed loop, resets."""

from __future__ import annotations

from typing import Any

import pytest
from sim_helpers import LinearLatency, drive, program, scenario, simulate

from agentserve_gym.sim import Phase, Route, RouteDecision, Simulation

SECOND = LinearLatency(1.0)
PLAIN = {"async_scheduling": False}


def turns(simulation: Simulation) -> dict[tuple[str, int], tuple[float, float]]:
    """Ready and end of each turn."""
    assert simulation.metrics.records is not None
    return {
        (record.program_id, record.turn): (record.ready_s, record.end_s)
        for record in simulation.metrics.records
    }


def play(programs: list[dict[str, Any]], **parts: Any) -> Simulation:
    return drive(simulate(scenario(programs, engine=PLAIN, **parts), SECOND))


def test_the_next_turn_is_released_when_the_gap_is_over() -> None:
    times = turns(play([program((10, 2, 2.5), (10, 3, 0.0), (10, 1), program_id="a")]))
    assert times == {("a", 0): (0.0, 2.0), ("a", 1): (4.5, 7.5), ("a", 2): (7.5, 8.5)}


def test_open_loop_programs_arrive_at_their_times_whatever_happens() -> None:
    times = turns(
        play([program((10, 50), program_id=f"p{i}", arrival_s=1.5 * i) for i in range(4)])
    )
    assert [times[f"p{i}", 0][0] for i in range(4)] == [0.0, 1.5, 3.0, 4.5]


def test_a_closed_loop_keeps_its_concurrency() -> None:
    simulation = play(
        [program((10, 3), program_id=f"p{i}") for i in range(5)],
        arrivals={"kind": "closed_loop", "concurrency": 2},
    )
    times = turns(simulation)
    assert [times[f"p{i}", 0] for i in range(5)] == [
        (0.0, 3.0), (0.0, 3.0), (3.0, 6.0), (3.0, 6.0), (6.0, 9.0),
    ]  # fmt: skip


def test_a_closed_loop_counts_gaps_as_running() -> None:
    simulation = play(
        [program((10, 1, 5.0), (10, 1), program_id=f"p{i}") for i in range(2)],
        arrivals={"kind": "closed_loop", "concurrency": 1},
    )
    assert turns(simulation)["p1", 0][0] == 7.0


def parent_with_children(*children: dict[str, Any], gap_s: float = 1.0) -> dict[str, Any]:
    return {
        "program_id": "parent",
        "arrival_s": 0.0,
        "turns": [
            {
                "new_input_tokens": 10, "output_tokens": 1, "gap_s": gap_s,
                "children": list(children),
            },
            {"new_input_tokens": 10, "output_tokens": 1},
        ],
    }  # fmt: skip


def test_a_parent_waits_for_its_sub_agents() -> None:
    simulation = play(
        [
            parent_with_children(
                program((10, 4), program_id="one", arrival_s=0.5),
                program((10, 2, 3.0), (10, 2), program_id="two", arrival_s=2.5),
            )
        ]
    )
    times = turns(simulation)
    # The parent's first turn ends at 1; one runs 1.5 .. 5.5. two is ready at 3.5, joins at the
    # boundary 4.5, ends its first turn at 6.5, and its second at 9.5 + 2.
    assert times["one", 0] == (1.5, 5.5)
    assert times["two", 0] == (3.5, 6.5)
    assert times["two", 1] == (9.5, 11.5)
    assert times["parent", 1] == (11.5, 12.5)
    report = simulation.report()
    assert (report["programs"], report["subagents"]) == (1, 2)
    # To the parent all that was a gap of 10.5 s.
    assert simulation.metrics.phase_s[Phase.GAP] == pytest.approx(10.5)
    assert list(simulation.metrics.jct_s) == pytest.approx([12.5])


def test_a_gap_longer_than_the_sub_agents_decides() -> None:
    simulation = play(
        [parent_with_children(program((10, 2), program_id="one", arrival_s=0.0), gap_s=30.0)]
    )
    assert turns(simulation)["parent", 1] == (31.0, 32.0)


def test_a_sub_agent_keeps_its_own_context_and_shares_prefixes() -> None:
    prefix = [("system", 64)]
    child = program((10, 1), program_id="child", prefix=prefix, arrival_s=0.0)
    parent = parent_with_children(child)
    parent["prefix"] = [{"key": "system", "tokens": 64}]
    simulation = play([parent])
    # The child finds the prefix (64); the parent's second turn all of its full blocks: 64 + 0 of
    # its own 10 tokens.
    assert simulation.metrics.hit_tokens[0] == 128


def test_program_state_follows_the_turns() -> None:
    simulation = simulate(
        scenario([program((10, 5, 2.0), (20, 3), program_id="a")], engine=PLAIN), SECOND
    )
    decision = simulation.advance()
    assert isinstance(decision, RouteDecision)
    state = decision.program
    assert (state.turns_done, state.home, state.context_tokens) == (0, -1, 0)
    decision = simulation.advance(Route(0))
    # 10 + 5 tokens, the last of which was not fed back; it is a placement decision now.
    assert (state.turns_done, state.home, state.context_tokens) == (1, 0, 14)
    assert state.generated_tokens == 5
    assert state.attained_service_s == pytest.approx(5.0)
    assert simulation.orchestrator.live_context_tokens == 14


def test_the_horizon_truncates_and_accounts_for_the_rest() -> None:
    simulation = play(
        [program((10, 4), program_id=f"p{i}", arrival_s=3.5 * i) for i in range(5)], horizon_s=8.25
    )
    report = simulation.report()
    assert simulation.truncated
    assert simulation.now_s == 8.25
    # p0 runs 0 .. 4; p1 is ready at 3.5 and runs 4 .. 8; p2 has arrived at 7.
    assert (report["programs"], report["unfinished_programs"]) == (2, 1)
    # The integral of unfinished programs: 4 + 4.5 + (8.25 - 7).
    assert simulation.unfinished_time()[0] == pytest.approx(9.75)


def test_a_horizon_may_fall_on_an_event() -> None:
    simulation = play(
        [program((10, 4), program_id="a"), program((10, 4), program_id="b", arrival_s=2.0)],
        horizon_s=2.0,
    )
    assert simulation.truncated
    assert simulation.now_s == 2.0
    assert simulation.orchestrator.arrived == 2


def test_advance_wants_an_answer_exactly_when_a_decision_is_pending() -> None:
    simulation = simulate(scenario([program((10, 2))]), SECOND)
    with pytest.raises(ValueError, match="a decision is not pending"):
        simulation.advance(Route(0))
    decision = simulation.advance()
    assert decision is simulation.pending
    with pytest.raises(ValueError, match="a decision is pending"):
        simulation.advance()
    assert simulation.advance(Route(0)) is None
    assert simulation.done
    assert simulation.advance() is None


def below_the_prefix() -> dict[str, Any]:
    """A compaction that keeps less than the shared prefix, then a long prompt."""
    return {
        "program_id": "a",
        "arrival_s": 0.0,
        "prefix": [{"key": "system", "tokens": 160}],
        "turns": [
            {"new_input_tokens": 16, "output_tokens": 1, "gap_s": 1.0},
            {"new_input_tokens": 270, "output_tokens": 1, "reset_to_tokens": 16},
        ],
    }


def test_a_reset_below_the_shared_prefix_leaves_no_turn_stuck() -> None:
    # 19 blocks; the second turn needs 18 of them and finds one of the prefix's ten.
    simulation = play([below_the_prefix()], kv_blocks=19)
    assert simulation.report()["programs"] == 1


def test_a_reset_below_the_shared_prefix_ends_the_sharing() -> None:
    # The first turn leaves the prefix, 10 blocks, and no full block of its own survives the
    # reset. The second computes 286 tokens, 17 full blocks, all its own now.
    simulation = play([below_the_prefix()])
    pool = simulation.engines[0].pool
    assert pool.blocks_of("system") == 10
    assert pool.blocks_of(0) == 17


def test_a_reset_within_the_prefix_keeps_its_whole_levels() -> None:
    # Levels of 6 and 4 blocks; the reset to 130 tokens keeps the first, so 96 tokens are found.
    plan = below_the_prefix()
    plan["prefix"] = [{"key": "tools", "tokens": 96}, {"key": "system", "tokens": 64}]
    plan["turns"][1]["reset_to_tokens"] = 130
    simulation = play([plan])
    assert simulation.metrics.hit_tokens[0] == 96
