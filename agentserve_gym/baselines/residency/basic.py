"""Fixed rules: leave to LRU, drop, pin for a while, always offload."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from agentserve_gym.baselines.parts import Residency, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.sim import KEEP, Place, PlacementDecision, PlacementKind, offload


@register("lru", "leave in HBM as prefix cache, oldest evicted first", "vLLM V1, stock", ("kept",))
@dataclass
class LRU(Residency):
    """The stock prefix cache."""

    def place(self, decision: PlacementDecision) -> Place:  # noqa: ARG002
        self.count("kept")
        return KEEP


@register(
    "evict",
    "drop the KV when a turn ends; a strawman, not the stock engine",
    "vLLM without prefix caching",
    ("dropped",),
)
@dataclass
class EvictAtTurnEnd(Residency):
    """No prefix cache between turns."""

    def place(self, decision: PlacementDecision) -> Place:  # noqa: ARG002
        self.count("dropped")
        return Place(PlacementKind.DROP)


@register(
    "ttl", "pin for a fixed time", "folklore; Talaria (arXiv 2607.17181) pins 1 s", ("pinned",)
)
@dataclass
class FixedTTL(Residency):
    """Pin every context for ``seconds``, or until it returns."""

    seconds: float = number(2.0, low=1e-3)

    def place(self, decision: PlacementDecision) -> Place:  # noqa: ARG002
        self.count("pinned")
        return Place(PlacementKind.PIN, ttl_s=self.seconds)


@register("retain", "pin until the program's next turn is admitted", "folklore", ("pinned",))
@dataclass
class RetainAlways(Residency):
    """Pin every context without a deadline."""

    def place(self, decision: PlacementDecision) -> Place:  # noqa: ARG002
        self.count("pinned")
        return Place(PlacementKind.PIN, ttl_s=inf, until_admitted=True)


@register(
    "dram", "offload to host DRAM at every turn end", "vLLM OffloadingConnector", ("dram", "kept")
)
@dataclass
class AlwaysDRAM(Residency):
    """Offload every context to DRAM; where there is none, leave it to LRU."""

    def place(self, decision: PlacementDecision) -> Place:
        if decision.cluster.reaches(decision.instance, "dram"):
            self.count("dram")
            return offload("dram")
        self.count("kept")
        return KEEP
