"""What policies may ask of the cluster."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from sim_helpers import LinearLatency, drive, home_or_first, program, scenario, simulate

from agentserve_gym.sim import (
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

BLOCK_BYTES = 16 * 131_072
BLOCK_GIB = BLOCK_BYTES / 1024**3
LINK = {"bandwidth_gbps": BLOCK_BYTES * 10 / 1e9, "latency_us": 0.0, "duplex_gbps": None}
LATENCY = LinearLatency(1.0, per_prefill_token_s=0.01)

TIERS = ("hbm", "dram", "cxl")


def build(**parts: Any) -> Simulation:
    """Two nodes of one instance; ten blocks move in 1 s; CXL on the first node only."""
    spec = {"accelerator": "rtx-4090", "count": 1, "kv_blocks": 100}
    dram = {"capacity_gib": 40 * BLOCK_GIB, "bandwidth_gbps": 1e6, "latency_us": 0.0}
    cluster = {
        "nodes": [
            {"name": "x", "instances": [spec], "host_link": LINK, "dram": dram},
            {"name": "y", "instances": [spec], "host_link": LINK},
        ],
        "cxl": {
            "nodes": ["x"], "capacity_gib": 80 * BLOCK_GIB, "bandwidth_gbps": 1e6,
            "latency_us": 0.0,
        },
        **parts,
    }  # fmt: skip
    programs = [program((160, 1, 5.0), (16, 1), program_id="a")]
    return simulate(
        scenario(programs, cluster=cluster, engine={"async_scheduling": False}), LATENCY
    )


def at_placement(simulation: Simulation) -> PlacementDecision:
    simulation.advance()
    decision = simulation.advance(Route(0))
    assert isinstance(decision, PlacementDecision)
    return decision


def test_tiers_and_their_sizes() -> None:
    cluster = at_placement(build()).cluster
    assert cluster.tiers == ("dram", "cxl")
    assert [cluster.reached_tiers(at) for at in (0, 1)] == [["dram", "cxl"], []]
    assert cluster.tier_capacity_tokens("dram", 0) == 640
    assert cluster.tier_capacity_tokens("cxl", 0) == 1280
    assert cluster.tier_capacity_tokens("dram", 1) == 0
    assert cluster.tier_occupancy("dram", 0) == 0.0
    assert cluster.tier_occupancy("dram", 1) == 0.0


def test_moves_are_priced_with_the_links_queues() -> None:
    simulation = build()
    decision = at_placement(simulation)
    cluster = decision.cluster
    assert cluster.offload_s(decision.program, "dram", 160) == pytest.approx(1.0)
    assert cluster.load_s(0, "dram", 80) == pytest.approx(0.5)
    assert cluster.load_s(1, "hbm", 80, source=0) == inf
    simulation.router.apply(decision, offload("dram"))
    assert cluster.offload_s(decision.program, "cxl", 160) == pytest.approx(2.0)
    # The other direction is free.
    assert cluster.load_s(0, "dram", 80) == pytest.approx(0.5)
    joined = at_placement(build(network={"bandwidth_gbps": 1e6, "latency_us": 0.0})).cluster
    assert joined.load_s(1, "hbm", 80, source=0) == pytest.approx(0.5)
    # From HBM nothing comes but from that of an instance that is named.
    assert joined.load_s(1, "hbm", 80) == inf


def test_prefill_is_priced_in_chunks() -> None:
    cluster = at_placement(build()).cluster
    assert cluster.prefill_s(0, 100, 0) == pytest.approx(2.0)
    # 5,000 tokens: 2,048 + 2,048 + 904.
    assert cluster.prefill_s(0, 5000, 0) == pytest.approx(3.0 + 50.0)
    assert cluster.prefill_s(0, 0, 100) == 0.0


def test_a_programs_residency_is_a_length_per_tier() -> None:
    simulation = build()
    decision = at_placement(simulation)
    state, cluster = decision.program, decision.cluster
    assert [cluster.chain_tokens(state, 0, tier) for tier in TIERS] == [160, 0, 0]
    assert cluster.chain_tokens(state, 1, "hbm") == 0
    following = simulation.advance(offload("dram"))
    assert isinstance(following, RouteDecision)
    turn = following.turn
    assert [cluster.chain_tokens(state, 0, tier) for tier in TIERS] == [
        160,
        160,
        0,
    ]
    assert cluster.tier_tokens(turn, 0, "dram") == 160
    assert cluster.tier_tokens(turn, 1, "dram") == 0
    assert cluster.tier_occupancy("dram", 0) == pytest.approx(10 / 40)
    assert cluster.instances[0].cached_tokens(turn) == 160
    # Nothing to load where HBM holds as much, nor across nodes without a network.
    assert cluster.restorables(turn, 0) == []
    assert cluster.restorables(turn, 1) == []
    # 177 tokens, 160 known.
    assert cluster.first_token_s(turn, 0, None) == pytest.approx(1.17)
    assert cluster.first_token_s(turn, 1, None) == pytest.approx(2.77)


def test_a_copy_elsewhere_is_offered_with_its_end() -> None:
    simulation = build(network={"bandwidth_gbps": 1e6, "latency_us": 0.0})
    at_placement(simulation)
    decision = simulation.advance(Place(PlacementKind.KEEP))
    assert isinstance(decision, RouteDecision)
    (copy,) = decision.cluster.restorables(decision.turn, 1)
    assert (copy.tier, copy.source, copy.blocks) == (HBM, 0, 10)
    assert copy.end_s == pytest.approx(simulation.now_s + 1.0)
    assert decision.cluster.first_token_s(decision.turn, 1, copy) == pytest.approx(1.0 + 1.17)
    simulation.advance(Route(1, restore=Restore.LOAD))
    assert simulation.metrics.migrated_tokens == 160


def test_pins_are_seen_until_they_end() -> None:
    simulation = build()
    decision = at_placement(simulation)
    assert not decision.cluster.is_pinned(decision.program)
    simulation.router.apply(decision, Place(PlacementKind.PIN, ttl_s=2.0))
    assert decision.cluster.is_pinned(decision.program)
    simulation.clock.step()
    assert simulation.now_s == pytest.approx(4.6)
    assert not decision.cluster.is_pinned(decision.program)


def test_instances_export_hit_counters() -> None:
    simulation = drive(build(), home_or_first)
    view = simulation.cluster.instances[0]
    assert (view.prompt_tokens, view.hit_tokens) == (160 + 177, 160)
