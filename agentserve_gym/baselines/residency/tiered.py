"""Rules that spread contexts over the lower tiers, whatever a cluster has of them."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.estimates import copy_s, slowest_gap_s
from agentserve_gym.baselines.parts import Residency, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.sim import KEEP, Place, PlacementDecision, offload

MEMORY_TIERS = ("dram", "cxl")
"""Tiers that writing does not wear out."""


@register(
    "dram_cxl",
    "offload to DRAM, or to the farthest tier (CXL, NVMe) if the tools are expected to take longer "
    "than `long_s`",
    "tiering by expected gap",
    ("near", "far", "kept"),
)
@dataclass
class NearOrFar(Residency):
    """The expected gap is the slowest tool's exponential average; unseen tools count as short.
    Where there is only one tier, it takes everything."""

    long_s: float = number(10.0)

    def place(self, decision: PlacementDecision) -> Place:
        tiers = decision.cluster.reached_tiers(decision.instance)
        if not tiers:
            self.count("kept")
            return KEEP
        expected = slowest_gap_s(decision, lambda kind: kind.ema_s) or 0.0
        far = expected > self.long_s and len(tiers) > 1
        self.count("far" if far else "near")
        return offload(tiers[-1 if far else 0])


@register(
    "write_through",
    "copy to the nearest lower tier at every turn end and leave HBM to LRU: eviction is free",
    "SGLang HiCache / Dynamo KVBM, write-through",
    ("copied", "kept"),
)
@dataclass
class WriteThrough(Residency):
    """Unlike ``dram``, the copy in HBM keeps its place in the order of reclaim."""

    def place(self, decision: PlacementDecision) -> Place:
        tiers = decision.cluster.reached_tiers(decision.instance)
        if not tiers:
            self.count("kept")
            return KEEP
        self.count("copied")
        return offload(tiers[0], stay_warm=True)


@register(
    "kvbm",
    "write through to the nearest lower tier, and to the farthest (CXL, NVMe) what was used at "
    "least `uses` times",
    "Dynamo KVBM, frequency-filtered lower tier",
    ("copied", "copied_far", "filtered", "kept"),
)
@dataclass
class FrequencyFiltered(Residency):
    """The second copy starts ``delay_s`` after the first and is taken from HBM. A lone tier is
    filtered if it is a disk and not memory (DRAM, CXL)."""

    uses: int = number(2, low=1)
    delay_s: float = number(0.05, low=1e-3)

    def place(self, decision: PlacementDecision) -> Place:
        tiers = decision.cluster.reached_tiers(decision.instance)
        if not tiers:
            self.count("kept")
            return KEEP
        if decision.elapsed_s > 0.0:
            self.count("copied_far")
            return offload(tiers[-1], stay_warm=True)
        often = decision.program.turns_done >= self.uses
        if not often and len(tiers) == 1 and tiers[0] not in MEMORY_TIERS:
            self.count("filtered")
            return KEEP
        self.count("copied")
        again = often and len(tiers) > 1
        return offload(tiers[0], stay_warm=True, ask_again_s=self.delay_s if again else None)


@register(
    "unison",
    "move a context only if its bytes fit the budget expected gap x link bandwidth: to the nearest "
    "tier that they fit, else leave it",
    "UNISON (arXiv 2609.09643)",
    ("moved", "over_budget"),
)
@dataclass
class MoveBudget(Residency):
    """The transfer of what the tier does not hold yet, links' queues included, must fit ``share``
    of the expected gap."""

    share: float = number(0.5, low=1e-3, high=1.0)

    def place(self, decision: PlacementDecision) -> Place:
        expected_s = slowest_gap_s(decision, lambda kind: kind.ema_s) or 0.0
        for tier in decision.cluster.reached_tiers(decision.instance):
            if copy_s(decision, tier) <= self.share * expected_s:
                self.count("moved")
                return offload(tier)
        self.count("over_budget")
        return KEEP
