"""Links: bandwidth, latency, and sharing by all transfers that cross them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from agentserve_gym.hardware import accelerator, link, list_accelerators, model
from agentserve_gym.sim.instances import list_instances
from agentserve_gym.sim.kernel.copies import NEAR
from agentserve_gym.sim.kernel.links import Link, Passage, Path
from agentserve_gym.sim.kernel.memory import Topology
from agentserve_gym.sim.kernel.tiers import HBM
from agentserve_gym.sim.scenario import ClusterSpec
from agentserve_gym.sim.topology import build_topology

GB = 1e9
DRAM, CXL = 1, 2  # by number, where a cluster has both


def test_a_transfer_takes_size_over_bandwidth_plus_latency() -> None:
    path = Path((Link("a", 10 * GB, 0.002),))
    assert path.start(5.0, 1 * GB) == pytest.approx(5.0 + 0.1 + 0.002)


def test_transfers_on_a_link_queue() -> None:
    """n simultaneous transfers end after 1/B, 2/B, ..., n/B: each has 1/n of it on average."""
    link = Link("a", 10 * GB)
    ends = [Path((link,)).start(0.0, 1 * GB) for _ in range(4)]
    assert ends == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert link.backlog_s(0.15) == pytest.approx(0.25)
    assert link.backlog_s(9.0) == 0.0
    assert link.moved_bytes == 4 * GB


def test_an_idle_link_starts_at_once() -> None:
    path = Path((Link("a", 10 * GB),))
    path.start(0.0, 1 * GB)
    assert path.start(3.0, 1 * GB) == pytest.approx(3.1)


def test_a_path_is_as_fast_as_its_slowest_link_and_sums_latencies() -> None:
    fast, slow = Link("fast", 100 * GB, 0.001), Link("slow", 10 * GB, 0.002)
    assert Path((fast, slow)).start(0.0, 1 * GB) == pytest.approx(0.1 + 0.003)
    # The fast link is free again after a hundredth of a second, the slow one after a tenth.
    assert fast.backlog_s(0.0) == pytest.approx(0.01)
    assert slow.backlog_s(0.0) == pytest.approx(0.1)


def test_an_estimate_moves_nothing() -> None:
    link = Link("a", 10 * GB)
    assert Path((link,)).end_s(1.0, 2 * GB) == pytest.approx(1.2)
    assert link.moved_bytes == 0.0
    assert link.free_at_s == 0.0


def cluster(**more: object) -> ClusterSpec:
    spec = {"accelerator": "rtx-4090", "count": 2, "kv_blocks": 10}
    node = {
        "instances": [spec],
        "host_link": {"bandwidth_gbps": 10.0, "latency_us": 0.0, "duplex_gbps": None},
        "dram": {"capacity_gib": 1.0, "bandwidth_gbps": 40.0, "latency_us": 0.0},
    }
    return ClusterSpec.model_validate(
        {
            "model": "llama-3.1-8b",
            "nodes": [{"name": "n0", **node}, {"name": "n1", **node}],
            **more,
        }
    )


def build(spec: ClusterSpec) -> Topology:
    return build_topology(spec, 16, list_instances(spec))


def topology(**more: object) -> Topology:
    return build(cluster(**more))


def test_instances_of_a_node_share_its_dram_but_not_their_host_links() -> None:
    parts = topology()
    first = parts.load_path(DRAM, -1, 0).start(0.0, 1 * GB)
    second = parts.load_path(DRAM, -1, 1).start(0.0, 1 * GB)
    other_node = parts.load_path(DRAM, -1, 2).start(0.0, 1 * GB)
    assert first == second == other_node == pytest.approx(0.1)
    # Ten more from instance 1 wait for its host link; DRAM itself could do four times as much.
    assert parts.load_path(DRAM, -1, 1).end_s(0.0, 1 * GB) == pytest.approx(0.2)
    assert parts.links["n0 dram read"].backlog_s(0.0) == pytest.approx(0.05)


def test_ranks_that_hold_copies_load_them_beside_each_other() -> None:
    """A latent is on every rank, so that four ranks need as long for it as one."""
    for name, ranks in (("llama-3.1-8b", 4), ("deepseek-r1-nvfp4", 1)):
        spec = cluster().model_dump()
        for node in spec["nodes"]:
            for instance in node["instances"]:
                instance["tensor_parallel"] = 4
        spec["model"] = name
        parts = build(ClusterSpec.model_validate(spec))
        assert parts.block_bytes[0] == 16 * model(name).kv_bytes_per_token
        rate = parts.links["instance 0 h2d"].bandwidth
        assert rate == ranks * topology().links["instance 0 h2d"].bandwidth


def test_a_copy_moves_windows_and_states_too() -> None:
    for name in ("llama-3.1-8b", "gpt-oss-120b", "qwen3.5-35b-a3b"):
        llm = model(name)
        parts = topology(model=name)
        assert parts.copy_bytes(0, 1000) == llm.kv_bytes(16_000)
    assert parts.copy_bytes(0, 0) == 30 * (llm.linear_state_bytes or 0)


def test_both_directions_share_a_duplex_cap() -> None:
    spec = cluster().model_dump()
    for node in spec["nodes"]:
        node["host_link"]["duplex_gbps"] = 15.0
    parts = build(ClusterSpec.model_validate(spec))
    offload = Passage(parts.offload_path(0, DRAM), 0.0, 6 * GB)
    assert offload.end_s() == pytest.approx(0.6)
    # Alone a load of 3 GB takes .3 s; beside the offload each has 7.5 GB/s until it is done.
    load = Passage(parts.load_path(DRAM, -1, 0), 0.0, 3 * GB)
    assert load.end_s() == pytest.approx(0.4)
    assert offload.end_s() == pytest.approx(0.7)


def rates_gbps(accelerator: str, **node: object) -> tuple[float, float]:
    """To the host and from it, for an instance of two ranks."""
    spec = cluster().model_dump()
    for one in spec["nodes"]:
        one["host_link"] = None
        one["instances"] = [{"accelerator": accelerator, "tensor_parallel": 2, "kv_blocks": 10}]
        one.update(node)
    links = build(ClusterSpec.model_validate(spec)).links
    both = links["instance 0 d2h"], links["instance 0 h2d"]
    return both[0].bandwidth / GB, both[1].bandwidth / GB


def test_the_host_link_is_the_accelerators_own_unless_the_node_says_otherwise() -> None:
    for name in list_accelerators():
        known = link(accelerator(name).host_link)
        rates = known.from_device_gb_per_s, known.to_device_gb_per_s
        assert rates_gbps(name) == pytest.approx([2 * rate for rate in rates])
    assert rates_gbps("gh200") == pytest.approx((2 * 297.0, 2 * 375.0))
    given = {"bandwidth_gbps": 30.0, "to_host_gbps": 20.0}
    assert rates_gbps("gh200", host_link=given) == pytest.approx((40.0, 60.0))


def test_a_node_of_several_accelerators_has_the_link_of_each() -> None:
    spec = cluster().model_dump()
    spec["nodes"][0]["host_link"] = None
    spec["nodes"][0]["instances"] = [
        {"accelerator": name, "kv_blocks": 10} for name in ("rtx-4090", "h100-sxm")
    ]
    parts = build(ClusterSpec.model_validate(spec))
    latency_s = link("pcie-gen4-x16").latency_s
    assert parts.links["instance 0 h2d"].bandwidth == 26 * GB
    assert parts.links["instance 0 h2d"].latency_s == pytest.approx(latency_s)
    assert parts.links["instance 1 h2d"].bandwidth == 56 * GB


def test_a_short_reload_does_not_wait_for_a_long_offload() -> None:
    spec = cluster().model_dump()
    for node in spec["nodes"]:
        node["host_link"] = {"bandwidth_gbps": 50.0, "latency_us": 0.0, "duplex_gbps": 83.4}
        node["dram"]["bandwidth_gbps"] = 256.0
    parts = build(ClusterSpec.model_validate(spec))
    parts.offload_path(0, DRAM).start(0.0, 19.7 * GB)
    assert parts.load_path(DRAM, -1, 0).start(0.0, 1.3 * GB) == pytest.approx(1.3 / 41.7)


def test_reads_and_writes_of_a_memory_share_its_bandwidth() -> None:
    parts = topology()
    writes = [Passage(parts.offload_path(at, DRAM), 0.0, 4 * GB) for at in (0, 1)]
    assert [write.end_s() for write in writes] == pytest.approx([0.4, 0.4])
    # 8 GB are to be written and 8 read: at 20 GB/s each, where alone .2 s would do for either.
    for _ in range(2):
        parts.load_path(DRAM, -1, 0).start(0.0, 4 * GB)
    assert parts.links["n0 dram write"].backlog_s(0.0) == pytest.approx(0.4)
    assert parts.links["n0 dram read"].backlog_s(0.0) == pytest.approx(0.4)


def test_the_cxl_pool_is_shared_by_its_nodes_up_to_its_own_bandwidth() -> None:
    parts = topology(
        cxl={
            "nodes": ["n0", "n1"],
            "capacity_gib": 1.0,
            "bandwidth_gbps": 20.0,
            "pool_bandwidth_gbps": 10.0,
            "latency_us": 0.0,
        }
    )
    ends = [parts.load_path(CXL, -1, at).start(0.0, 1 * GB) for at in (0, 2)]
    assert ends == pytest.approx([0.1, 0.2])


NVME = {
    "name": "nvme",
    "capacity_gib": 1.0,
    "read_gbps": 8.0,
    "write_gbps": 4.0,
    "latency_us": 0.0,
}


def test_instances_of_a_node_share_its_ssds_which_write_slower_than_they_read() -> None:
    parts = topology(tiers=[NVME])
    nvme = parts.number_of("nvme")
    writes = [parts.offload_path(at, nvme).start(0.0, 1 * GB) for at in (0, 1, 2)]
    assert writes == pytest.approx([0.25, 0.5, 0.25])
    assert parts.load_path(nvme, -1, 0).end_s(0.0, 1 * GB) == pytest.approx(0.125)
    mixed = topology(tiers=[{**NVME, "mixed_gbps": 8.0}])
    mixed.offload_path(0, nvme).start(0.0, 1 * GB)
    # The reads get 4 of 8 GB/s while the writes, which need as much, last.
    assert mixed.load_path(nvme, -1, 1).end_s(0.0, 1.5 * GB) == pytest.approx(0.25 + 0.5 / 8)


def test_staged_transfers_wait_for_the_dram_of_the_node_and_direct_ones_do_not() -> None:
    for staged, expected_s in ((True, 0.325), (False, 0.125)):
        parts = topology(tiers=[{**NVME, "staged": staged}])
        parts.links["n0 dram read"].queue(0.0, 0.3 * 40 * GB)
        nvme = parts.number_of("nvme")
        assert parts.load_path(nvme, -1, 0).end_s(0.0, 1 * GB) == pytest.approx(expected_s)


def test_a_tier_may_be_of_some_nodes_only_and_shared() -> None:
    some = topology(tiers=[{**NVME, "nodes": ["n1"]}])
    nvme = some.number_of("nvme")
    assert [some.pool(nvme, at) is None for at in range(4)] == [True, True, False, False]
    own, shared = (topology(tiers=[{**NVME, "shared": is_shared}]) for is_shared in (False, True))
    assert (len(own.tiers[-1].pools), len(shared.tiers[-1].pools)) == (2, 1)


def test_a_shared_pool_may_have_a_cap_over_all_its_nodes() -> None:
    pool = {**NVME, "shared": True, "staged": False, "pool_gbps": 8.0}
    parts = topology(tiers=[pool])
    nvme = parts.number_of("nvme")
    ends = [parts.load_path(nvme, NEAR, at).start(0.0, 1 * GB) for at in (0, 2)]
    assert ends == pytest.approx([0.125, 0.25])
    # A write meets the reads there, and gets the half of the cap, which is all that a node writes.
    assert parts.offload_path(2, nvme).end_s(0.0, 1 * GB) == pytest.approx(0.25)
    with pytest.raises(ValidationError, match=r"pool_gbps is 8\.0, but shared is false"):
        topology(tiers=[{**pool, "shared": False}])


def test_a_tier_of_another_node_is_read_over_the_network() -> None:
    parts = topology(network={"bandwidth_gbps": 5.0, "latency_us": 0.0})
    names = [link.name for link in parts.load_path(DRAM, 2, 0).links]
    assert names == ["n1 dram read", "n1 network out", "n0 network in", "instance 0 h2d"]
    assert parts.load_path(DRAM, 2, 0).end_s(0.0, 1 * GB) == pytest.approx(0.2)
    assert parts.load_path(DRAM, 2, 0) is parts.load_path(DRAM, 2, 0)


def test_migration_goes_over_the_peer_link_the_host_or_the_network() -> None:
    plain = topology()
    assert not plain.can_migrate(0, 1)
    networked = topology(network={"bandwidth_gbps": 5.0, "latency_us": 0.0})
    assert networked.can_migrate(0, 1)
    assert networked.can_migrate(0, 2)
    assert networked.load_path(HBM, 0, 1).end_s(0.0, 1 * GB) == pytest.approx(0.1)
    assert networked.load_path(HBM, 0, 2).end_s(0.0, 1 * GB) == pytest.approx(0.2)
    spec = cluster().model_dump()
    spec["nodes"][0]["peer_link"] = {"bandwidth_gbps": 100.0, "latency_us": 0.0}
    peers = build(ClusterSpec.model_validate(spec))
    assert peers.can_migrate(0, 1)
    assert not peers.can_migrate(0, 2)
    assert peers.load_path(HBM, 0, 1).end_s(0.0, 1 * GB) == pytest.approx(0.01)


def test_lower_tiers_hold_whole_blocks_of_all_ranks() -> None:
    pool = topology().pool(DRAM, 0)
    assert pool is not None
    # 1 GiB / (16 tokens x 128 KiB).
    assert pool.capacity == 512


def test_host_bandwidth_grows_with_the_ranks_of_an_instance() -> None:
    spec = cluster().model_dump()
    spec["nodes"][0]["instances"][0]["tensor_parallel"] = 2
    parts = build(ClusterSpec.model_validate(spec))
    assert parts.load_path(DRAM, -1, 0).end_s(0.0, 1 * GB) == pytest.approx(0.05)
