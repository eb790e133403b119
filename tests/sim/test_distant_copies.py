"""KV from other nodes' tiers and from other instances' HBM (see ``residency_helpers``)."""

from __future__ import annotations

from typing import Any

import pytest
from residency_helpers import (
    BLOCK_BYTES,
    DRAM,
    LATENCY,
    SLOW_LINK,
    build,
    node,
    records,
    stop_at,
)
from sim_helpers import audit, drive, on_instances, program, scenario, simulate

from agentserve_gym.sim import (
    KEEP,
    Decision,
    Place,
    PlacementKind,
    Restore,
    RouteDecision,
    Simulation,
    offload,
)
from agentserve_gym.sim.kernel.copies import MOST_USERS, NEAR, UNDER_WAY
from agentserve_gym.sim.kernel.tiers import HBM

FAST_NETWORK = {"bandwidth_gbps": BLOCK_BYTES * 100 / 1e9, "latency_us": 0.0}
DROP = Place(PlacementKind.DROP)


def nodes(*names: str, dram_blocks: float | None = 100, **instance: Any) -> list[dict[str, Any]]:
    spec = {"accelerator": "rtx-4090", "count": 1, "kv_blocks": 13, **instance}
    return [{"name": name, "instances": [spec], **node(dram_blocks)} for name in names]


def left_behind(
    network: dict[str, Any] | None = FAST_NETWORK,
    restore: Restore = Restore.LOAD,
    **cluster: Any,
) -> Simulation:
    """a runs on x, is offloaded there and loses all but a block of HBM to b; then it runs on y."""
    parts = {"nodes": nodes("x", "y"), "network": network, **cluster}
    simulation = build(
        [
            program((160, 1, 30.0), (16, 1), program_id="a"),
            program((186, 3), program_id="b", arrival_s=10.0),
        ],
        cluster=parts,
    )
    tier = simulation.cluster.tiers[0]

    def where(decision: RouteDecision) -> int:
        return int(decision.turn.number == 1)

    drive(simulation, on_instances(where, lambda _: offload(tier), restore), audit)
    return simulation


def test_a_context_is_fetched_from_the_dram_of_another_node() -> None:
    simulation = left_behind()
    # Ten blocks over the host link of y, at ten a second.
    assert records(simulation)["a", 1].first_token_s == pytest.approx(32.6 + 1.0 + 1.17)
    assert simulation.metrics.hit_tokens == [0, 160]
    report = simulation.report()
    assert report["residency"]["loads"] == {"hbm": 0, "dram": 1}
    assert report["residency"]["remote_loads"] == {"hbm": 0, "dram": 1}
    assert report["residency"]["remote_loaded_bytes"] == 10 * BLOCK_BYTES
    moved = {name for name, size in report["moved_bytes"].items() if size == 10 * BLOCK_BYTES}
    fetched = {"x dram read", "x network out", "y network in", "instance 1 h2d"}
    assert moved == {"instance 0 d2h", "x dram write"} | fetched


@pytest.mark.parametrize(("blocks_per_s", "loads"), [(10.0, True), (5.0, False)])
def test_the_cheapest_way_counts_the_network(blocks_per_s: float, loads: bool) -> None:
    # Computing ten blocks costs 1.6 s more prefill, the network 1 or 2 s.
    network = {"bandwidth_gbps": BLOCK_BYTES * blocks_per_s / 1e9, "latency_us": 0.0}
    simulation = left_behind(network, Restore.CHEAPEST)
    assert (simulation.metrics.hit_tokens[1] > 0) == loads
    waited_s = 1.0 + 1.17 if loads else 1.0 + 1.77
    assert records(simulation)["a", 1].first_token_s == pytest.approx(32.6 + waited_s)


def test_nothing_is_fetched_without_a_network_or_from_kv_of_another_kind() -> None:
    assert left_behind(None).metrics.hit_tokens[1] == 0
    other = [*nodes("x"), *nodes("y", kv_dtype="fp8")]
    assert left_behind(nodes=other).metrics.hit_tokens[1] == 0


def test_a_node_without_the_tier_fetches_from_one_that_has_it() -> None:
    simulation = left_behind(nodes=[*nodes("x"), *nodes("y", dram_blocks=None)])
    assert simulation.metrics.hit_tokens[1] == 160


def test_a_pool_of_the_whole_cluster_needs_no_network() -> None:
    tier = {
        "name": "store",
        "shared": True,
        "staged": False,
        "capacity_gib": 1.0,
        "read_gbps": 100.0,
        "write_gbps": 100.0,
        "pool_gbps": BLOCK_BYTES * 5 / 1e9,
        "latency_us": 0.0,
    }
    parts = {"nodes": nodes("x", "y", dram_blocks=None), "tiers": [tier]}
    simulation = left_behind(None, **parts)
    # Its cap is half of the host link's rate.
    assert records(simulation)["a", 1].first_token_s == pytest.approx(32.6 + 2.0 + 1.17)
    assert simulation.metrics.hit_tokens == [0, 160]
    assert simulation.report()["residency"]["remote_loads"]["store"] == 0


