"""Where KV waits, what moves it, and what gives way: every rule with its arithmetic.

KV of Llama-3.1-8B: 131,072 bytes a token, 2 MiB a block of 16. The host link moves one block in
exactly .1 s unless a test says otherwise, and a step takes 1 s + .01 s per prefilled token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sim_helpers import LinearLatency, audit, drive, on_instances, program, scenario, simulate

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
    RouteDecision,
    Simulation,
    Tier,
)
from agentserve_gym.sim.metrics import TurnRecord

BLOCK_BYTES = 16 * 131_072
BLOCK_GIB = BLOCK_BYTES / 1024**3
SLOW_LINK = {"bandwidth_gbps": BLOCK_BYTES * 10 / 1e9, "latency_us": 0.0, "duplex_gbps": None}
LATENCY = LinearLatency(1.0, per_prefill_token_s=0.01)
DRAM = Place(PlacementKind.DRAM)
CXL = Place(PlacementKind.CXL)


def node(dram_blocks: float | None = 100, **more: Any) -> dict[str, Any]:
    result: dict[str, Any] = {"host_link": SLOW_LINK, **more}
    if dram_blocks is not None:
        result["dram"] = {
            "capacity_gib": dram_blocks * BLOCK_GIB,
            "bandwidth_gbps": 1000.0,
            "latency_us": 0.0,
        }
    return result


def build(programs: list[dict[str, Any]], **parts: Any) -> Simulation:
    engine = {"async_scheduling": False, **parts.pop("engine", {})}
    parts.setdefault("node", node())
    return simulate(scenario(programs, engine=engine, **parts), LATENCY)


def placing(
    place: Callable[[PlacementDecision], Place] | Place, restore: Restore = Restore.LOAD
) -> Callable[[Decision], Answer]:
    def answer(decision: Decision) -> Answer:
        if isinstance(decision, RouteDecision):
            return Route(0, restore=restore)
        return place(decision) if callable(place) else place

    return answer


def records(simulation: Simulation) -> dict[tuple[str, int], TurnRecord]:
    assert simulation.metrics.records is not None
    return {(record.program_id, record.turn): record for record in simulation.metrics.records}


def stop_at(simulation: Simulation, time_s: float, decide: Callable[[Decision], Answer]) -> None:
    """Drive until the clock has reached ``time_s``, checking every pool on the way."""

    class Reached(Exception):
        pass

    def check(simulation: Simulation) -> None:
        audit(simulation)
        if simulation.now_s >= time_s:
            raise Reached

    with pytest.raises(Reached):
        drive(simulation, decide, check)


# --- offload --------------------------------------------------------------------------------------


def two_turns(gap_s: float = 20.0, tokens: int = 160) -> list[dict[str, Any]]:
    """Its first turn leaves tokens / 16 full blocks and ends at 1 + tokens / 100."""
    return [program((tokens, 1, gap_s), (16, 1), program_id="a")]


def test_an_offload_keeps_its_hbm_blocks_until_the_copy_is_done() -> None:
    simulation = build(two_turns())
    simulation.advance()
    decision = simulation.advance(Route(0))
    # The turn ends at 2.6; ten blocks take 1 s.
    assert isinstance(decision, PlacementDecision)
    assert simulation.now_s == pytest.approx(2.6)
    pool, dram = simulation.engines[0].pool, simulation.residency.topology.dram[0]
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
    assert counters.offloads[Tier.DRAM] == 2
    assert counters.offloaded_blocks[Tier.DRAM] == 16


def test_a_full_tier_evicts_its_least_recently_used() -> None:
    simulation = build(
        [program((160, 1, 50.0), (16, 1), program_id=f"p{i}", arrival_s=8.0 * i) for i in range(3)],
        node=node(dram_blocks=25),
    )
    stop_at(simulation, 30.0, placing(DRAM))
    dram = simulation.residency.topology.dram[0]
    assert dram is not None
    assert [dram.blocks_of(index) for index in range(3)] == [5, 10, 10]
    assert simulation.residency.counters.refused_offloads == 0


def test_an_offload_that_cannot_fit_is_refused_and_changes_nothing() -> None:
    simulation = build(two_turns(), node=node(dram_blocks=6))
    drive(simulation, placing(DRAM), audit)
    assert simulation.residency.counters.refused_offloads == 1
    assert simulation.residency.counters.offloads[Tier.DRAM] == 0
    assert simulation.metrics.hit_tokens[Tier.HBM] == 160


def test_a_shared_prefix_is_offloaded_once() -> None:
    prefix = [("system", 160)]
    simulation = build(
        [
            program((32, 1, 30.0), (16, 1), program_id=f"p{i}", prefix=prefix, arrival_s=8.0 * i)
            for i in range(3)
        ]
    )
    drive(simulation, placing(DRAM), audit)
    assert simulation.residency.counters.offloaded_blocks[Tier.DRAM] == 10 + 3 * 2


def test_a_drop_frees_every_copy() -> None:
    def place(decision: PlacementDecision) -> Place:
        return Place(PlacementKind.DROP) if decision.elapsed_s else Place(
            PlacementKind.DRAM, ask_again_s=10.0
        )  # fmt: skip

    simulation = build(two_turns())
    stop_at(simulation, 15.0, placing(place))
    dram = simulation.residency.topology.dram[0]
    assert dram is not None
    assert dram.free == dram.capacity
    assert simulation.engines[0].pool.free == simulation.engines[0].pool.capacity
    assert simulation.residency.counters.drops == 1


def test_a_drop_while_the_copy_is_on_its_way_leaves_nothing_behind() -> None:
    def place(decision: PlacementDecision) -> Place:
        return Place(PlacementKind.DROP) if decision.elapsed_s else Place(
            PlacementKind.DRAM, ask_again_s=0.5
        )  # fmt: skip

    simulation = build(two_turns())
    stop_at(simulation, 10.0, placing(place))
    dram = simulation.residency.topology.dram[0]
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


def evicted_between_turns(**parts: Any) -> Simulation:
    """a: 10 blocks, offloaded; b takes the whole pool while a is away."""
    return build(
        [
            program((160, 1, 30.0), (16, 1), program_id="a"),
            program((186, 3), program_id="b", arrival_s=10.0),
        ],
        kv_blocks=13,
        **parts,
    )


def test_a_reload_takes_its_time_and_counts_as_a_hit_of_its_tier() -> None:
    simulation = evicted_between_turns()
    drive(simulation, placing(DRAM), audit)
    # b needed 12 of 13 blocks: of a's 10 the last 9 went. a returns at 32.6 with one block in HBM,
    # loads 9 in .9 s, and prefills 177 - 160 = 17 tokens: 1.17.
    record = records(simulation)["a", 1]
    assert record.ready_s == pytest.approx(32.6)
    assert record.first_token_s == pytest.approx(32.6 + 0.9 + 1.17)
    assert simulation.metrics.phase_s[Phase.LOAD] == pytest.approx(0.9)
    assert simulation.metrics.hit_tokens == {Tier.HBM: 16, Tier.DRAM: 144, Tier.CXL: 0}
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
    assert (simulation.metrics.hit_tokens[Tier.DRAM] > 0) == loads


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


# --- pins -----------------------------------------------------------------------------------------


def pin(ttl_s: float, *, until_admitted: bool = False) -> Place:
    return Place(PlacementKind.PIN, ttl_s=ttl_s, until_admitted=until_admitted)


def test_where_pins_block_everything_even_hard_ones_give_way() -> None:
    # b needs 16 of 19 blocks at 10, of which a pins 10 until 27.6; nothing else runs.
    simulation = build(
        [
            program((160, 1, 30.0), (16, 1), program_id="a"),
            program((250, 1), program_id="b", arrival_s=10.0),
        ],
        kv_blocks=19,
        engine={"reclaim_unexpired_pins": False},
    )
    drive(simulation, placing(pin(25.0)), audit)
    assert simulation.residency.counters.pins == 1
    assert records(simulation)["b", 0].first_token_s == pytest.approx(10.0 + 1 + 2.5)


def hard_pin(ttl_s: float, *, reclaim: bool) -> Simulation:
    """20 blocks: a pins 10 from 2.6 on, c decodes (2 blocks), b needs 9 at 10."""
    simulation = build(
        [
            program((160, 1, 30.0), (16, 1), program_id="a"),
            program((16, 60), program_id="c", arrival_s=3.0),
            program((144, 1), program_id="b", arrival_s=10.0),
        ],
        kv_blocks=20,
        engine={"reclaim_unexpired_pins": reclaim},
    )

    def place(decision: PlacementDecision) -> Place:
        return pin(ttl_s) if decision.program.program_id == "a" else KEEP

    drive(simulation, placing(place), audit)
    return simulation


def test_unexpired_pins_hold_while_others_run() -> None:
    simulation = hard_pin(15.0, reclaim=False)
    # The pin ends at 17.6; c's steps end at 4.16 + n: b joins at 18.16.
    assert records(simulation)["b", 0].first_token_s == pytest.approx(18.16 + 1 + 1.44)
    assert simulation.residency.counters.pins_expired == 1
    assert simulation.residency.counters.pins_used == 0


def test_unexpired_pins_give_way_where_the_scenario_says_so() -> None:
    simulation = hard_pin(15.0, reclaim=True)
    assert records(simulation)["b", 0].first_token_s == pytest.approx(10.16 + 1 + 1.44)


def test_a_pin_ends_when_its_program_returns() -> None:
    simulation = build(two_turns(5.0))
    drive(simulation, placing(pin(100.0)), audit)
    counters = simulation.residency.counters
    assert (counters.pins, counters.pins_used, counters.pins_expired) == (1, 1, 0)
    assert not simulation.engines[0].pool.pins
    assert simulation.metrics.hit_tokens[Tier.HBM] == 160


@pytest.mark.parametrize("until_admitted", [False, True])
def test_a_pin_may_last_until_admission(until_admitted: bool) -> None:
    """One slot, which b has from 3 to 13.6; a is back at 7.6."""
    simulation = build(
        [
            program((160, 1, 5.0), (16, 1), program_id="a"),
            program((60, 10), program_id="b", arrival_s=3.0),
        ],
        engine={"max_num_seqs": 1},
    )
    decide = placing(pin(100.0, until_admitted=until_admitted))
    decision = simulation.advance()
    while decision is not None and not (simulation.now_s > 7.0):
        decision = simulation.advance(decide(decision))
    assert isinstance(decision, RouteDecision)
    pool = simulation.engines[0].pool
    assert set(pool.pins) == {0}
    simulation.router.apply(decision, decide(decision))
    assert set(pool.pins) == ({0} if until_admitted else set())
    while simulation.orchestrator.done < 2:
        simulation.clock.step()
    assert not pool.pins
    assert records(simulation)["a", 1].first_token_s == pytest.approx(13.6 + 1.17)


def pinned_twice() -> tuple[Simulation, Callable[[Decision], Answer]]:
    """a pins on instance 0 at 2.6 for 20 s, moves, and pins on instance 1 at about 5 for 20 s."""
    simulation = build(
        [program((160, 1, 1.0), (16, 1, 60.0), (16, 1), program_id="a")],
        instances=2,
        engine={"reclaim_unexpired_pins": False},
    )
    return simulation, on_instances(
        lambda decision: min(decision.turn.number, 1), lambda _: pin(20.0)
    )


def test_an_old_pins_deadline_leaves_a_newer_pin_alone() -> None:
    simulation, decide = pinned_twice()
    # The first deadline is at 22.6; the second turn ends after 3.6 + 1, so its pin after 24.6.
    stop_at(simulation, 22.6, decide)
    pool = simulation.engines[1].pool
    assert pool.pins
    assert pool.pins[0].deadline_s > 24.0


# --- migration ------------------------------------------------------------------------------------


def moved(restore: Restore, **parts: Any) -> Simulation:
    simulation = build(two_turns(5.0), instances=2, **parts)

    def answer(decision: Decision) -> Answer:
        if isinstance(decision, RouteDecision):
            return Route(decision.turn.number, restore=restore)
        return KEEP

    return drive(simulation, answer, audit)


def test_kv_moves_between_instances_of_a_node_through_the_host() -> None:
    simulation = moved(Restore.LOAD)
    # Back at 7.6; ten blocks in 1 s; 17 tokens to prefill.
    assert records(simulation)["a", 1].first_token_s == pytest.approx(7.6 + 1.0 + 1.17)
    assert simulation.metrics.migrated_tokens == 160
    assert simulation.report()["moved_bytes"]["instance 0 d2h"] == 10 * BLOCK_BYTES
    # The source keeps its copy: it is a copy, not a move.
    assert simulation.engines[0].pool.blocks_of(0) == 10


def test_kv_moves_over_the_peer_link_where_there_is_one() -> None:
    peer = {"bandwidth_gbps": BLOCK_BYTES * 100 / 1e9, "latency_us": 0.0}
    simulation = moved(Restore.LOAD, node=node(peer_link=peer))
    assert records(simulation)["a", 1].first_token_s == pytest.approx(7.6 + 0.1 + 1.17)


def test_without_a_network_kv_does_not_leave_its_node() -> None:
    spec = {"accelerator": "rtx-4090", "count": 1, "kv_blocks": 100}
    nodes = [{"name": name, "instances": [spec], "host_link": SLOW_LINK} for name in ("x", "y")]
    for network, migrated in ((None, 0), ({"bandwidth_gbps": 1.0}, 160)):
        cluster = {"nodes": nodes, "network": network}
        simulation = moved(Restore.LOAD, cluster=cluster)
        assert simulation.metrics.migrated_tokens == migrated


def test_dram_is_reached_from_every_instance_of_the_node() -> None:
    simulation = build(two_turns(5.0), instances=2)
    drive(simulation, on_instances(lambda decision: decision.turn.number, lambda _: DRAM), audit)
    # Both ways take 1 s; the first listed, DRAM, is taken on a tie.
    assert simulation.metrics.hit_tokens[Tier.DRAM] == 160


def test_a_cxl_pool_is_shared_by_nodes() -> None:
    spec = {"accelerator": "rtx-4090", "count": 1, "kv_blocks": 100}
    nodes = [{"name": name, "instances": [spec], "host_link": SLOW_LINK} for name in ("x", "y")]
    cxl = {"nodes": ["x", "y"], "capacity_gib": 1.0, "bandwidth_gbps": 1000.0, "latency_us": 0.0}
    simulation = build(two_turns(5.0), cluster={"nodes": nodes, "cxl": cxl})
    drive(
        simulation,
        on_instances(lambda decision: decision.turn.number, lambda _: CXL),
        audit,
    )
    assert simulation.metrics.hit_tokens[Tier.CXL] == 160
    assert records(simulation)["a", 1].first_token_s == pytest.approx(7.6 + 1.0 + 1.17)


# --- prefetch -------------------------------------------------------------------------------------


def test_a_prefetch_brings_kv_back_before_the_program_returns() -> None:
    def place(decision: PlacementDecision) -> Place:
        if not decision.elapsed_s:
            return Place(PlacementKind.DRAM, ask_again_s=25.0)
        return Place(PlacementKind.PREFETCH)

    simulation = evicted_between_turns()
    drive(simulation, placing(place), audit)
    # Prefetched at 27.6 .. 28.5, back at 32.6: everything is in HBM.
    assert simulation.residency.counters.prefetched_blocks == 9
    assert records(simulation)["a", 1].first_token_s == pytest.approx(32.6 + 1.17)
    assert simulation.metrics.hit_tokens[Tier.HBM] == 160


def test_a_prefetch_without_room_is_refused() -> None:
    def place(decision: PlacementDecision) -> Place:
        if not decision.elapsed_s:
            return Place(PlacementKind.DRAM, ask_again_s=10.0)
        return Place(PlacementKind.PREFETCH)

    # b (12 of 13 blocks) runs from 10 to past 12.6.
    simulation = build(
        [
            program((160, 1, 30.0), (16, 1), program_id="a"),
            program((186, 5), program_id="b", arrival_s=10.0),
        ],
        kv_blocks=13,
    )
    drive(simulation, placing(place), audit)
    assert simulation.residency.counters.refused_prefetches == 1
    assert simulation.residency.counters.prefetches == 0
