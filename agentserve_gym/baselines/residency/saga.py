"""SAGA: TTL from each tool's log-normal, and an eviction order that weighs reuse and size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, sqrt

from agentserve_gym.baselines.estimates import called_kinds, slowest_gap_s, utilization
from agentserve_gym.baselines.parts import Residency, number
from agentserve_gym.baselines.registry import register, register_bundle
from agentserve_gym.sim import (
    KEEP,
    Place,
    PlacementDecision,
    PlacementKind,
    RouteDecision,
)
from agentserve_gym.sim.kernel.tool_statistics import KindStatistics

_P95 = 1.6448536269514722
"""95th percentile of the standard normal distribution."""
BELOW_ALL = -1e6
"""Ranks start here, so that contexts of programs that returned (rank 0) are reclaimed last."""


def p95_s(kind: KindStatistics) -> float:
    """95th percentile of a tool's log-normal (exponential averages of log durations)."""
    return exp(kind.log_mean + _P95 * sqrt(kind.log_variance))


@register(
    "saga_ttl",
    "pin for the tool's p95 x (1 - 0.5 clip((utilisation - 0.7) / 0.2)), at most `most_s`",
    "SAGA (arXiv 2605.00528)",
    ("shortened", "pinned", "unseen"),
)
@dataclass
class SagaTTL(Residency):
    """Pins shrink by up to a half as KV utilisation goes from 0.7 to 0.9. An unseen tool gets
    ``default_s``."""

    most_s: float = number(300.0, low=1e-3)
    default_s: float = number(2.0, low=1e-3)

    def place(self, decision: PlacementDecision) -> Place:
        expected = slowest_gap_s(decision, p95_s)
        if expected is None:
            self.count("unseen")
            return Place(PlacementKind.PIN, ttl_s=self.default_s)
        used = utilization(decision.cluster.instances[decision.instance])
        pressure = min(max((used - 0.7) / 0.2, 0.0), 1.0)
        self.count("shortened" if pressure else "pinned")
        ttl_s = min(expected * (1.0 - 0.5 * pressure), self.most_s)
        return Place(PlacementKind.PIN, ttl_s=max(ttl_s, 1e-3))


class ReuseOrder:
    """SAGA's eviction score as a rank: 0.3 idle + 0.5 (1 - P_reuse) + 0.2 size, highest first.

    Every idle time grows alike, so the order of two contexts is settled when they become idle: the
    rank holds the moment instead of the idle time, whose cap at ``longest_s`` is left out.
    P(reuse) is cached / (cached + expected tokens of the tool's result).
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._largest_tokens = 1
        self._result_tokens: dict[str, float] = {}
        self._waiting: dict[int, str] = {}

    def note_result(self, decision: RouteDecision) -> None:
        """Learn how many new tokens came after a tool."""
        tool = self._waiting.pop(decision.program.index, None)
        if tool is not None:
            new = float(decision.turn.prompt_tokens - decision.turn.reuse_tokens)
            known = self._result_tokens.get(tool, new)
            self._result_tokens[tool] = known + 0.2 * (new - known)

    def rank(self, decision: PlacementDecision) -> float:
        """The rank of a context that becomes idle now."""
        tool = max(called_kinds(decision))
        self._waiting[decision.program.index] = tool
        context = max(decision.program.context_tokens, 1)
        self._largest_tokens = max(self._largest_tokens, context)
        reuse = context / (context + self._result_tokens.get(tool, 0.0))
        score = 0.5 * (1.0 - reuse) + 0.2 * context / self._largest_tokens
        return BELOW_ALL + 0.3 * decision.time_s / self._longest_s - score


@register(
    "saga_lru",
    "leave in HBM, evicted by 0.3 idle + 0.5 (1 - P(reuse)) + 0.2 size, highest first",
    "SAGA WA-LRU (arXiv 2605.00528)",
    ("ranked",),
)
@dataclass
class SagaOrder(Residency):
    """Weights of a public implementation; ``longest_s`` is the idle time that counts as 1."""

    longest_s: float = number(300.0, low=1e-3)

    def reset(self) -> None:
        super().reset()
        self._order = ReuseOrder(self.longest_s)

    def turn_ready(self, decision: RouteDecision) -> None:
        self._order.note_result(decision)

    def place(self, decision: PlacementDecision) -> Place:
        self.count("ranked")
        return replace(KEEP, rank=self._order.rank(decision))


@register(
    "saga",
    "saga_ttl, and saga_lru for contexts whose pin ended",
    "SAGA (arXiv 2605.00528)",
    ("shortened", "pinned", "unseen"),
)
@dataclass
class Saga(SagaTTL):
    """Both halves of SAGA's residency."""

    longest_s: float = number(300.0, low=1e-3)

    def reset(self) -> None:
        super().reset()
        self._order = ReuseOrder(self.longest_s)

    def turn_ready(self, decision: RouteDecision) -> None:
        self._order.note_result(decision)

    def place(self, decision: PlacementDecision) -> Place:
        return replace(super().place(decision), rank=self._order.rank(decision))


register_bundle(
    "saga_system",
    "work_stealing+saga+short_queue",
    "SAGA with work stealing from the router's queue",
    "SAGA (arXiv 2605.00528)",
)
