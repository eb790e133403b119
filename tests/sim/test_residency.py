"""Offloads and reloads, every rule with its arithmetic (see ``residency_helpers``)."""

from __future__ import annotations

import pytest
from residency_helpers import (
    BLOCK_BYTES,
    DRAM,
    SLOW_LINK,
    build,
    evicted_between_turns,
    node,
    placing,
    records,
    stop_at,
    two_turns,
)
from sim_helpers import audit, drive, program

from agentserve_gym.sim import (
    KEEP,
    Answer,
    Decision,
    Phase,
    Place,
    PlacementDecision,
    PlacementKind,
    Restore,
    Route,
    Simulation,
    offload,
)
from agentserve_gym.sim.kernel.tiers import HBM

# --- offload --------------------------------------------------------------------------------------


def test_an_offload_keeps_its_hbm_blocks_until_the_copy_is_done() -> None:
    simulation = build(two_turns())
    simulation.advance()
    decision = simulation.advance(Route(0))
    # The turn ends at 2.6; ten blocks take 1 s.
    assert isinstance(decision, PlacementDecision)
    assert simulation.now_s == pytest.approx(2.6)
    pool, dram = simulation.engines[0].pool, simulation.residency.topology.pool(1, 0)
    assert dram is not None
    assert (pool.cached, pool.held) == (10, 0)
    simulation.router.apply(decision, DRAM)
    assert (pool.cached, pool.held, pool.blocks_of(0)) == (0, 10, 10)
    assert (dram.held, dram.blocks_of(0)) == (10, 0)
    simulation.clock.step()
    assert simulation.now_s == pytest.approx(3.6)
    assert (pool.cached, pool.held, pool.blocks_of(0)) == (10, 0, 10)
    assert (dram.cached, dram.held, dram.blocks_of(0)) == (10, 0, 10)


def test_blocks_in_flight_cannot_be_reclaimed() -> None:
    # 12 blocks; a leaves 10 cached at 2.6 and offloads until 3.6. b (11 blocks) is ready at 2.7
    # and is admitted when the copy is done, at 3.6: first token after 1 + 1.76.
    simulation = build(
        [*two_turns(), program((176, 1), program_id="b", arrival_s=2.7)], kv_blocks=13
    )
    drive(simulation, placing(DRAM), audit)
    assert records(simulation)["b", 0].first_token_s == pytest.approx(3.6 + 2.76)
    kept = build([*two_turns(), program((176, 1), program_id="b", arrival_s=2.7)], kv_blocks=13)
    drive(kept, placing(KEEP), audit)
    assert records(kept)["b", 0].first_token_s == pytest.approx(2.7 + 2.76)


def test_an_offloaded_chain_is_the_first_to_be_reclaimed() -> None:
    # 30 blocks: old leaves 10 at 2.6, a 10 more later. a is offloaded, so b's need of 15 is met
    # from the 10 free, then from a, although old was used less recently.
    def place(decision: PlacementDecision) -> Place:
        return DRAM if decision.program.program_id == "a" else KEEP

    simulation = build(
        [
            program((160, 1, 90.0), (16, 1), program_id="old"),
            program((160, 1, 90.0), (16, 1), program_id="a", arrival_s=5.0),
            program((240, 1), program_id="b", arrival_s=20.0),
        ],
        kv_blocks=30,
    )
    stop_at(simulation, 30.0, placing(place))
    assert [simulation.engines[0].pool.blocks_of(index) for index in (0, 1)] == [10, 5]


def test_a_second_offload_moves_only_what_is_new() -> None:
    simulation = build([program((160, 1, 5.0), (96, 1, 5.0), (16, 1), program_id="a")])
    drive(simulation, placing(DRAM), audit)
    counters = simulation.residency.counters
    # 160 computed tokens, 10 blocks; then 160 + 1 + 96 = 257 computed, 16 blocks: 6 new.
    assert counters.offloads[1] == 2
    assert counters.offloaded_blocks[1] == 16


def test_an_offload_under_way_that_is_asked_for_again_is_not_copied_twice() -> None:
    simulation = build(two_turns())
    simulation.advance()
    decision = simulation.advance(Route(0))
    assert isinstance(decision, PlacementDecision)
    simulation.router.apply(decision, DRAM)
    simulation.router.apply(decision, offload("dram", stay_warm=True))
    counters = simulation.residency.counters
    assert (counters.offloads[1], counters.offloaded_blocks[1]) == (1, 10)
    simulation.clock.step()
    pool, dram = simulation.engines[0].pool, simulation.residency.topology.pool(1, 0)
    assert dram is not None
    assert (pool.held, dram.held, dram.free) == (0, 0, dram.capacity - 10)
    simulation.router.apply(decision, DRAM)
    assert (counters.offloads[1], counters.offloaded_blocks[1]) == (2, 10)


