"""A summary of programs in plain numbers, for people and for ``--json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from agentserve_gym.workloads.program import Program, Turn


def describe(programs: Iterable[Program]) -> dict[str, Any]:
    """Counts and quantiles of ``programs``; plain Python numbers, so it can be dumped as JSON.

    Distributions are ``{"mean", "p10", "p50", "p90", "p99", "max"}``. Sub-agents are counted, but
    their turns are not part of the distributions. ``reusable_share`` is the share of all prompt
    tokens that a cache which never evicts would hold (previous chain, or the shared prefix of the
    first turn where another program has it too).

    Raises:
        ValueError: if there is no program.
    """
    listed = list(programs)
    if not listed:
        raise ValueError("programs is empty; at least 1 is needed to describe them")
    turns = [turn for program in listed for turn in program.turns]
    return {
        "programs": len(listed),
        "turns": len(turns),
        "sub_agents": sum(_sub_agents(program) for program in listed),
        "agent_classes": dict(Counter(program.agent_class for program in listed).most_common()),
        "labels": dict(Counter(n for program in listed for n in program.labels).most_common()),
        "turns_per_program": _spread([len(program.turns) for program in listed]),
        "first_input_tokens": _spread([program.turns[0].input_tokens for program in listed]),
        "final_context_tokens": _spread([_context(program.turns[-1]) for program in listed]),
        "peak_context_tokens": _spread([program.peak_context_tokens for program in listed]),
        "input_tokens": _spread([turn.input_tokens for turn in turns]),
        "new_input_tokens": _spread([t.new_input_tokens for p in listed for t in p.turns[1:]]),
        "output_tokens": _spread([turn.output_tokens for turn in turns]),
        "compactions": sum(_compactions(program.turns) for program in listed),
        "tool_gap_s": _spread([turn.gap_s for turn in turns if turn.gap_kind == "tool"]),
        "user_gap_s": _spread([turn.gap_s for turn in turns if turn.gap_kind == "user"]),
        "tools": _tools(turns),
        "shared_prefixes": _prefixes(listed),
        "reusable_share": _reusable_share(listed),
        "arrivals": _arrivals(listed),
    }


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    """Mean and quantiles; ``None`` of no values."""
    if not values:
        return None
    p10, p50, p90, p99 = np.percentile(values, [10, 50, 90, 99])
    return {
        "mean": float(np.mean(values)),
        "p10": float(p10),
        "p50": float(p50),
        "p90": float(p90),
        "p99": float(p99),
        "max": float(max(values)),
    }


def _context(turn: Turn) -> int:
    return turn.input_tokens + turn.output_tokens


def _sub_agents(program: Program) -> int:
    return sum(1 + _sub_agents(child) for turn in program.turns for child in turn.children)


def _compactions(turns: Sequence[Turn]) -> int:
    """Turns whose prompt is shorter than the one before."""
    return sum(after.input_tokens < before.input_tokens for before, after in pairwise(turns))


def _tools(turns: Sequence[Turn]) -> dict[str, Any]:
    durations: dict[str, list[float]] = {}
    for turn in turns:
        for tool in turn.tools:
            durations.setdefault(tool.kind, []).append(tool.duration_s)
    ordered = sorted(durations.items(), key=lambda item: (-len(item[1]), item[0]))
    return {kind: {"calls": len(values), "duration_s": _spread(values)} for kind, values in ordered}


def _prefixes(programs: Sequence[Program]) -> dict[str, Any]:
    """By level: how many distinct keys, and the share of programs that the commonest one has."""
    levels: list[Counter[str]] = []
    for program in programs:
        for depth, segment in enumerate(program.prefix):
            if depth == len(levels):
                levels.append(Counter())
            levels[depth][segment.key] += 1
    return {
        "tokens": _spread([program.shared_prefix_tokens for program in programs]),
        "levels": [
            {
                "programs": level.total(),
                "distinct": len(level),
                "largest_share": max(level.values()) / len(programs),
            }
            for level in levels
        ],
    }


def _reusable_share(programs: Sequence[Program]) -> float:
    uses = Counter(segment.key for program in programs for segment in program.prefix)
    total = reusable = 0.0
    for program in programs:
        for turn in program.turns:
            total += turn.input_tokens
            reusable += turn.reuse_tokens
        # The first program to bring a prefix computes it; the average one of n reuses (n - 1) / n.
        for segment in program.prefix:
            reusable += segment.tokens * (uses[segment.key] - 1) / uses[segment.key]
    return reusable / total


def _arrivals(programs: Sequence[Program]) -> dict[str, float] | None:
    times = sorted(p.arrival_s for p in programs if p.arrival_s is not None)
    if len(times) < 2 or times[-1] == times[0]:
        return None
    gaps = np.diff(times)
    span_s = times[-1] - times[0]
    return {
        "first_s": times[0],
        "span_s": span_s,
        "rate_per_s": (len(times) - 1) / span_s,
        "cv": float(np.std(gaps) / np.mean(gaps)),
    }
