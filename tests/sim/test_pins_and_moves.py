"""Pins, migration and prefetch, every rule with its arithmetic (see ``residency_helpers``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from residency_helpers import (
    BLOCK_BYTES,
    CXL,
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
from sim_helpers import audit, drive, on_instances, program

from agentserve_gym.sim import (
    KEEP,
    Answer,
    Decision,
    Hold,
    Phase,
    Place,
    PlacementDecision,
    PlacementKind,
    Restore,
    Route,
    RouteDecision,
    Simulation,
    offload,
)
from agentserve_gym.sim.kernel.tiers import HBM

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
        engine={"pins": "hard"},
    )
    drive(simulation, placing(pin(25.0)), audit)
    assert simulation.residency.counters.pins == 1
    assert records(simulation)["b", 0].first_token_s == pytest.approx(10.0 + 1 + 2.5)


def pinned_beside_a_turn(ttl_s: float, pins: str) -> Simulation:
    """20 blocks: a pins 10 from 2.6 on, c decodes (2 blocks), b needs 9 at 10."""
    simulation = build(
        [
            program((160, 1, 30.0), (16, 1), program_id="a"),
            program((16, 60), program_id="c", arrival_s=3.0),
            program((144, 1), program_id="b", arrival_s=10.0),
        ],
        kv_blocks=20,
        engine={"pins": pins},
    )

    def place(decision: PlacementDecision) -> Place:
        return pin(ttl_s) if decision.program.program_id == "a" else KEEP

    drive(simulation, placing(place), audit)
    return simulation


def test_unexpired_pins_hold_while_others_run() -> None:
    simulation = pinned_beside_a_turn(15.0, "hard")
    # The pin ends at 17.6; c's steps end at 4.16 + n: b joins at 18.16.
    assert records(simulation)["b", 0].first_token_s == pytest.approx(18.16 + 1 + 1.44)
    assert simulation.residency.counters.pins_expired == 1
    assert simulation.residency.counters.pins_used == 0


def broken_pins(pins: str) -> Simulation:
    """30 blocks, 10 pinned by each of a (until 102.6) and c (until 26.2); b needs 15 at 10."""
    simulation = build(
        [
            program((160, 1, 30.0), (16, 1), program_id="a"),
            program((160, 1, 30.0), (16, 1), program_id="c", arrival_s=3.0),
            program((240, 1), program_id="b", arrival_s=10.0),
        ],
        kv_blocks=30,
        engine={"pins": pins},
    )
    ttl_s = {"a": 100.0, "c": 20.0}
    drive(simulation, placing(lambda decision: pin(ttl_s[decision.program.program_id])), audit)
    assert simulation.report()["residency"]["pins_broken"] == 1
    return simulation


@pytest.mark.parametrize(
    ("pins", "missed_blocks"), [("hard", {"a": 0, "c": 5 + 2}), ("soft", {"a": 5, "c": 0})]
)
def test_hard_pins_break_by_arrival_and_soft_ones_by_deadline(
    pins: str, missed_blocks: dict[str, int]
) -> None:
    """The one whose pin breaks loses five blocks to b, and c two more to a."""
    simulation = broken_pins(pins)
    for name, back_s in (("a", 32.6), ("c", 35.6)):
        first_token_s = back_s + 1 + 0.01 * (17 + 16 * missed_blocks[name])
        assert records(simulation)[name, 1].first_token_s == pytest.approx(first_token_s), name


@pytest.mark.parametrize("budget", [64, 2048])
def test_a_lone_turn_that_outgrows_what_pins_leave_breaks_them_and_goes_on(budget: int) -> None:
    """a pins 10 of 20 blocks; b, alone, needs 8 for its prompt, or 13, and 5 more to decode."""
    for prompt in (128, 208):
        simulation = build(
            [
                program((160, 1, 500.0), (16, 1), program_id="a"),
                program((prompt, 80), program_id="b", arrival_s=10.0),
            ],
            kv_blocks=20,
            engine={"max_num_batched_tokens": budget, "max_num_seqs": 8},
        )
        drive(simulation, placing(pin(400.0)), audit)
        report = simulation.report()
        assert report["residency"]["pins_broken"] == 1
        assert report["preemptions"] == 0
        steps = -(-prompt // budget) + 79
        assert records(simulation)["b", 0].end_s == pytest.approx(10 + steps + 0.01 * prompt)


def test_unexpired_pins_give_way_where_the_scenario_says_so() -> None:
    simulation = pinned_beside_a_turn(15.0, "soft")
    assert records(simulation)["b", 0].first_token_s == pytest.approx(10.16 + 1 + 1.44)


def test_a_pin_ends_when_its_program_returns() -> None:
    simulation = build(two_turns(5.0))
    drive(simulation, placing(pin(100.0)), audit)
    counters = simulation.residency.counters
    assert (counters.pins, counters.pins_used, counters.pins_expired) == (1, 1, 0)
    assert not simulation.engines[0].pool.pins
    assert simulation.metrics.hit_tokens[HBM] == 160


@pytest.mark.parametrize("pins", ["hard", "soft"])
def test_a_pin_ends_where_its_chain_is_reset_below_the_shared_prefix(pins: str) -> None:
    """Of 14 blocks a pins 12, shared ones among them; then it begins anew and needs 11 others."""
    a = program((32, 1, 5.0), (170, 1), prefix=[("system", 160)], program_id="a")
    a["turns"][1]["reset_to_tokens"] = 0
    simulation = build([a], kv_blocks=14, engine={"pins": pins})
    drive(simulation, placing(pin(100.0, until_admitted=True)), audit)
    assert simulation.residency.counters.pins == 1
    ready_s = 1.0 + 1.92 + 5.0
    assert records(simulation)["a", 1].first_token_s == pytest.approx(ready_s + 1.0 + 1.7)


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
        engine={"pins": "hard"},
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


NETWORK = {"bandwidth_gbps": 100.0}


def test_kv_stays_where_neither_a_peer_link_nor_a_network_is() -> None:
    simulation = moved(Restore.LOAD)
    assert simulation.metrics.migrated_tokens == 0
    assert records(simulation)["a", 1].first_token_s > 7.6 + 1.0 + 1.17


def test_over_a_network_kv_moves_between_instances_of_a_node_through_the_host() -> None:
    simulation = moved(Restore.LOAD, cluster={"network": NETWORK})
    # Back at 7.6; ten blocks in 1 s; 17 tokens to prefill.
    assert records(simulation)["a", 1].first_token_s == pytest.approx(7.6 + 1.0 + 1.17)
    assert simulation.metrics.migrated_tokens == 160
    assert simulation.report()["moved_bytes"]["instance 0 d2h"] == 10 * BLOCK_BYTES
    # The source keeps its copy: it is a copy, not a move.
    assert simulation.engines[0].pool.blocks_of(0) == 10


def test_held_turns_are_offered_again_when_what_is_left_behind_may_be_reclaimed() -> None:
    """The source is read from 7.6 to 8.6; no turn ends before 9.77."""
    waits = program((16, 1), program_id="waits", arrival_s=8.0)
    simulation = build(
        [*two_turns(5.0), waits],
        instances=2,
        router={"reoffer_s": 1000.0},
        cluster={"network": NETWORK},
    )
    offered_s: list[float] = []

    def answer(decision: Decision) -> Answer:
        if not isinstance(decision, RouteDecision):
            return KEEP
        if decision.program.program_id == "waits":
            offered_s.append(decision.time_s)
            return Hold() if decision.time_s < 8.5 else Route(0)
        return Route(decision.turn.number, restore=Restore.LOAD)

    drive(simulation, answer, audit)
    assert simulation.metrics.migrated_tokens == 160
    assert offered_s == pytest.approx([8.0, 8.6])


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
    assert simulation.metrics.hit_tokens[1] == 160


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
    assert simulation.metrics.hit_tokens[1] == 160
    assert records(simulation)["a", 1].first_token_s == pytest.approx(7.6 + 1.0 + 1.17)


# --- prefetch -------------------------------------------------------------------------------------


def test_a_prefetch_brings_kv_back_before_the_program_returns() -> None:
    def place(decision: PlacementDecision) -> Place:
        if not decision.elapsed_s:
            return offload("dram", ask_again_s=25.0)
        return Place(PlacementKind.PREFETCH)

    simulation = evicted_between_turns()
    drive(simulation, placing(place), audit)
    # Prefetched at 27.6 .. 28.5, back at 32.6: everything is in HBM.
    assert simulation.residency.counters.prefetched_blocks == 9
    assert records(simulation)["a", 1].first_token_s == pytest.approx(32.6 + 1.17)
    assert simulation.metrics.hit_tokens[HBM] == 160


def prefetching_late(after_s: float, restore: Restore, **parts: Any) -> Simulation:
    """a's prefetch begins so long after its turn ended at 2.6; a is back at 32.6."""

    def place(decision: PlacementDecision) -> Place:
        if not decision.elapsed_s:
            return offload("dram", ask_again_s=after_s)
        return Place(PlacementKind.PREFETCH)

    simulation = evicted_between_turns(**parts)
    drive(simulation, placing(place, restore), audit)
    return simulation