def test_a_full_tier_evicts_its_least_recently_used() -> None:
    simulation = build(
        [program((160, 1, 50.0), (16, 1), program_id=f"p{i}", arrival_s=8.0 * i) for i in range(3)],
        node=node(dram_blocks=25),
    )
    stop_at(simulation, 30.0, placing(DRAM))
    dram = simulation.residency.topology.pool(1, 0)
    assert dram is not None
    assert [dram.blocks_of(index) for index in range(3)] == [5, 10, 10]
    assert simulation.residency.counters.refused_offloads == 0


def test_an_offload_that_cannot_fit_is_refused_and_changes_nothing() -> None:
    simulation = build(two_turns(), node=node(dram_blocks=6))
    drive(simulation, placing(DRAM), audit)
    assert simulation.residency.counters.refused_offloads == 1
    assert simulation.residency.counters.offloads[1] == 0
    assert simulation.metrics.hit_tokens[HBM] == 160


def test_a_shared_prefix_is_offloaded_once() -> None:
    prefix = [("system", 160)]
    simulation = build(
        [
            program((32, 1, 30.0), (16, 1), program_id=f"p{i}", prefix=prefix, arrival_s=8.0 * i)
            for i in range(3)
        ]
    )
    drive(simulation, placing(DRAM), audit)
    assert simulation.residency.counters.offloaded_blocks[1] == 10 + 3 * 2


def test_a_drop_frees_every_copy() -> None:
    def place(decision: PlacementDecision) -> Place:
        return Place(PlacementKind.DROP) if decision.elapsed_s else Place(
            PlacementKind.OFFLOAD, tier="dram", ask_again_s=10.0
        )  # fmt: skip

    simulation = build(two_turns())
    stop_at(simulation, 15.0, placing(place))
    dram = simulation.residency.topology.pool(1, 0)
    assert dram is not None
    assert dram.free == dram.capacity
    assert simulation.engines[0].pool.free == simulation.engines[0].pool.capacity
    assert simulation.residency.counters.drops == 1


def test_a_drop_while_the_copy_is_on_its_way_leaves_nothing_behind() -> None:
    def place(decision: PlacementDecision) -> Place:
        return Place(PlacementKind.DROP) if decision.elapsed_s else Place(
            PlacementKind.OFFLOAD, tier="dram", ask_again_s=0.5
        )  # fmt: skip

    simulation = build(two_turns())
    stop_at(simulation, 10.0, placing(place))
    dram = simulation.residency.topology.pool(1, 0)
    assert dram is not None
    assert dram.free == dram.capacity
    assert simulation.engines[0].pool.free == simulation.engines[0].pool.capacity


def outrun_copy() -> Simulation:
    """a's turn 0 ends at 6.6 and its offload at 8.6; turn 1 runs from 6.7 to 8.22 and is kept."""

    def place(decision: PlacementDecision) -> Place:
        state = decision.program
        return DRAM if state.program_id == "a" and state.turns_done == 1 else KEEP

    link = {**SLOW_LINK, "bandwidth_gbps": BLOCK_BYTES * 5 / 1e9}
    simulation = build(
        [
            program((160, 1, 90.0), (16, 1), program_id="old"),
            program((160, 1, 0.1), (51, 1, 90.0), (16, 1), program_id="a", arrival_s=4.0),
            program((200, 1), program_id="b", arrival_s=60.0),
        ],
        kv_blocks=30,
        node=node(host_link=link),
    )
    stop_at(simulation, 62.0, placing(place))
    return simulation


def test_a_program_that_returns_during_its_offload_is_served_from_hbm() -> None:
    assert records(outrun_copy())["a", 1].first_token_s == pytest.approx(6.7 + 1 + 0.52)


def test_an_offload_that_was_outrun_leaves_the_order_alone() -> None:
    # old (10 blocks, used at 2.6) is colder than a (13, used at 8.22); b needs 13, 7 are free.
    pool = outrun_copy().engines[0].pool
    assert [pool.blocks_of(index) for index in (0, 1)] == [4, 13]


# --- reload ---------------------------------------------------------------------------------------


def test_a_reload_takes_its_time_and_counts_as_a_hit_of_its_tier() -> None:
    simulation = evicted_between_turns()
    drive(simulation, placing(DRAM), audit)
    # b needed 12 of 13 blocks: of a's 10 the last 9 went. a returns at 32.6 with one block in HBM,
    # loads 9 in .9 s, and prefills 177 - 160 = 17 tokens: 1.17.
    record = records(simulation)["a", 1]
    assert record.ready_s == pytest.approx(32.6)
    assert record.first_token_s == pytest.approx(32.6 + 0.9 + 1.17)
    assert simulation.metrics.phase_s[Phase.LOAD] == pytest.approx(0.9)
    assert simulation.metrics.hit_tokens == [16, 144]
    assert simulation.report()["recomputed_tokens"] == 0


