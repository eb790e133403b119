"""Soft trends of routing: C3, C5, C7."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean

from agentserve_gym.sim import Simulation
from agentserve_gym.validation.trends.setup import (
    Agents,
    cluster,
    constant,
    exponential,
    hit_share,
    lognormal,
    mean_jct_s,
    report,
    swe_agents,
)
from agentserve_gym.validation.trends.trend import Trend

_SPILL_TOKENS = (100, 5_000, 20_000, 80_000, 320_000, 1_300_000, 10_000_000)
_LINEAR = (
    "llmd(prefix=1,queue=1)",
    "llmd(prefix=1,queue=3)",
    "dynamo(overlap=2,prefill_load=4)",
)
"""The better ones of a wider search on these agents."""
_SWE_PROGRAMS, _SWE_RATE_PER_S, _SWE_SEEDS = 120, 0.24, range(2)
_OLD_S = 5.0


def spill_threshold() -> Trend:
    """C3."""
    agents = Agents(
        150,
        4.5,
        turns=lognormal(8, 0.7),
        first_tokens=lognormal(8000, 0.8),
        new_tokens=lognormal(600, 0.6),
        output_tokens=lognormal(80, 0.5),
        gap_s=exponential(1.0),
        seed=1,
    )
    scenario = cluster(agents.build(), instances=4, kv_tokens=300_000)
    tokens_per_s = 8192 / Simulation(scenario).engines[0].prefill_s(8192, 0)
    jct_s = {
        tokens: mean_jct_s(scenario, f"sticky_saturated(tokens={tokens})")
        for tokens in _SPILL_TOKENS
    }
    best = min(jct_s, key=lambda tokens: jct_s[tokens])
    best_s = best / tokens_per_s
    interior = best not in (_SPILL_TOKENS[0], _SPILL_TOKENS[-1])
    lowest, highest = jct_s[_SPILL_TOKENS[0]], jct_s[_SPILL_TOKENS[-1]]
    return Trend(
        "C3",
        "sticky until saturated: the spill threshold has an interior optimum",
        "llm-d 2026, about 14 s",
        "150 agents of unequal size, 4 H100, Llama-3.1-8B, thresholds of 0 s to 200 s of prefill",
        "best at a backlog of 1 to 30 s",
        f"best at {best_s:.1f} s: mean JCT {jct_s[best]:.1f} s, against {lowest:.1f} s at the "
        f"least and {highest:.1f} s at the largest threshold",
        interior and 1.0 <= best_s <= 30.0,
        {"best_s": best_s, **{f"jct_s_at_{tokens}": value for tokens, value in jct_s.items()}},
    )


def stale_index() -> Trend:
    """C5."""
    agents = Agents(
        100,
        2.0,
        turns=constant(10),
        first_tokens=lognormal(8000, 0.6),
        new_tokens=lognormal(600, 0.6),
        output_tokens=lognormal(60, 0.5),
        gap_s=exponential(1.0),
        seed=1,
    ).build()

    def ttft_p90_s(delay_s: float) -> float:
        router = {"signal_delay_s": delay_s}
        scenario = cluster(agents, instances=4, kv_tokens=120_000, router=router)
        return float(report(scenario, "llmd")["ttft_s"]["p90"])

    exact, second, stale = ttft_p90_s(0.0), ttft_p90_s(1.0), ttft_p90_s(5.0)
    return Trend(
        "C5",
        "an approximate prefix index at high eviction: TTFT p90 far above an exact one's",
        "llm-d, 57x",
        "100 agents, 4 H100 whose HBM evicts steadily, llm-d's scorer, signals 0, 1 and 5 s old",
        "at least 5x",
        f"{stale / exact:.1f}x at 5 s, {second / exact:.1f}x at 1 s",
        stale / exact >= 5.0,
        {"exact_s": exact, "second_s": second, "stale_s": stale},
    )


def multiplicative_scorer() -> Trend:
    """C7."""
    shared, exact = lmetric_against_linear(dram_gib=256.0), lmetric_against_linear()
    old = lmetric_against_linear(signal_delay_s=_OLD_S)
    return Trend(
        "C7",
        "LMetric is at least a tuned linear scorer's equal with a shared tier, and worse without "
        "one on agent traffic",
        "LMetric (OSDI'26); -36 % without a tier in an independent study, where its reuse fell",
        f"{_SWE_PROGRAMS} SWE-bench agents on 4 B200 that thrash, Llama-3.1-70B, mean JCT against "
        f"the best of {len(_LINEAR)} linear weightings, {len(_SWE_SEEDS)} seeds: with DRAM that "
        f"the four share, and without it, by exact signals and by ones {_OLD_S:g} s old",
        "gain of at least -1 % with the tier; a loss without, where signals are old",
        f"{shared.gain:+.1%} with the tier; without, {exact.gain:+.1%} by exact signals and "
        f"{old.gain:+.1%} by old ones, by which it hits {old.hits:.0%} and the linear one "
        f"{old.linear_hits:.0%}: it loses where its reuse falls, and that takes a late view",
        shared.gain >= -0.01 and old.gain < 0.0,
        {
            "gain_with_tier": shared.gain,
            "gain_without": exact.gain,
            "gain_without_by_old_signals": old.gain,
            "hits_by_old_signals": old.hits,
            "linear_hits_by_old_signals": old.linear_hits,
        },
    )


@dataclass(frozen=True, slots=True)
class Scored:
    """By how much mean JCT under LMetric is below that of the best linear weighting, and the hit
    rates of both."""

    gain: float
    hits: float
    linear_hits: float


def lmetric_against_linear(dram_gib: float | None = None, signal_delay_s: float = 0.0) -> Scored:
    """With DRAM or without, by signals so old."""
    node = {} if dram_gib is None else {"dram": {"capacity_gib": dram_gib, "bandwidth_gbps": 300.0}}
    residency = "lru" if dram_gib is None else "write_through"
    scenario = swe_agents(
        _SWE_RATE_PER_S,
        programs=_SWE_PROGRAMS,
        instances=4,
        node=node,
        router={"signal_delay_s": signal_delay_s},
    )

    def jct_and_hits(scorer: str) -> tuple[float, float]:
        outcomes = [report(scenario, f"{scorer}+{residency}", seed) for seed in _SWE_SEEDS]
        jct_s = mean(outcome["jct_s"]["mean"] for outcome in outcomes)
        return jct_s, mean(hit_share(outcome) for outcome in outcomes)

    jct_s, hits = jct_and_hits("lmetric")
    linear_s, linear_hits = min(jct_and_hits(scorer) for scorer in _LINEAR)
    return Scored(1.0 - jct_s / linear_s, hits, linear_hits)
