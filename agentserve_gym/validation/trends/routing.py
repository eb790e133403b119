"""Soft trends of routing: C3, C5, C7."""

from __future__ import annotations

from agentserve_gym.sim import Scenario, Simulation
from agentserve_gym.validation.trends.setup import (
    Agents,
    cluster,
    constant,
    exponential,
    lognormal,
    mean_jct_s,
    report,
)
from agentserve_gym.validation.trends.trend import Trend

_SPILL_TOKENS = (100, 5_000, 20_000, 80_000, 320_000, 1_300_000, 10_000_000)
_LINEAR = ("llmd", "llmd(prefix=3,queue=1)", "llmd(prefix=1,queue=1)", "llmd(prefix=1,queue=3)")


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
    alone, shared = (_scorers(dram_gib) for dram_gib in (None, 512.0))
    gain_alone = 1 - alone["lmetric"] / min(alone[name] for name in _LINEAR)
    gain_shared = 1 - shared["lmetric"] / min(shared[name] for name in _LINEAR)
    return Trend(
        "C7",
        "LMetric is at least a tuned linear scorer's equal with a shared tier, and worse without "
        "one on agent traffic",
        "LMetric (OSDI'26); -36 % without a tier in an independent study",
        "100 agents, 4 H100, mean JCT against the best of four linear weightings, with and without "
        "DRAM that the four share",
        "gain of at least -1 % with the tier, loss without",
        f"{gain_shared:+.1%} with the tier, {gain_alone:+.1%} without",
        gain_shared >= -0.01 and gain_alone < 0.0,
        {"gain_with_tier": gain_shared, "gain_without": gain_alone},
    )


def _scorers(dram_gib: float | None) -> dict[str, float]:
    scenario: Scenario = cluster(
        Agents(
            100,
            2.0,
            turns=lognormal(8, 0.5),
            first_tokens=lognormal(8000, 0.6),
            new_tokens=lognormal(600, 0.6),
            output_tokens=lognormal(60, 0.5),
            gap_s=exponential(1.0),
            seed=1,
        ).build(),
        instances=4,
        kv_tokens=100_000,
        dram_gib=dram_gib,
    )
    residency = "lru" if dram_gib is None else "write_through"
    return {name: mean_jct_s(scenario, f"{name}+{residency}") for name in ("lmetric", *_LINEAR)}