def test_recompute_never_loads() -> None:
    simulation = evicted_between_turns()
    drive(simulation, placing(DRAM, Restore.RECOMPUTE), audit)
    record = records(simulation)["a", 1]
    assert record.first_token_s == pytest.approx(32.6 + 1 + 1.61)
    assert simulation.report()["recomputed_tokens"] == 144


@pytest.mark.parametrize(("blocks_per_s", "loads"), [(10.0, True), (5.0, False)])
def test_the_cheapest_way_back_is_the_one_that_gives_the_first_token_sooner(
    blocks_per_s: float, loads: bool
) -> None:
    # Recomputing nine blocks costs 1.44 s more prefill; loading them .9 s, or 1.8 s at half speed.
    link = {**SLOW_LINK, "bandwidth_gbps": BLOCK_BYTES * blocks_per_s / 1e9}
    simulation = evicted_between_turns(node=node(host_link=link))
    drive(simulation, placing(DRAM, Restore.CHEAPEST), audit)
    assert (simulation.metrics.hit_tokens[1] > 0) == loads


def test_a_reload_reserves_hbm_first_so_that_nobody_else_gets_it() -> None:
    # While a loads (32.6 .. 33.5), c (3 blocks) arrives: 13 - 12 reserved = 1 is free, so c waits
    # for a's end at 34.67 though the link, not the engine, is busy.
    simulation = build(
        [
            program((160, 1, 30.0), (16, 1), program_id="a"),
            program((186, 3), program_id="b", arrival_s=10.0),
            program((40, 1), program_id="c", arrival_s=32.8),
        ],
        kv_blocks=13,
    )
    drive(simulation, placing(DRAM), audit)
    assert records(simulation)["c", 0].first_token_s == pytest.approx(34.67 + 1.4)


def test_a_reload_overlaps_with_the_compute_of_others() -> None:
    simulation = build(
        [
            program((160, 1, 30.0), (16, 1), program_id="a"),
            program((186, 3), program_id="b", arrival_s=10.0),
            program((16, 8), program_id="c", arrival_s=30.0),
        ],
        kv_blocks=16,
    )
    drive(simulation, placing(DRAM), audit)
    # c decodes through: 1.16 + 7 steps, one of them a's prefill of 17 tokens (1.17).
    assert records(simulation)["c", 0].end_s == pytest.approx(30.0 + 1.16 + 6 + 1.17)


def test_reloads_share_their_link() -> None:
    """Two programs return together: the second's blocks come after the first's."""
    simulation = build(
        [
            program((160, 1, 50.0), (16, 1), program_id="a"),
            program((160, 1, 41.6), (16, 1), program_id="b", arrival_s=8.4),
            program((600, 1), program_id="c", arrival_s=20.0),
        ],
        kv_blocks=40,
    )
    drive(simulation, placing(DRAM), audit)
    first, second = records(simulation)["a", 1], records(simulation)["b", 1]
    assert first.ready_s == pytest.approx(second.ready_s)
    # c needs 38 of the 40 blocks: the 20 free ones, all of b's (the last to be offloaded is the
    # coldest) and 8 of a's. a loads 8 in .8 s, and b its 10 behind them, 1.8 s after its return.
    assert simulation.metrics.phase_s[Phase.LOAD] == pytest.approx(0.8 + 1.8)


def test_a_loaded_turn_goes_before_one_that_waits_for_blocks() -> None:
    """It holds its blocks already: behind a turn that waits for them, both would wait forever."""

    def answer(decision: Decision) -> Answer:
        if isinstance(decision, PlacementDecision):
            return DRAM
        urgent = decision.program.program_id == "urgent"
        return Route(0, priority=0.0 if urgent else 1.0, restore=Restore.LOAD)

    simulation = build(
        [
            program((160, 1, 30.0), (16, 1), program_id="a"),
            program((186, 3), program_id="b", arrival_s=10.0),
            program((180, 1), program_id="urgent", arrival_s=32.8),
        ],
        kv_blocks=13,
    )
    drive(simulation, answer, audit)
    times = records(simulation)
    assert times["a", 1].first_token_s == pytest.approx(32.6 + 0.9 + 1.17)
    assert times["urgent", 0].ready_s < times["a", 1].first_token_s
    assert times["urgent", 0].first_token_s > times["a", 1].first_token_s
