"""vLLM V1's scheduling rules, each with an expected timeline. Every step takes one second."""

from __future__ import annotations

from typing import Any

import pytest
from sim_helpers import LinearLatency, drive, on_instances, program, scenario, simulate

from agentserve_gym.sim import KEEP, Answer, Decision, Route, RouteDecision, Simulation
from agentserve_gym.sim.metrics import TurnRecord

SECOND = LinearLatency(1.0)


def turns(simulation: Simulation) -> dict[tuple[str, int], TurnRecord]:
    assert simulation.metrics.records is not None
    return {(record.program_id, record.turn): record for record in simulation.metrics.records}


def times(simulation: Simulation, program_id: str, turn: int = 0) -> tuple[float, float]:
    """First token and end."""
    record = turns(simulation)[program_id, turn]
    return record.first_token_s, record.end_s


def play(programs: list[dict[str, Any]], *, kv_blocks: int = 1000, **engine: Any) -> Simulation:
    engine = {"async_scheduling": False, **engine}
    return drive(simulate(scenario(programs, kv_blocks=kv_blocks, engine=engine), SECOND))


# --- chunked prefill and budgets ------------------------------------------------------------------


def test_a_turn_costs_one_prefill_and_a_step_per_further_token() -> None:
    simulation = play([program((100, 7), program_id="a")])
    assert times(simulation, "a") == (1.0, 7.0)
    assert simulation.report()["steps"] == 7


def test_a_long_prompt_is_prefilled_in_chunks_of_the_budget() -> None:
    # 150 tokens in chunks of 64: 64, 64, 22.
    simulation = play(
        [program((150, 2), program_id="a")], max_num_batched_tokens=64, max_num_seqs=8
    )
    assert times(simulation, "a") == (3.0, 4.0)


def test_decodes_come_first_out_of_the_budget() -> None:
    # b (128 tokens) arrives while a decodes: each step leaves 63 of 64 tokens, so 63 + 63 + 2.
    # b is admitted at t = 2 (a's prefill ends at 1, its first decode step at 2).
    simulation = play(
        [
            program((10, 20), program_id="a"),
            program((128, 1), program_id="b", arrival_s=1.5),
        ],
        max_num_batched_tokens=64,
        max_num_seqs=8,
    )
    assert times(simulation, "b") == (5.0, 5.0)
    assert times(simulation, "a") == (1.0, 20.0)


def test_the_budget_that_a_last_chunk_leaves_goes_to_the_next_in_line() -> None:
    # Budget 64. a: 64 + 36, so b (arrived together) gets 28 of its 40 tokens in step 2, 12 in 3.
    simulation = play(
        [program((100, 1), program_id="a"), program((40, 1), program_id="b")],
        max_num_batched_tokens=64,
        max_num_seqs=8,
    )
    assert times(simulation, "a") == (2.0, 2.0)
    assert times(simulation, "b") == (3.0, 3.0)


# --- admission ------------------------------------------------------------------------------------


def test_admission_needs_room_for_the_whole_prompt() -> None:
    # 20 blocks. a: 160 tokens -> 10 blocks and one more while it decodes to 8 s. b: 176 tokens
    # need 11 blocks; 10 or 9 are free, and a chunk of 64 tokens would need only 4, yet b waits.
    simulation = play(
        [
            program((160, 6), program_id="a"),
            program((176, 1), program_id="b", arrival_s=0.5),
        ],
        kv_blocks=20,
        max_num_batched_tokens=64,
        max_num_seqs=8,
    )
    # a: chunks 64, 64, 32 then five decodes: ends at 8. b: three chunks from 8 on.
    assert times(simulation, "a") == (3.0, 8.0)
    assert times(simulation, "b") == (11.0, 11.0)


def queue_of_three() -> list[dict[str, Any]]:
    """20 blocks: a (10, then 11) runs for 10 s, b (12) does not fit beside it, c (1) would."""
    return [
        program((159, 10), program_id="a"),
        program((190, 2), program_id="b", arrival_s=0.2),
        program((10, 2), program_id="c", arrival_s=0.3),
    ]