ROOMY = {"kv_blocks": 26, "b_tokens": 394}
"""b leaves one block of a in HBM here too, but there is room for a twice."""


@pytest.mark.parametrize("room", [{}, ROOMY])
@pytest.mark.parametrize("restore", [Restore.CHEAPEST, Restore.LOAD])
def test_a_prefetch_under_way_is_joined(room: dict[str, int], restore: Restore) -> None:
    simulation = prefetching_late(29.8, restore, **room)
    # Nine blocks from 32.4 on; a second load of them would end at 34.2.
    assert records(simulation)["a", 1].first_token_s == pytest.approx(33.3 + 1.17)
    counters = simulation.residency.counters
    assert (counters.prefetches, sum(counters.loads)) == (1, 0)
    assert simulation.report()["moved_bytes"]["instance 0 h2d"] == 9 * BLOCK_BYTES
    if room:
        assert counters.joined_prefetches == 1
        assert simulation.metrics.hit_tokens == [16, 144]
        assert simulation.metrics.phase_s[Phase.LOAD] == pytest.approx(0.7)
    else:
        # Its blocks and the turn's do not fit at once; the turn finds them in HBM when it fits.
        assert simulation.metrics.hit_tokens == [160, 0]


def test_a_turn_computes_what_a_slow_prefetch_would_bring_later() -> None:
    # At two blocks a second they would be there at 36.9; computing them takes 1.44 s.
    slow = {**SLOW_LINK, "bandwidth_gbps": BLOCK_BYTES * 2 / 1e9}
    simulation = prefetching_late(29.8, Restore.CHEAPEST, node=node(host_link=slow), **ROOMY)
    assert records(simulation)["a", 1].first_token_s == pytest.approx(32.6 + 1 + 1.61)
    assert simulation.residency.counters.joined_prefetches == 0


def test_a_prefetch_under_way_is_not_begun_again() -> None:
    def place(decision: PlacementDecision) -> Place:
        if not decision.elapsed_s:
            return offload("dram", ask_again_s=25.0)
        return Place(PlacementKind.PREFETCH, ask_again_s=0.3)

    simulation = evicted_between_turns(**ROOMY)
    drive(simulation, placing(place), audit)
    assert simulation.residency.counters.prefetches == 1
    assert simulation.report()["moved_bytes"]["instance 0 h2d"] == 9 * BLOCK_BYTES


def test_a_prefetch_without_room_is_refused() -> None:
    def place(decision: PlacementDecision) -> Place:
        if not decision.elapsed_s:
            return offload("dram", ask_again_s=10.0)
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
