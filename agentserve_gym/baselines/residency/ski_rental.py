"""Rent or buy: pin until holding has cost as much as restoring would."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.parts import Residency, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.sim import Place, PlacementDecision, PlacementKind, offload


@register(
    "ski_rental",
    "pin for recompute time / `price`",
    "ski rental, Karlin et al. 1988; baseline against Continuum",
    ("pinned",),
)
@dataclass
class SkiRental(Residency):
    """At worst twice the cost of knowing the gap. ``price`` is what a second of holding the
    context costs, in seconds of recomputing it."""

    price: float = number(1.0, low=1e-3)

    def place(self, decision: PlacementDecision) -> Place:
        self.count("pinned")
        return Place(PlacementKind.PIN, ttl_s=recompute_s(decision) / self.price)


def recompute_s(decision: PlacementDecision) -> float:
    """Time to prefill the whole context again on the instance that holds it."""
    context = max(decision.program.context_tokens, 1)
    return decision.cluster.prefill_s(decision.instance, context, 0)


@register(
    "pin_offload",
    "pin for `seconds`, then offload to DRAM if the gap is still on",
    "human-approval retention (arXiv 2608.30830)",
    ("offloaded", "pinned"),
)
@dataclass
class PinThenOffload(Residency):
    """Short gaps cost no transfer, long ones no HBM. Without DRAM the pin just ends."""

    seconds: float = number(1.0, low=1e-3)

    def place(self, decision: PlacementDecision) -> Place:
        if decision.elapsed_s == 0.0:
            self.count("pinned")
            again = self.seconds if decision.cluster.reaches(decision.instance, "dram") else None
            return Place(PlacementKind.PIN, ttl_s=self.seconds, ask_again_s=again)
        self.count("offloaded")
        return offload("dram")