def test_admission_is_first_come_first_served_and_stops_at_what_does_not_fit() -> None:
    simulation = play(queue_of_three(), kv_blocks=20)
    assert times(simulation, "a") == (1.0, 10.0)
    assert times(simulation, "b") == (11.0, 12.0)
    assert times(simulation, "c") == (11.0, 12.0)


def test_priority_goes_before_arrival() -> None:
    def answer(decision: Decision) -> Answer:
        assert isinstance(decision, RouteDecision)
        return Route(0, priority=0.0 if decision.program.program_id == "c" else 1.0)

    engine = {"async_scheduling": False}
    simulation = drive(
        simulate(scenario(queue_of_three(), kv_blocks=20, engine=engine), SECOND), answer
    )
    assert times(simulation, "c") == (2.0, 3.0)
    assert times(simulation, "b") == (11.0, 12.0)


def test_no_more_turns_run_than_there_are_slots() -> None:
    simulation = play(
        [program((10, 4), program_id=name) for name in "abc"],
        max_num_seqs=2,
        max_num_batched_tokens=64,
    )
    assert times(simulation, "a") == (1.0, 4.0)
    assert times(simulation, "b") == (1.0, 4.0)
    assert times(simulation, "c") == (5.0, 8.0)


# --- async scheduling -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrival_s", "first_token_s"),
    [
        (2.4, 5.0),  # during step 3 (2..3); step 4 was planned at 2, so admitted at 4
        (2.0, 4.0),  # at the start of step 3: seen when step 4 is planned, admitted at 3
        (1.999, 4.0),  # during step 2: admitted at 3
    ],
)
def test_async_scheduling_sees_arrivals_one_step_late(
    arrival_s: float, first_token_s: float
) -> None:
    simulation = play(
        [
            program((10, 20), program_id="a"),
            program((10, 1), program_id="b", arrival_s=arrival_s),
        ],
        async_scheduling=True,
    )
    assert times(simulation, "b")[0] == first_token_s


@pytest.mark.parametrize(("async_scheduling", "first_token_s"), [(False, 5.0), (True, 6.0)])
def test_a_slot_comes_free_one_step_late_with_async_scheduling(
    async_scheduling: bool, first_token_s: float
) -> None:
    # Two slots. a ends at 4; long goes on; c waits. Without async scheduling c runs in 4..5, with
    # it the step 4..5 was planned when a was still there.
    simulation = play(
        [
            program((10, 4), program_id="a"),
            program((10, 30), program_id="long"),
            program((10, 1), program_id="c", arrival_s=0.5),
        ],
        max_num_seqs=2,
        max_num_batched_tokens=64,
        async_scheduling=async_scheduling,
    )
    assert times(simulation, "c")[0] == first_token_s


@pytest.mark.parametrize(("async_scheduling", "first_token_s"), [(False, 5.0), (True, 6.0)])
def test_blocks_come_free_one_step_late_with_async_scheduling(
    async_scheduling: bool, first_token_s: float
) -> None:
    # 20 blocks: a holds 10, long 3; c needs 10.
    simulation = play(
        [
            program((150, 4), program_id="a"),
            program((10, 30), program_id="long"),
            program((150, 1), program_id="c", arrival_s=0.5),
        ],
        kv_blocks=20,
        async_scheduling=async_scheduling,
    )
    assert times(simulation, "c")[0] == first_token_s


def test_an_idle_engine_starts_at_once_with_async_scheduling() -> None:
    # One slot: when a ends at 2 nothing else runs, so b does not wait for a step that is not there.
    simulation = play(
        [program((10, 2), program_id="a"), program((10, 1), program_id="b", arrival_s=0.5)],
        max_num_seqs=1,
        max_num_batched_tokens=64,
        async_scheduling=True,
    )
    assert times(simulation, "a") == (1.0, 2.0)
    assert times(simulation, "b") == (3.0, 3.0)


