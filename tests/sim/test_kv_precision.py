"""A cluster whose KV is kept in another precision than the model's own."""

from __future__ import annotations

import pytest

from agentserve_gym.sim import Simulation, load_scenario


def _scenario(kv_dtype: str | None):
    node = {"name": "a", "instances": [{"accelerator": "b200"}], "dram": {"capacity_gib": 64.0}}
    return load_scenario(
        {
            "name": "precision",
            "cluster": {"model": "llama-3.1-8b", "kv_dtype": kv_dtype, "nodes": [node]},
            "workload": {"kind": "generated", "mix": {"web_research": 1.0}, "programs": 2},
            "arrivals": {"kind": "poisson", "rate_per_s": 1.0},
        }
    )


def test_pools_and_transfers_count_its_bytes():
    own, fp8 = Simulation(_scenario(None)), Simulation(_scenario("fp8"))
    assert fp8.engines[0].pool.capacity == pytest.approx(2 * own.engines[0].pool.capacity, abs=1)
    topologies = fp8.residency.topology, own.residency.topology
    assert topologies[0].block_bytes[0] * 2 == topologies[1].block_bytes[0]
    drams = [topology.tiers[0].pools[0].capacity for topology in topologies]
    assert drams[0] == pytest.approx(2 * drams[1], abs=1)
    assert fp8.engines[0].latency is not own.engines[0].latency


def test_a_precision_that_kv_cannot_have_is_refused():
    with pytest.raises(ValueError, match=r"kv_dtype is 'int8': .*'bf16' or 'fp8'"):
        _scenario("int8")
