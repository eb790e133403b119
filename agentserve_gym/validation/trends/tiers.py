"""Soft trends of tiers and transfers: C24 to C28."""

from __future__ import annotations

from typing import Any

from agentserve_gym.baselines import parse_policy, run_policy
from agentserve_gym.hardware import link
from agentserve_gym.sim import Scenario, Simulation, load_scenario
from agentserve_gym.sim.instances import list_instances
from agentserve_gym.sim.kernel.memory import Topology
from agentserve_gym.sim.topology import build_topology
from agentserve_gym.validation.trends.setup import (
    Agents,
    Draw,
    cluster,
    constant,
    exponential,
    lognormal,
    mean_jct_s,
    report,
)
from agentserve_gym.validation.trends.trend import Trend

_PROMPTS = (1000, 4000, 16_000, 64_000)
_MOVED_TOKENS = 30_000
_PREFETCH = "kvflow(lead_s=0.5)"


def load_against_recompute() -> Trend:
    """C24."""
    ratios = [_return_ttft_s(n, "evict") / _return_ttft_s(n, "dram") for n in _PROMPTS]
    pairs = ", ".join(f"{r:.1f}x at {n:,}" for n, r in zip(_PROMPTS, ratios, strict=True))
    return Trend(
        "C24",
        "TTFT from host memory is a fraction of recomputing, the smaller the longer the prompt",
        "vLLM KV offloading connector, 2 to 22x",
        "a context evicted from HBM returns on an idle H100 over 50 GB/s",
        "2 to 22x, rising",
        f"{pairs} tokens",
        ratios == sorted(ratios) and min(ratios) >= 2.0 and max(ratios) <= 22.0,
        {f"ratio_at_{n}": ratio for n, ratio in zip(_PROMPTS, ratios, strict=True)},
    )


def cxl_at_parity() -> Trend:
    """C25."""
    agents = _agents(0.6, exponential(1.0))
    dram = mean_jct_s(cluster(agents, kv_tokens=80_000, dram_gib=512), "dram")
    plain = cluster(agents, kv_tokens=80_000).model_dump(mode="json", exclude_none=True)
    plain["cluster"]["cxl"] = {"nodes": ["node0"], "capacity_gib": 512, "bandwidth_gbps": 50.0}
    cxl = mean_jct_s(load_scenario(plain), "dram_cxl")
    return Trend(
        "C25",
        "CXL behind the same link is as good as DRAM",
        "XCENA, 3.5 against 3.6 s",
        "40 agents on one H100, all KV offloaded to DRAM, or to CXL of the link's bandwidth",
        "within 10 %",
        f"{cxl / dram - 1:+.2%} mean JCT",
        abs(cxl / dram - 1) <= 0.10,
        {"dram_s": dram, "cxl_s": cxl},
    )


def swap_crossover() -> Trend:
    """C26."""
    c2c = link("nvlink-c2c")
    pcie_s = _offload_s(50.0) + _load_s(50.0)
    c2c_out_s, c2c_in_s = _offload_s(c2c.from_device_gb_per_s), _load_s(c2c.to_device_gb_per_s)
    ratio = pcie_s / (c2c_out_s + c2c_in_s)
    return Trend(
        "C26",
        "InferCept swaps once the gap exceeds 2 T_swap C_batch / C: over NVLink-C2C a 30k-token "
        "70B context moves in 26 ms and out in 33 ms, and the crossover falls about 7-fold",
        "derived from measured C2C rates",
        "one context of Llama-3.1-70B moved over C2C's measured rates and over 50 GB/s",
        "24 to 29 ms in, 30 to 36 ms out, 6 to 8-fold",
        f"{c2c_in_s * 1e3:.1f} ms in, {c2c_out_s * 1e3:.1f} ms out, {ratio:.1f}-fold",
        0.024 <= c2c_in_s <= 0.029 and 0.030 <= c2c_out_s <= 0.036 and 6.0 <= ratio <= 8.0,
        {"in_s": c2c_in_s, "out_s": c2c_out_s, "ratio": ratio},
    )