# --- preemption -----------------------------------------------------------------------------------


def crowded(first: tuple[int, int], second: tuple[int, int]) -> list[dict[str, Any]]:
    return [program(first, program_id="a"), program(second, program_id="b")]


@pytest.mark.parametrize("fused", [True, False])
def test_the_tail_is_preempted_and_recomputes_prompt_and_output(fused: bool) -> None:
    # 10 blocks of 16. a and b have prompts of 64 tokens, 4 blocks each. Token 65 of each is
    # computed in the step 1..2: 5 + 5 = 10 blocks. Token 81 is computed in the step 17..18: 6 + 6
    # do not fit, so b, admitted last, loses its place at t = 17 with 80 tokens computed (17 tokens
    # emitted). a runs on alone: 30 tokens, ends at 30. Its last blocks were taken from b's tail.
    # a has computed 64 + 29 = 93 tokens at its end: 6 blocks, so 4 of b's 5 are still cached.
    # b's target is 64 + 17 = 81 tokens, 6 blocks; 4 + what is free is 4, so it waits until 30 and
    # then prefills 81 - 64 = 17 tokens in one step, emits token 18 at 31 and 12 more: ends at 43.
    simulation = simulate(
        scenario(crowded((64, 30), (64, 30)), kv_blocks=10, engine={"async_scheduling": False}),
        SECOND,
        fused=fused,
    )
    drive(simulation)
    assert times(simulation, "a") == (1.0, 30.0)
    assert times(simulation, "b") == (1.0, 43.0)
    assert turns(simulation)["b", 0].preemptions == 1
    assert turns(simulation)["b", 0].output_tokens == 30
    report = simulation.report()
    assert report["preemptions"] == 1
    # Of the 80 tokens that b had computed, 64 were found again.
    assert report["recomputed_tokens"] == 16
    assert report["output_tokens"] == 60


def test_the_victim_may_be_the_one_with_the_fewest_tokens() -> None:
    # As above, but a is the shorter one: its prompt has 48 tokens, b's 64. The pool (9 blocks) is
    # short when token 65 + 16 of b or 48 + 17 + .. of a needs a block.
    small_first = crowded((48, 30), (64, 30))
    tail = play(small_first, kv_blocks=9)
    fewest = play(small_first, kv_blocks=9, preemption_victim="fewest_tokens")
    assert turns(tail)["b", 0].preemptions >= 1
    assert turns(tail)["a", 0].preemptions == 0
    assert turns(fewest)["a", 0].preemptions >= 1


def test_the_victim_may_be_the_one_of_the_lowest_priority() -> None:
    # As in the first preemption test, with a of lower priority (1) than b (0): it gives way though
    # it was admitted first, and waits behind c (0), which the other rules would let wait.
    programs = [*crowded((64, 30), (64, 30)), program((64, 1), program_id="c", arrival_s=18.0)]
    numbers = {"a": 1.0, "b": 0.0, "c": 0.0}

    def by_priority(decision: Decision) -> Answer:
        if isinstance(decision, RouteDecision):
            return Route(0, numbers[decision.program.program_id])
        return KEEP

    engine = {"async_scheduling": False, "preemption_victim": "lowest_priority"}
    simulation = simulate(scenario(programs, kv_blocks=10, engine=engine), SECOND)
    drive(simulation, by_priority)
    found = turns(simulation)
    assert [found[name, 0].preemptions for name in "abc"] == [1, 0, 0]
    assert times(simulation, "b") == (1.0, 30.0)
    assert times(simulation, "c")[1] < times(simulation, "a")[1]


