"""Soft trends of generated workloads: C36, C37."""

from __future__ import annotations

from math import inf

import numpy as np

from agentserve_gym.validation.trends.trend import Trend
from agentserve_gym.workloads import (
    GeneratedWorkload,
    PoissonArrivals,
    Program,
    Turn,
    build_workload,
)

_PROGRAMS = 300
_PROVIDERS_TTL_S = 300.0
"""Providers' caches forget a prompt that is not read for so long, unless asked to keep it."""


def lone_coding_session() -> Trend:
    """C36."""
    programs = _programs("coding_interactive")
    turns = [turn for program in programs for turn in program.turns]
    per_call = float(np.mean([turn.reuse_tokens / turn.input_tokens for turn in turns]))
    read = sum(turn.reuse_tokens for turn in turns)
    ratio = _read_per_write(programs, inf)
    forgetful = _read_per_write(programs, _PROVIDERS_TTL_S)
    soon = _reused_within(programs, 100.0) / read
    top = _share_of_largest(programs, 0.25)
    return Trend(
        "C36",
        "a lone coding session hits 85 to 97 % per call, reads 5 to 12 times what it writes, "
        "reuses about 90 % within 100 s; the top quarter of sessions has over 80 % of the tokens",
        "published cache statistics of coding agents",
        f"{_PROGRAMS} generated interactive coding programs on an unpressured cache",
        "85 to 97 %; 5 to 12; 85 to 95 %; over 80 %",
        f"{per_call:.1%} per call; read/write {ratio:.0f}; {soon:.0%} within 100 s; top quarter "
        f"{top:.0%}. The traces behind the generator reuse 97 % of their tokens, which alone makes "
        "the ratio 35 or more; in a provider's cache, which forgets after 5 minutes, it is "
        f"{forgetful:.0f}",
        0.85 <= per_call <= 0.97 and 5 <= ratio <= 12 and 0.85 <= soon <= 0.95 and top > 0.80,
        {
            "per_call": per_call,
            "read_per_write": ratio,
            "read_per_write_within_ttl": forgetful,
            "within_100_s": soon,
            "top_quarter": top,
        },
    )


def tool_gaps() -> Trend:
    """C37."""
    gaps, of_people = _tool_gaps_s("coding_auto"), _tool_gaps_s("coding_interactive")
    p50, p99 = np.percentile(gaps, (50, 99))
    p50_of_people, p99_of_people = np.percentile(of_people, (50, 99))
    mean, deviation = float(gaps.mean()), float(gaps.std())
    return Trend(
        "C37",
        "tool gaps of coding agents: median about 1 s, p99 about 20 s, deviation far above mean",
        "MORI (arXiv 2606.00866), 1.10 and 19.98 s; AgentServeSim, 1.16 +- 4.1 s",
        f"{_PROGRAMS} generated autonomous coding programs",
        "median 0.5 to 2 s, p99 10 to 40 s, deviation at least twice the mean",
        f"median {p50:.2f} s, p99 {p99:.1f} s, mean {mean:.2f} +- {deviation:.2f} s: the measured "
        "tools behind the generator answer faster at the median. Of tools that people's sessions "
        f"call the median is {p50_of_people:.2f} s and the p99 {p99_of_people:.0f} s",
        bool(0.5 <= p50 <= 2.0 and 10.0 <= p99 <= 40.0 and deviation >= 2 * mean),
        {"p50_s": float(p50), "p99_s": float(p99), "mean_s": mean, "deviation_s": deviation},
    )


def _tool_gaps_s(agent_class: str) -> np.ndarray:
    return np.array(
        [
            turn.gap_s
            for program in _programs(agent_class)
            for turn in program.turns
            if turn.gap_kind == "tool"
        ]
    )


def _read_per_write(programs: list[Program], ttl_s: float) -> float:
    """Tokens found in a cache that forgets what is not read for ``ttl_s``, by tokens that are
    not found."""
    read = _reused_within(programs, ttl_s)
    return read / (sum(turn.input_tokens for program in programs for turn in program.turns) - read)


def _programs(agent_class: str) -> list[Program]:
    spec = GeneratedWorkload(mix={agent_class: 1.0}, programs=_PROGRAMS)
    workload = build_workload(spec, PoissonArrivals(rate_per_s=1.0), 1)
    return [workload.program(index) for index in range(len(workload))]


def _reused_within(programs: list[Program], seconds: float) -> int:
    """Tokens reused by turns that followed a gap of at most so long."""
    return sum(
        turn.reuse_tokens
        for program in programs
        for before, turn in zip(program.turns, program.turns[1:], strict=False)
        if before.gap_s <= seconds
    )


def _share_of_largest(programs: list[Program], share: float) -> float:
    sizes = sorted((sum(map(_tokens, program.turns)) for program in programs), reverse=True)
    return sum(sizes[: round(len(sizes) * share)]) / sum(sizes)


def _tokens(turn: Turn) -> int:
    return turn.input_tokens + turn.output_tokens
