"""Offload during the gap and bring the context back before its predicted end."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.estimates import copy_s, slowest_gap_s, utilization
from agentserve_gym.baselines.parts import Residency, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.baselines.residency.saga import BELOW_ALL
from agentserve_gym.sim import (
    KEEP,
    Place,
    PlacementDecision,
    PlacementKind,
    offload,
)


def return_s(decision: PlacementDecision) -> float:
    """Time to bring the whole context back from DRAM, as the links are now."""
    tokens = decision.program.context_tokens
    return decision.cluster.load_s(decision.instance, "dram", tokens)


@register(
    "tokencake",
    "offload to DRAM if HBM is under pressure, someone waits, and the call outlasts the transfers; "
    "prefetch before the predicted return",
    "Tokencake (arXiv 2510.18586)",
    ("offloaded", "prefetched", "kept"),
)
@dataclass
class Tokencake(Residency):
    """Predicts a call by its tool's exponential average. The transfers are those of what DRAM does
    not hold yet, and of the whole context back. ``pressure`` is the KV utilisation above
    which HBM counts as short; the upload begins ``lead_s`` earlier than its transfer needs."""

    pressure: float = number(0.8, high=1.0)
    lead_s: float = number(0.1)

    def place(self, decision: PlacementDecision) -> Place:
        if decision.elapsed_s > 0.0:
            self.count("prefetched")
            return Place(PlacementKind.PREFETCH)
        predicted_s = slowest_gap_s(decision, lambda kind: kind.ema_s)
        if predicted_s is None or not self._short_of_room(decision):
            self.count("kept")
            return KEEP
        out_s, back_s = copy_s(decision, "dram"), return_s(decision)
        if predicted_s <= out_s + back_s:
            self.count("kept")
            return KEEP
        self.count("offloaded")
        again_s = max(predicted_s - back_s - self.lead_s, out_s, self.lead_s)
        return offload("dram", ask_again_s=again_s)

    def _short_of_room(self, decision: PlacementDecision) -> bool:
        cluster = decision.cluster
        if not cluster.reaches(decision.instance, "dram"):
            return False
        view = cluster.instances[decision.instance]
        waiting = view.load().queued_turns + cluster.held_turns
        return waiting > 0 and utilization(view) > self.pressure


@register(
    "kvflow",
    "evict the context whose next step is farthest; back it up in DRAM and prefetch it before",
    "KVFlow (arXiv 2507.07400)",
    ("ranked", "prefetched"),
)
@dataclass
class KVFlow(Residency):
    """Steps to execution: one for a program that waits for its tools, one more if it waits for
    sub-agents; within a step the predicted return decides. Own contexts are evicted before shared
    prompts. ``lead_s`` is how much earlier than needed the prefetch begins."""

    lead_s: float = number(0.1)
    step_s: float = number(1000.0, low=1.0)

    def place(self, decision: PlacementDecision) -> Place:
        predicted_s = slowest_gap_s(decision, lambda kind: kind.ema_s) or 0.0
        rank = self._rank(decision, predicted_s)
        if decision.elapsed_s > 0.0:
            self.count("prefetched")
            return Place(PlacementKind.PREFETCH, rank=rank)
        self.count("ranked")
        if not decision.cluster.reaches(decision.instance, "dram"):
            return Place(PlacementKind.KEEP, rank=rank)
        again_s = predicted_s - return_s(decision) - self.lead_s
        again = again_s if again_s > copy_s(decision, "dram") else None
        return offload("dram", stay_warm=True, rank=rank, ask_again_s=again)

    def _rank(self, decision: PlacementDecision, predicted_s: float) -> float:
        children = any(
            program.parent is decision.program for program in decision.cluster.programs.values()
        )
        started_s = decision.time_s - decision.elapsed_s
        return BELOW_ALL - (started_s + predicted_s + self.step_s * children)