def test_a_step_that_preempts_admits_nobody() -> None:
    # As in the first preemption test; c (one block) arrived just before t = 17. b's blocks are
    # cached then and there would be room, but the step 17..18 preempted; and b is queued before c.
    simulation = play(
        [
            *crowded((64, 30), (64, 30)),
            program((10, 1), program_id="c", arrival_s=16.5),
        ],
        kv_blocks=10,
    )
    # b's head of the queue does not fit until a ends at 30; c runs in the same step as b then.
    assert times(simulation, "c") == (31.0, 31.0)


# --- prefix hits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [2048, 48])
def test_a_prefix_is_found_in_the_pass_that_schedules_it(budget: int) -> None:
    # The prefix has 4 blocks. b is admitted in the step in which a computes the last of them: the
    # first, or with a budget of 48 the second.
    prefix = [("system", 64)]
    simulation = play(
        [program((6, 2), program_id=name, prefix=prefix) for name in "ab"],
        max_num_batched_tokens=budget,
        max_num_seqs=8,
    )
    assert simulation.metrics.hit_tokens[0] == 64


def prompts_that_are_all_prefix(first_tokens: int) -> Simulation:
    """The second program's whole prompt is the shared prefix, 32 tokens in 2 blocks."""
    prefix = [("system", 32)]
    return play(
        [
            program((first_tokens, 1), program_id="a", prefix=prefix),
            program((0, 1), program_id="b", prefix=prefix, arrival_s=5.0),
        ]
    )


def test_a_prefix_hit_leaves_at_least_one_token_to_compute() -> None:
    # Both blocks are there, but only (32 - 1) // 16 = 1 may be taken.
    assert prompts_that_are_all_prefix(8).metrics.hit_tokens[0] == 16


def test_a_prompt_that_is_all_prefix_leaves_its_blocks_to_others() -> None:
    assert prompts_that_are_all_prefix(0).metrics.hit_tokens[0] == 16


@pytest.mark.parametrize(
    ("first_turn", "new_tokens", "cached_tokens"),
    [
        ((31, 2), 1, 32),  # 31 + 1 computed: both blocks
        ((31, 1), 1, 16),  # the only output token was never fed back: 31 computed
        ((30, 2), 5, 16),  # 31 computed
        ((33, 16), 5, 48),  # 48 computed
        ((31, 2), 0, 32),  # prompt 33 = the chain: 32 computed, and 33 - 1 may be taken
    ],
)
def test_only_full_computed_blocks_are_found_again(
    first_turn: tuple[int, int], new_tokens: int, cached_tokens: int
) -> None:
    simulation = play([program((*first_turn, 1.0), (new_tokens, 1), program_id="a")])
    assert simulation.metrics.hit_tokens[0] == cached_tokens


def test_the_suffix_is_evicted_before_the_head() -> None:
    # 20 blocks. a leaves 10 cached (160 tokens in its chain). b needs 14 and takes 10 free + 4 of
    # a's tail; a's second turn finds the other 6 blocks.
    simulation = play(
        [
            program((160, 1, 10.0), (5, 1), program_id="a"),
            program((220, 1), program_id="b", arrival_s=3.0),
        ],
        kv_blocks=20,
    )
    assert simulation.metrics.hit_tokens[0] == 6 * 16
    # The second turn takes 5 more blocks: the one that is free, and 4 of b's 13.
    assert simulation.report()["evicted_blocks"] == 4 + 4


def test_the_least_recently_used_chain_gives_way_first() -> None:
    # 20 blocks; old leaves 6 cached at 1, recent 6 at 3. c needs 12: 8 free + 4 of old's.
    simulation = play(
        [
            program((96, 1, 20.0), (5, 1), program_id="old"),
            program((96, 1, 7.0), (5, 1), program_id="recent", arrival_s=2.0),
            program((190, 1), program_id="c", arrival_s=5.0),
        ],
        kv_blocks=20,
    )
    # recent finds all of its 6 blocks at 10, old 2 of its 6 at 21.
    assert simulation.metrics.hit_tokens[0] == (2 + 6) * 16


