"""Soft trends of scheduling and fidelity: C30, C34."""

from __future__ import annotations

from agentserve_gym.datasets import require_data_set
from agentserve_gym.validation.cases import find_cases, read_case
from agentserve_gym.validation.study import profile_folder, run_case
from agentserve_gym.validation.trends.setup import (
    Agents,
    cluster,
    exponential,
    lognormal,
    report,
)
from agentserve_gym.validation.trends.trend import Trend

_FOR_THROUGHPUT = ("affinity", "affinity+program_fcfs", "continuum", "affinity+concur")


def latency_costs_throughput() -> Trend:
    """C30."""
    agents = Agents(
        80,
        turns=lognormal(8, 0.8),
        first_tokens=lognormal(6000, 0.4),
        new_tokens=lognormal(600, 0.5),
        output_tokens=lognormal(120, 0.5),
        gap_s=exponential(1.0),
        seed=1,
    )
    scenario = cluster(agents.build(), instances=4, kv_tokens=100_000, concurrency=96)

    def tokens_per_s(policy: str) -> float:
        return float(report(scenario, policy)["output_tokens_per_s"])

    saga, stock = tokens_per_s("saga_system"), tokens_per_s("affinity")
    best = max(tokens_per_s(policy) for policy in _FOR_THROUGHPUT)
    cost = 1 - saga / best
    return Trend(
        "C30",
        "scheduling programs for latency costs peak throughput",
        "SAGA (arXiv 2605.00528), about 30 %",
        "80 agents at once on 4 H100: output tokens per second under SAGA against the best of four "
        "others",
        "10 to 40 %",
        f"{cost:.0%} below the best, {1 - saga / stock:.0%} below plain affinity",
        0.10 <= cost <= 0.40,
        {"saga": saga, "affinity": stock, "best": best},
    )


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
