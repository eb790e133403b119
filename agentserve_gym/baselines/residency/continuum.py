"""Continuum: pin a context for as long as its tool is worth waiting for."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.estimates import slowest_gap_s
from agentserve_gym.baselines.parts import Residency, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.sim import KEEP, Place, PlacementDecision, PlacementKind


@register(
    "continuum",
    "pin 2 s, until admitted, if the tool's mean is at most 2 s or unseen; else LRU",
    "Continuum (arXiv 2511.02230), released code",
    ("pinned", "slow_tool"),
)
@dataclass
class Continuum(Residency):
    """The released rule. A pin that the program returns to in time lasts until its turn is
    admitted, not merely until it arrives. Parallel tools count by the slowest."""

    seconds: float = number(2.0, low=1e-3)
    slow_s: float = number(2.0)

    order = "pinned_first"

    def place(self, decision: PlacementDecision) -> Place:
        mean = slowest_gap_s(decision, lambda kind: kind.mean_s)
        if mean is not None and mean > self.slow_s:
            self.count("slow_tool")
            return KEEP
        self.count("pinned")
        return Place(PlacementKind.PIN, ttl_s=self.seconds, until_admitted=True)


@register(
    "searched",
    "pin 2 s, released on return, unless the tool's average gap is known and above 3 s",
    "searched gate's retention (published artifact)",
    ("pinned", "slow_tool"),
)
@dataclass
class SearchedRetention(Residency):
    """The retention rule that was searched together with ``gate``; per tool, 0.8 old + 0.2 new."""

    seconds: float = number(2.0, low=1e-3)
    slow_s: float = number(3.0)

    order = "searched_order"

    def place(self, decision: PlacementDecision) -> Place:
        average = slowest_gap_s(decision, lambda kind: kind.ema_s)
        if average is not None and average > self.slow_s:
            self.count("slow_tool")
            return KEEP
        self.count("pinned")
        return Place(PlacementKind.PIN, ttl_s=self.seconds)
