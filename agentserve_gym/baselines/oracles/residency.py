"""Oracles of residency: pins as long as the true gap, Belady's order."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.oracles.base import Foresight
from agentserve_gym.baselines.parts import Residency, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.baselines.residency.saga import BELOW_ALL
from agentserve_gym.baselines.residency.ski_rental import recompute_s
from agentserve_gym.sim import Place, PlacementDecision, PlacementKind

_NEVER_S = 1e12
"""Longer than any gap."""


@register(
    "true_gap",
    "pin for exactly the gap if it costs no more than recomputing, else let go at once",
    "oracle: ski rental that knows the gap",
    ("pinned", "let_go"),
)
@dataclass
class TrueGapTTL(Foresight, Residency):
    """The least that any TTL could waste at this ``price`` of holding (see ``ski_rental``)."""

    price: float = number(0.1, low=1e-3)

    order = "pinned_first"

    def place(self, decision: PlacementDecision) -> Place:
        gap_s = self.gap_left_s(decision.program, decision.elapsed_s)
        if gap_s * self.price <= recompute_s(decision):
            self.count("pinned")
            ttl_s = gap_s * (1.0 + 1e-9) + 1e-6
            return Place(PlacementKind.PIN, ttl_s=ttl_s, until_admitted=True)
        self.count("let_go")
        return Place(PlacementKind.KEEP, rank=BELOW_ALL)


@register(
    "belady",
    "evict the context that is needed last",
    "oracle: Belady 1966, on KV",
    ("ranked",),
)
@dataclass
class Belady(Foresight, Residency):
    """Ranks contexts by the true end of their gap. Optimal for caches without pins, sizes and
    queues; here an upper reference, not a bound."""

    def place(self, decision: PlacementDecision) -> Place:
        self.count("ranked")
        gap_s = min(self.gap_left_s(decision.program, decision.elapsed_s), _NEVER_S)
        return Place(PlacementKind.KEEP, rank=BELOW_ALL - (decision.time_s + gap_s))