# --- shared prefixes ------------------------------------------------------------------------------

PREFIX = [("tools", 160)]


def sharers(count: int) -> list[dict[str, Any]]:
    """Programs with one shared prefix, one after the other."""
    return [
        program((16, 1), prefix=PREFIX, program_id=f"p{i}", arrival_s=10.0 * i)
        for i in range(count)
    ]


def sharing(**parts: Any) -> Simulation:
    """Two programs, each on an instance of its own."""
    simulation = build(sharers(2), **parts)
    own = on_instances(lambda d: d.program.index, lambda _: KEEP, Restore.LOAD)
    drive(simulation, own, audit)
    return simulation


def test_a_shared_prefix_comes_from_whoever_ran_it_last() -> None:
    simulation = sharing(instances=2, cluster={"network": FAST_NETWORK})
    assert records(simulation)["p1", 0].first_token_s == pytest.approx(10.0 + 1.0 + 1.16)
    assert simulation.metrics.migrated_tokens == 160
    assert simulation.report()["residency"]["remote_loads"]["hbm"] == 0
    distant = sharing(cluster={"nodes": nodes("x", "y"), "network": FAST_NETWORK})
    assert distant.metrics.migrated_tokens == 160
    assert distant.report()["residency"]["remote_loads"]["hbm"] == 1


def test_a_shared_prefix_is_fetched_from_the_tier_of_another_node() -> None:
    """p runs on x, is offloaded and loses its HBM; q shares its prefix and runs on y."""
    simulation = build(
        [
            program((16, 1, 90.0), (1, 1), prefix=PREFIX, program_id="p"),
            program((186, 3), program_id="b", arrival_s=10.0),
            program((16, 1), prefix=PREFIX, program_id="q", arrival_s=30.0),
        ],
        cluster={"nodes": nodes("x", "y"), "network": FAST_NETWORK},
    )
    policy = on_instances(lambda d: int(d.program.program_id == "q"), lambda _: DRAM, Restore.LOAD)
    stop_at(simulation, 40.0, policy)
    assert simulation.metrics.hit_tokens[1] == 160
    assert simulation.report()["residency"]["remote_loads"]["dram"] == 1


def test_the_last_few_who_ran_a_prefix_are_asked_for_it() -> None:
    sources: list[list[int]] = []

    def where(decision: RouteDecision) -> int:
        last = len(decision.instances) - 1
        copies = decision.cluster.restorables(decision.turn, last)
        sources.append([copy.source for copy in copies])
        return decision.program.index

    count = MOST_USERS + 3
    simulation = build(sharers(count), instances=count, cluster={"network": FAST_NETWORK})
    drive(simulation, on_instances(where, restore=Restore.RECOMPUTE), audit)
    assert sources[:3] == [[], [0], [1, 0]]
    assert sources[-1] == [5, 4, 3, 2]


# --- what policies see ----------------------------------------------------------------------------


def test_views_show_distant_copies_with_their_estimates() -> None:
    parts = {"nodes": nodes("x", "y"), "network": FAST_NETWORK}
    simulation = build(
        [
            program((160, 1, 30.0), (16, 1), program_id="a"),
            program((186, 3), program_id="b", arrival_s=10.0),
        ],
        cluster=parts,
    )
    decide = on_instances(lambda _: 0, lambda _: DRAM)
    decision = simulation.advance()
    while not (isinstance(decision, RouteDecision) and decision.turn.number == 1):
        assert decision is not None
        decision = simulation.advance(decide(decision))
    near, here = (decision.cluster.restorables(decision.turn, at) for at in (1, 0))
    assert [(copy.tier, copy.source, copy.blocks) for copy in here] == [(1, NEAR, 10)]
    assert [(copy.tier, copy.source, copy.blocks) for copy in near] == [(HBM, 0, 1), (1, 0, 10)]
    assert near[1].end_s == pytest.approx(32.6 + 1.0)
    assert decision.cluster.load_s(1, "dram", 160, 0) == pytest.approx(1.0)
    assert decision.cluster.load_s(1, "cxl", 160, 0) == float("inf")


def test_views_show_a_prefetch_under_way() -> None:
    seen: list[tuple[int, int, float]] = []

    def decide(decision: Decision) -> Any:
        if isinstance(decision, RouteDecision):
            copies = decision.cluster.restorables(decision.turn, 0)
            seen.extend((copy.source, copy.blocks, copy.end_s) for copy in copies)
            return on_instances(lambda _: 0, lambda _: KEEP)(decision)
        if not decision.elapsed_s:
            return offload("dram", ask_again_s=29.8)
        return Place(PlacementKind.PREFETCH)

    config = scenario(
        [
            program((160, 1, 30.0), (16, 1), program_id="a"),
            program((394, 3), program_id="b", arrival_s=10.0),
        ],
        kv_blocks=26,
        node=node(host_link=SLOW_LINK),
        engine={"async_scheduling": False},
    )
    drive(simulate(config, LATENCY), decide, audit)
    assert seen[0] == (UNDER_WAY, 10, pytest.approx(33.3))
    assert seen[1][:2] == (NEAR, 10)
