"""Soft trends of scheduling and fidelity: C30, C34."""

from __future__ import annotations

from agentserve_gym.datasets import require_data_set
from agentserve_gym.validation.cases import find_cases, read_case
from agentserve_gym.validation.study import profile_folder, run_case
from agentserve_gym.validation.trends.setup import late, swe_agents
from agentserve_gym.validation.trends.trend import Trend, listed

_FOR_THROUGHPUT = ("thunderagent_system", "lmetric+concur+shortest_prefill")
"""What brought most output of a wider search: gates fill the pool and keep it from thrashing."""
_SAGA, _STOCK = "saga_system", "affinity"
_INSTANCES, _AGENTS = 4, (10, 12, 16)
"""Agents of an instance: with fewer nothing is at its peak, beyond them only gates hold theirs."""
_SEEDS = range(2)
_WARM_S, _WATCHED_S = 300.0, 900.0


def latency_costs_throughput() -> Trend:
    """C30."""
    rates = {
        policy: [tokens_per_s(policy, agents) for agents in _AGENTS]
        for policy in (_SAGA, _STOCK, *_FOR_THROUGHPUT)
    }
    saga, stock = max(rates[_SAGA]), max(rates[_STOCK])
    best = max(max(rates[policy]) for policy in _FOR_THROUGHPUT)
    thrashing = rates[_SAGA][-1] / rates[_STOCK][-1]
    cost = 1 - saga / best
    return Trend(
        "C30",
        "scheduling programs for latency costs about 30 % of peak throughput; tasks take 1.64 "
        "times as long under session affinity",
        "SAGA (arXiv 2605.00528), 64 GPUs",
        f"SWE-bench agents, Llama-3.1-70B on {_INSTANCES} B200, in closed loops of "
        f"{listed([*map(float, _AGENTS)], 0)} an instance; output tokens per second once warm, "
        f"{len(_SEEDS)} seeds; each policy's peak over the loops: SAGA's system against the best "
        f"of {len(_FOR_THROUGHPUT)} that gate by memory, and against plain affinity",
        "10 to 40 % below the best; at most 10 % below affinity, and ahead of it in the "
        "largest loop",
        f"{cost:.0%} below the best, {1 - saga / stock:.0%} below affinity (SAGA "
        f"{listed(rates[_SAGA], 0)}, affinity {listed(rates[_STOCK], 0)}, gates up to {best:,.0f})."
        f" It lets every agent in: at {_AGENTS[-1]} an instance it thrashes, though less than "
        f"affinity ({thrashing:.2f} times its tokens), and its peak lies where all still fit",
        0.10 <= cost <= 0.40 and saga >= 0.9 * stock and thrashing > 1.0,
        {
            "saga": saga,
            "affinity": stock,
            "best": best,
            "over_affinity_thrashing": thrashing,
        },
    )


def tokens_per_s(policy: str, agents: int) -> float:
    """Of output after the warm-up, mean over seeds, with so many agents an instance."""
    scenario = swe_agents(
        concurrency=_INSTANCES * agents, programs=400, instances=_INSTANCES, horizon_s=_WATCHED_S
    )
    rates = [late(scenario, policy, _WARM_S, seed).output_tokens_per_s for seed in _SEEDS]
    return sum(rates) / len(rates)


def against_a_real_run() -> Trend:
    """C34.

    Raises:
        MissingDataError: without measured runs or their GPUs' profiles.
    """
    runs, profiles = require_data_set("vllm-runs"), require_data_set("gpu-profiles")
    errors = {}
    for folder in find_cases(runs):
        case = read_case(folder)
        if profile_folder(case.settings, profiles) is not None:
            result = run_case(case, "profile", profiles).errors
            errors[result.case] = (result.mean["e2e"], -result.makespan)
    met = [abs(e2e) <= 0.06 and abs(rate) <= 0.02 for e2e, rate in errors.values()]
    found = "; ".join(
        f"{name}: E2E {e2e:+.1%}, throughput {rate:+.1%}" for name, (e2e, rate) in errors.items()
    )
    return Trend(
        "C34",
        "mean completion time within 6 % and throughput within 2 % of a real engine",
        "AgentServeSim (arXiv 2606.09613)",
        "the measured runs under profile timing; their requests are single turns, so this is E2E, "
        "not the JCT of agents",
        "on at least one measured case",
        found,
        any(met),
        {name: e2e for name, (e2e, _) in errors.items()},
    )
