"""Soft trends of tiers below an HBM pool that the sessions outgrow: R5, R6."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

from agentserve_gym.baselines import parse_policy, run_policy
from agentserve_gym.sim import Scenario, Simulation, load_scenario
from agentserve_gym.sim.metrics import TurnRecord
from agentserve_gym.validation.trends.setup import Agents, constant, exponential, report
from agentserve_gym.validation.trends.trend import Trend, listed

_WATCHED_S, _LATE_S = 1800.0, 1200.0
_POOL_TOKENS = 1_901_888
_HOST_GB = 600.0
_COMPLETED, _COMPLETED_WITH_TIER = 53, 201
"""Requests of the real runs, in as many seconds as are watched here."""
_TOKEN_SCALE = 1.25
"""Makes sessions so long that 16 fit the pool and 32 do not; unscaled ones may take
longer to outgrow it than is watched."""

_AGENTS = (32, 64, 96)
_AGENT_TOKENS = 30_000
_DRAM_GIB = 96.0
_TIERED_S, _WARM_S = 300.0, 150.0


def cliff_and_host_tier() -> Trend:
    """R5."""
    few, many = coding(16), coding(32)
    tier = coding(32, host_tier=True)
    return Trend(
        "R5",
        "with twice the users a pool of 1.9 M tokens goes from 87 % of GPU hits to 0.1 % (16 and "
        "32); 600 GB of host memory then serve 83 % of the tokens, bring TTFT p50 from 197 to 59 s "
        "and completed requests from 53 to 201 in 30 minutes",
        "SemiAnalysisAI/InferenceX: DeepSeek-R1 FP4, TP4 on B200, vLLM 0.19.1, recorded sessions",
        "the same engine, pool and host memory; generated coding sessions, tokens x "
        f"{_TOKEN_SCALE:g} (prompts of {few.prompt_tokens / 1e3:.0f}k, of which 16 fit and 32 do "
        "not), waits of at most 10 s (theirs are not stated); hits and TTFT of the last 10 of 30 "
        "minutes",
        "over 80 % at 16, under 15 % at 32; with the tier over 80 % again, at most half the TTFT, "
        "at least twice the requests",
        f"{few.hbm_hits:.0%} and {many.hbm_hits:.0%}, the latter in tools and system prompts "
        f"that sessions share; with the tier {tier.hbm_hits + tier.dram_hits:.0%}, of the tokens "
        f"{tier.dram_hits:.0%} from DRAM; TTFT {many.ttft_s:.1f} and {tier.ttft_s:.1f} s, "
        f"{many.turns:,} and {tier.turns:,} requests, {many.turns / _COMPLETED:.0f} and "
        f"{tier.turns / _COMPLETED_WITH_TIER:.0f} times theirs",
        few.hbm_hits > 0.80
        and many.hbm_hits < 0.15
        and tier.hbm_hits + tier.dram_hits > 0.80
        and tier.ttft_s <= 0.5 * many.ttft_s
        and tier.turns >= 2 * many.turns,
        {
            "hits_16": few.hbm_hits,
            "hits_32": many.hbm_hits,
            "tier_hbm_hits_32": tier.hbm_hits,
            "tier_dram_hits_32": tier.dram_hits,
            "ttft_s_32": many.ttft_s,
            "tier_ttft_s_32": tier.ttft_s,
            "requests_32": float(many.turns),
            "tier_requests_32": float(tier.turns),
        },
    )


def nvme_behind_dram() -> Trend:
    """R6."""
    dram = [input_tokens_per_s(agents, nvme=False) for agents in _AGENTS]
    nvme = [input_tokens_per_s(agents, nvme=True) for agents in _AGENTS]
    return Trend(
        "R6",
        "as the working set outgrows DRAM, input tokens per second fall from 329-398 k to 45-52 k "
        "with DRAM alone, and hold at 178-253 k with NVMe behind it",
        "callanjfox/kv-cache-tester: Qwen3-Coder-30B FP8, TP4, GPU not stated",
        f"TP4 on H100 by roofline, bf16 KV, a pool of 300,000 tokens, {_DRAM_GIB:g} GiB of DRAM, "
        f"NVMe as preset nvme; {_AGENTS[0]}, {_AGENTS[1]} and {_AGENTS[2]} agents of "
        f"{_AGENT_TOKENS:,} tokens (0.9, 1.8 and 2.7 times DRAM), 98 % reused; write_through "
        "and kvbm, after a warm-up",
        "of the rate that fits: DRAM alone under a quarter, NVMe at least a third and twice DRAM "
        "alone",
        f"DRAM alone {_thousands(dram)}; with NVMe {_thousands(nvme)}",
        max(dram[1:]) < 0.25 * dram[0]
        and all(far >= 2.0 * near for far, near in list(zip(nvme, dram, strict=True))[1:])
        and min(nvme[1:]) >= nvme[0] / 3.0,
        {
            f"{name}_{agents}": rate
            for name, rates in (("dram", dram), ("nvme", nvme))
            for agents, rate in zip(_AGENTS, rates, strict=True)
        },
    )


@dataclass(frozen=True, slots=True)
class Coding:
    """Coding sessions: shares of the late prompt tokens found in each tier, median TTFT and mean
    prompt of the late turns, and all turns that ended."""

    hbm_hits: float
    dram_hits: float
    ttft_s: float
    prompt_tokens: float
    turns: int


def coding(users: int, host_tier: bool = False, seed: int = 0) -> Coding:
    """So many users of one engine, with 600 GB of host memory or without."""
    scenario = _coding_sessions(users, host_tier)
    outcome, late = _run(scenario, "lru", _LATE_S, seed)
    before = report(scenario.model_copy(update={"horizon_s": _LATE_S}), "lru", seed)
    prompts = outcome["prompt_tokens"] - before["prompt_tokens"]
    hits = {
        tier: (tokens - before["hit_tokens"][tier]) / prompts
        for tier, tokens in outcome["hit_tokens"].items()
    }
    return Coding(
        hits["hbm"],
        hits.get("dram", 0.0),
        median(turn.first_token_s - turn.ready_s for turn in late),
        sum(turn.prompt_tokens for turn in late) / len(late),
        int(outcome["turns"]),
    )


def _coding_sessions(users: int, host_tier: bool) -> Scenario:
    """So many coding sessions at once, never running out within the time that is watched."""
    node: dict[str, Any] = {
        "name": "node0",
        "instances": [
            {"accelerator": "b200", "tensor_parallel": 4, "kv_blocks": _POOL_TOKENS // 16}
        ],
    }
    if host_tier:
        node["dram"] = {"capacity_gib": _HOST_GB * 1e9 / 2**30}
    return load_scenario(
        {
            "name": "trend",
            "cluster": {"model": "deepseek-r1-nvfp4", "kv_dtype": "fp8", "nodes": [node]},
            "engine": {
                "max_num_seqs": 256,
                "max_num_batched_tokens": 8192,
                "native_offloading": host_tier,
            },
            "workload": {
                "kind": "generated",
                "mix": {"coding_interactive": 1.0},
                "programs": 6 * users,
                "max_context_tokens": 163_840,
                "token_scale": _TOKEN_SCALE,
                "tool_timeout_s": 10.0,
                "max_user_gap_s": 10.0,
                "sub_agents": False,
            },
            "arrivals": {"kind": "closed_loop", "concurrency": users},
            "horizon_s": _WATCHED_S,
        }
    )


def input_tokens_per_s(agents: int, nvme: bool) -> float:
    """Prompt tokens of the turns that end after the warm-up, cached ones included."""
    policy = "kvbm" if nvme else "write_through"
    _, late = _run(_steady_agents(agents, nvme), policy, _WARM_S)
    return sum(turn.prompt_tokens for turn in late) / (_TIERED_S - _WARM_S)


def _steady_agents(agents: int, nvme: bool) -> Scenario:
    """Agents whose contexts keep their length, and never end within the time that is watched."""
    programs = Agents(
        agents,
        turns=constant(40_000 // agents),
        first_tokens=constant(_AGENT_TOKENS),
        output_tokens=constant(50),
        gap_s=exponential(0.5),
        reuse=0.98,
        seed=1,
    ).build()
    node = {
        "name": "node0",
        "instances": [
            {"accelerator": "h100-sxm", "tensor_parallel": 4, "kv_blocks": 300_000 // 16}
        ],
        "dram": {"capacity_gib": _DRAM_GIB, "bandwidth_gbps": 300.0},
    }
    drives = {
        "name": "nvme",
        "capacity_gib": 4096.0,
        "read_gbps": 26.0,
        "write_gbps": 16.0,
        "staged": False,
    }
    return load_scenario(
        {
            "name": "trend",
            "cluster": {
                "model": "qwen3-coder-30b-a3b-fp8",
                "kv_dtype": "bf16",
                "nodes": [node],
                "tiers": [drives] if nvme else [],
            },
            "engine": {"max_num_seqs": 128, "max_num_batched_tokens": 8192},
            "workload": {"kind": "inline", "programs": programs},
            "arrivals": {"kind": "trace"},
            "horizon_s": _TIERED_S,
        }
    )


def _thousands(rates: list[float]) -> str:
    return listed([rate / 1e3 for rate in rates], 0) + " k"


def _run(
    scenario: Scenario, policy: str, since_s: float, seed: int = 0
) -> tuple[dict[str, Any], list[TurnRecord]]:
    """The report, and the turns that ended after ``since_s``."""
    simulation = Simulation(scenario, seed, record_turns=True)
    outcome = run_policy(simulation, parse_policy(policy))
    return outcome, [turn for turn in simulation.metrics.records or [] if turn.end_s > since_s]
