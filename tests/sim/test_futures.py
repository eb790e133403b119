"""Sampled futures: they keep the past, know nothing of the true future, and run to their end."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from sim_helpers import home_or_first

from agentserve_gym.sim import Decision, PlacementDecision, Simulation, load_scenario
from agentserve_gym.sim.donors import Donors, chain_tokens, lengthened
from agentserve_gym.sim.futures import Futures, add_luck, copied
from agentserve_gym.sim.kernel.events import Event
from agentserve_gym.sim.kernel.programs import TOOL_GAP
from agentserve_gym.workloads.program import Program, Turn

SPAN_S = 30.0
PACKAGE = "agentserve_gym.sim."

GENERATED: dict[str, dict[str, Any]] = {
    "plain": {},
    "limited hosts": {
        "tools": {
            "concurrency": {"bash": 1},
            "failure_probability": 0.3,
            "durations": {"read": {"weights": [1.0], "mu": [0.5], "sigma": [1.0], "cap_s": 60.0}},
        }
    },
    "late signals": {"router": {"signal_delay_s": 0.5}},
    "closed loop": {"arrivals": {"kind": "closed_loop", "concurrency": 6, "pause_s": 2.0}},
}


def at_decision(number: int, preset: str = "default", **changes: Any) -> Simulation:
    """A simulation at one of its decisions."""
    data = load_scenario(preset).model_dump()
    for key, value in changes.items():
        data[key] = data[key] | value if key != "arrivals" else value
    simulation = Simulation(load_scenario(data), 3)
    decision = simulation.advance()
    for _ in range(number):
        assert decision is not None
        decision = simulation.advance(home_or_first(decision))
    return simulation


def drawn(simulation: Simulation, seed: int) -> Simulation:
    found = Futures(simulation).sample(Random(seed), SPAN_S, None)
    assert found is not None
    return found[0]


def told(decision: Decision) -> tuple[Any, ...]:
    """What a decision is about, as far as plain values say it."""
    program = decision.program
    rest: tuple[Any, ...]
    if isinstance(decision, PlacementDecision):
        rest = (decision.gap_kind, decision.tool_kinds, decision.elapsed_s)
    else:
        rest = (decision.turn.prompt_tokens, decision.turn.reuse_tokens, decision.may_hold)
    loads = tuple(view.load() for view in decision.cluster.instances)
    return (decision.time_s, program.index, program.turns_done, program.context_tokens, rest, loads)


def course(world: Simulation, most: int) -> Iterator[tuple[Any, ...]]:
    """The decisions of a world from the pending one on."""
    decision = world.pending
    for _ in range(most):
        if decision is None:
            return
        yield told(decision)
        decision = world.advance(home_or_first(decision))


@pytest.mark.parametrize("changes", GENERATED.values(), ids=GENERATED)
@pytest.mark.parametrize("number", [40, 90, 151])
def test_another_true_future_with_the_same_past_gives_the_same_futures(
    number: int, changes: dict[str, Any]
) -> None:
    """A future that was drawn has the same past: as the truth, it must be looked at alike."""
    truth = at_decision(number, **changes)
    other = drawn(truth, seed=99)
    assert list(course(copied(truth, None)[0], 300)) != list(course(copied(other, None)[0], 300))
    first, second = (list(course(drawn(world, seed=7), 300)) for world in (truth, other))
    assert len(first) > 20
    assert first == second


END = {"new_input_tokens": 200, "output_tokens": 10}


def inline(*, hidden: bool) -> Simulation:
    """Programs that begin alike; ``hidden`` changes what only the future tells: outputs, gaps,
    turns to come, who arrives."""
    stretch = 3 if hidden else 1
    programs: list[dict[str, Any]] = []
    for index in range(6):
        turns = [{"new_input_tokens": 900, "output_tokens": 40, "gap_s": 1.0}]
        turns += [{"new_input_tokens": 100, "output_tokens": 30, "gap_s": 0.5}] * 2 + [END]
        programs.append({"program_id": f"early{index}", "arrival_s": 0.0, "turns": turns})
    for index in range(12):
        turns = [{"new_input_tokens": 2000, "output_tokens": 20, "gap_s": 40.0 * stretch}]
        if index % 2:
            turns = [{"new_input_tokens": 2000, "output_tokens": 3000 * stretch, "gap_s": 1.0}]
        later = {"new_input_tokens": 50 * stretch, "output_tokens": 40, "gap_s": 2.0}
        programs.append(
            {"program_id": f"late{index}", "arrival_s": 10.0, "turns": [*turns, later, END]}
        )
    programs += [
        {
            "program_id": f"coming{index}",
            "arrival_s": 60.0 + stretch,
            "turns": [END],
        }
        for index in range(stretch)
    ]
    data = load_scenario("default").model_dump()
    data |= {"workload": {"kind": "inline", "programs": programs}, "arrivals": {"kind": "trace"}}
    data["horizon_s"] = None
    return Simulation(load_scenario(data), 0)


def test_futures_of_written_programs_do_not_depend_on_what_is_still_to_come() -> None:
    """Two truths built apart: equal up to a time, and nothing alike after it."""
    worlds = [inline(hidden=hidden) for hidden in (False, True)]
    pending = [world.advance() for world in worlds]
    compared = 0
    while worlds[0].now_s < 12.0:
        assert pending[0] is not None
        assert pending[1] is not None
        assert told(pending[0]) == told(pending[1])
        if worlds[0].now_s > 10.0:
            futures = [list(course(drawn(world, seed=compared), 100)) for world in worlds]
            assert futures[0] == futures[1]
            compared += len(futures[0]) > 1
        pending = [
            world.advance(home_or_first(decision))
            for world, decision in zip(worlds, pending, strict=True)
            if decision is not None
        ]
    assert compared > 5
    assert [told(decision) for decision in pending if decision is not None][:1] != []


def test_a_future_keeps_what_is_known_and_redraws_what_is_not() -> None:
    truth = at_decision(120)
    world = drawn(truth, seed=1)
    assert truth.pending is not None
    assert world.pending is not None
    assert told(truth.pending) == told(world.pending)
    changed = 0
    for index, program in truth.orchestrator.live.items():
        twin = world.orchestrator.live[index]
        assert (twin.status, twin.phase_s, twin.home) == (
            program.status, program.phase_s, program.home,
        )  # fmt: skip
        before = truth.orchestrator.plan_of(program).turns
        after = world.orchestrator.plan_of(twin).turns
        done = program.turns_done
        assert after[:done] == before[:done] or program.status is TOOL_GAP
        if program.status is not TOOL_GAP:
            assert after[done][0] == before[done][0]
        changed += after[done:] != before[done:]
    assert changed > 3
    assert world.seed == truth.seed


@pytest.mark.parametrize("number", [30, 160])
def test_a_future_runs_to_its_end_with_consistent_programs(number: int) -> None:
    world = drawn(at_decision(number), seed=5)
    for program in world.orchestrator.live.values():
        plan = world.orchestrator.plan_of(program)
        for before, after in zip(plan.turns[program.turns_done :], plan.turns, strict=False):
            assert before.output_tokens >= 1
            assert after.reuse_tokens < after.input_tokens
    for _ in course(world, 100_000):
        pass
    assert world.done
    assert world.orchestrator.done == world.orchestrator.arrived


def test_outputs_are_longer_than_what_was_emitted() -> None:
    truth = at_decision(140)
    emitted: dict[int, int] = {}
    for engine in truth.engines:
        emitted.update(engine.emitted_tokens())
    assert max(emitted.values()) > 1
    for seed in range(20):
        world = drawn(truth, seed)
        for index, tokens in emitted.items():
            program = world.orchestrator.live[index]
            plan = world.orchestrator.plan_of(program)
            assert plan.turns[program.turns_done].output_tokens > tokens


FOLLOW_FROM_THE_PAST = {
    "PinDeadline", "Transfer", "_AskAgain", "_Horizon", "_Kick", "_Promotion", "_Reoffer",
    "_StepsEnd",
}  # fmt: skip
HIDDEN = {"_Arrival", "_AttemptEnd", "_CallEnd", "_GapEnd", "_Retry", "_SessionTimeout", "_Start"}


def test_every_kind_of_event_is_known_to_follow_from_the_past_or_is_redrawn() -> None:
    """Whoever adds an event decides whether when it happens tells something of the future."""
    kinds = [kind for kind in Event.__subclasses__() if kind.__module__.startswith(PACKAGE)]
    found = {kind.__name__ for kind in kinds}
    found -= {"_SimpyEvent"}  # such a simulation cannot be copied
    assert found == FOLLOW_FROM_THE_PAST | HIDDEN


def test_without_a_donor_there_is_no_future() -> None:
    simulation = inline(hidden=False)
    simulation.advance()
    assert Futures(simulation).sample(Random(0), SPAN_S, None) is None


def test_sampling_leaves_the_truth_alone() -> None:
    first, second = at_decision(100), at_decision(100)
    for seed in range(3):
        drawn(first, seed)
    assert list(course(first, 400)) == list(course(second, 400))


def program(*sizes: tuple[int, int, int]) -> Program:
    """Turns of (input, output, reuse)."""
    turns = [Turn(size, size - reuse, output, reuse, 1.0, "tool") for size, output, reuse in sizes]
    turns[-1] = turns[-1]._replace(gap_s=0.0, gap_kind="end")
    return Program("p", "c", tuple(turns))


def test_a_longer_output_moves_all_that_follows_up_to_a_reset() -> None:
    plan = program((100, 10, 0), (150, 10, 110), (200, 5, 160), (50, 5, 20))
    longer = lengthened(plan, 1, 3)
    assert [turn.output_tokens for turn in longer.turns] == [10, 13, 5, 5]
    assert [turn.input_tokens for turn in longer.turns] == [100, 150, 203, 50]
    assert [turn.reuse_tokens for turn in longer.turns] == [0, 110, 163, 20]
    assert chain_tokens(longer.turns[1]) == longer.turns[2].reuse_tokens


def test_luck_is_a_token_more_of_the_turn_that_is_asked_about() -> None:
    simulation = at_decision(100)
    pending = simulation.pending
    assert pending is not None
    number = pending.program.turns_done
    before = simulation.orchestrator.plan_of(pending.program).turns[number].output_tokens
    add_luck(simulation, 2)
    after = simulation.orchestrator.plan_of(pending.program).turns[number].output_tokens
    assert after == before + 2
    for _ in course(simulation, 100_000):
        pass
    assert simulation.done


def test_gaps_go_on_beyond_what_has_passed() -> None:
    donors = Donors()
    donors.add([program((10, 1, 0), (20, 1, 11), (30, 1, 21))])
    for elapsed_s in (0.0, 0.5, 5.0):
        for seed in range(20):
            assert donors.gap_beyond(("tool",), elapsed_s, [], Random(seed)) > elapsed_s
    observed = [2.0 + number for number in range(20)]
    assert donors.gap_beyond(("tool",), 20.5, observed, Random(0)) == 21.0