def test_a_shared_prefix_is_stored_once_and_outlives_its_users_parts() -> None:
    prefix = [("tools", 96), ("system", 64)]
    programs = [
        program((16, 3, 50.0), (5, 1), program_id=f"p{i}", prefix=prefix, arrival_s=10.0 * i)
        for i in range(4)
    ]
    simulation = simulate(
        scenario(programs, kv_blocks=40, engine={"async_scheduling": False}), SECOND
    )
    decision = simulation.advance()
    while decision is not None and simulation.now_s < 40.0:
        decision = simulation.advance(Route(0) if isinstance(decision, RouteDecision) else KEEP)
    pool = simulation.engines[0].pool
    assert pool.blocks_of("tools") == 6
    assert pool.blocks_of("system") == 4
    # Each program's own part: 16 + 2 computed tokens: one block.
    assert pool.capacity - pool.free == 6 + 4 + 4
    # The first computes everything, the others find 10 blocks.
    assert simulation.metrics.hit_tokens[0] == 3 * 160


def test_turns_that_compute_the_same_prefix_together_keep_one_copy_in_the_end() -> None:
    prefix = [("system", 160)]
    simulation = play(
        [program((20, 3), program_id=name, prefix=prefix) for name in "abc"], kv_blocks=100
    )
    pool = simulation.engines[0].pool
    assert pool.blocks_of("system") == 10
    assert pool.capacity - pool.free == 10 + 3 * 1


def test_levels_of_a_prefix_are_shared_separately() -> None:
    simulation = play(
        [
            program((20, 1), program_id="a", prefix=[("tools", 96), ("one", 64)]),
            program((20, 1), program_id="b", prefix=[("tools", 96), ("two", 64)], arrival_s=5.0),
            program((20, 1), program_id="c", prefix=[("tools", 96), ("one", 64)], arrival_s=9.0),
        ]
    )
    assert simulation.metrics.hit_tokens[0] == 96 + 160


def test_a_reset_chain_is_found_only_up_to_the_reset() -> None:
    first = {"new_input_tokens": 160, "output_tokens": 1, "gap_s": 1.0}
    second = {"new_input_tokens": 40, "output_tokens": 1, "reset_to_tokens": 70}
    simulation = play([{"program_id": "a", "arrival_s": 0.0, "turns": [first, second]}])
    assert simulation.metrics.hit_tokens[0] == 64
    assert turns(simulation)["a", 1].prompt_tokens == 110


def test_another_instance_finds_nothing_in_the_first_ones_hbm() -> None:
    config = scenario(
        [program((160, 1, 1.0), (5, 1), program_id="a")],
        instances=2,
        engine={"async_scheduling": False},
        node={"host_link": {"bandwidth_gbps": 1e-6}},
    )
    simulation = drive(
        simulate(config, SECOND), on_instances(lambda decision: decision.turn.number)
    )
    assert simulation.metrics.hit_tokens[0] == 0
    assert simulation.report()["recomputed_tokens"] == 160


# --- data-parallel groups -------------------------------------------------------------------------


@pytest.mark.parametrize("fused", [True, False])
def test_engines_of_a_lockstep_group_step_together(fused: bool) -> None:
    """Both engines' turns end at the same instant, though one of them has the longer prompt."""
    config = scenario(
        [
            program((2000, 40), program_id="a"),
            program((50, 40), program_id="b"),
        ],
        model="qwen3-30b-a3b-instruct-2507",
        accelerator="rtx-pro-6000",
        node={
            "instances": [
                {
                    "accelerator": "rtx-pro-6000",
                    "data_parallel": 2,
                    "expert_parallel": 2,
                    "kv_blocks": 500,
                }
            ]
        },
    )
    simulation = simulate(config, fused=fused)
    drive(simulation, on_instances(lambda decision: int(decision.program.program_id == "b")))
    first, second = turns(simulation)["a", 0], turns(simulation)["b", 0]
    assert {first.instance, second.instance} == {0, 1}
    assert first.end_s == second.end_s
    assert first.first_token_s == second.first_token_s