def prefetch_needs_an_idle_link() -> Trend:
    """C27."""
    idle = _prefetch_gain(rate_per_s=0.3, host_gbps=50.0)
    busy = _prefetch_gain(rate_per_s=0.6, host_gbps=5.0)
    return Trend(
        "C27",
        "prefetching pays only if the return is predicted early enough and the link is idle",
        "KVFlow, 1.83 to 2.19x; arXiv 2609.16215",
        "40 agents with regular 2 s gaps on one H100: prefetch against load on return, mean JCT",
        "a gain on an idle 50 GB/s link, none on a busy 5 GB/s link",
        f"{idle:+.1%} idle, {busy:+.1%} busy",
        idle > 0.0 >= busy,
        {"idle": idle, "busy": busy},
    )


def small_blocks() -> Trend:
    """C28."""
    agents = _agents(0.3, exponential(2.0))

    def makespan_s(block_tokens: int) -> float:
        engine = {"block_size_tokens": block_tokens}
        spec = cluster(agents, kv_tokens=80_000, dram_gib=512, engine=engine).model_dump(
            mode="json", exclude_none=True
        )
        spec["cluster"]["nodes"][0]["instances"][0]["kv_blocks"] = 80_000 // block_tokens
        return float(report(load_scenario(spec), "dram")["makespan_s"])

    ratio = makespan_s(16) / makespan_s(256)
    return Trend(
        "C28",
        "copying KV in kilobyte pieces costs most of an offloading tier's throughput",
        "vLLM 0.11 to 0.12, 4 to 5x",
        "40 agents offloading to DRAM with blocks of 16 and of 256 tokens",
        "3 to 6x",
        f"{ratio:.2f}x: transfers are priced by bytes and an effective bandwidth; pieces are not "
        "modelled, so give a link the bandwidth that your block layout reaches",
        3.0 <= ratio <= 6.0,
        {"ratio": ratio},
    )


def _return_ttft_s(tokens: int, policy: str) -> float:
    """TTFT of a turn whose context another program has pushed out of HBM."""
    back = {"new_input_tokens": 32, "output_tokens": 2}
    programs: list[dict[str, Any]] = [
        {
            "arrival_s": 0.0,
            "turns": [{"new_input_tokens": tokens, "output_tokens": 2, "gap_s": 60.0}, back],
        },
        {
            "arrival_s": 20.0,
            "turns": [{"new_input_tokens": int(1.2 * tokens) + 100, "output_tokens": 2}],
        },
    ]
    dram_gib = 512.0 if policy == "dram" else None
    scenario = cluster(programs, kv_tokens=int(1.25 * tokens) + 400, dram_gib=dram_gib)
    simulation = Simulation(scenario, record_turns=True)
    run_policy(simulation, parse_policy(policy))
    (turn,) = (turn for turn in simulation.metrics.records or [] if turn.turn == 1)
    return turn.first_token_s - turn.ready_s


def _agents(rate_per_s: float, gap_s: Draw) -> list[dict[str, Any]]:
    return Agents(
        40,
        rate_per_s,
        turns=constant(12),
        first_tokens=lognormal(8000, 0.4),
        new_tokens=lognormal(600, 0.5),
        output_tokens=lognormal(60, 0.5),
        gap_s=gap_s,
        seed=1,
    ).build()


def _prefetch_gain(rate_per_s: float, host_gbps: float) -> float:
    programs = _agents(rate_per_s, constant(2.0))
    scenario = cluster(programs, kv_tokens=80_000, dram_gib=512, host_gbps=host_gbps)
    return 1 - mean_jct_s(scenario, _PREFETCH) / mean_jct_s(scenario, "write_through")


def _topology(host_gbps: float) -> tuple[Topology, float]:
    """A node with this host link, and the bytes of one context."""
    programs: list[dict[str, Any]] = [{"turns": [{"new_input_tokens": 16, "output_tokens": 1}]}]
    scenario: Scenario = cluster(
        programs, model="llama-3.1-70b", accelerator="b200", dram_gib=512, host_gbps=host_gbps
    )
    instances = list_instances(scenario.cluster)
    moved_bytes = float(_MOVED_TOKENS * instances[0].llm.kv_bytes_per_token)
    return build_topology(scenario.cluster, 16, instances), moved_bytes


def _offload_s(host_gbps: float) -> float:
    topology, size = _topology(host_gbps)
    return topology.offload_path(0, 1).end_s(0.0, size)


def _load_s(host_gbps: float) -> float:
    topology, size = _topology(host_gbps)
    return topology.load_path(1, -1, 0).end_s(0.0, size)
