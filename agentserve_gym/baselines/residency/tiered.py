"""Rules that spread contexts over DRAM and CXL."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.estimates import slowest_gap_s
from agentserve_gym.baselines.parts import Residency, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.sim import KEEP, Place, PlacementDecision, PlacementKind, Tier


@register(
    "dram_cxl",
    "offload to DRAM, or to CXL if the tools are expected to take longer than `long_s`",
    "tiering by expected gap",
    ("dram", "cxl", "kept"),
)
@dataclass
class DramThenCXL(Residency):
    """The expected gap is the slowest tool's exponential average; unseen tools count as short.
    Where only one of the two tiers exists, it takes everything."""

    long_s: float = number(10.0)

    def place(self, decision: PlacementDecision) -> Place:
        cluster, at = decision.cluster, decision.instance
        expected = slowest_gap_s(decision, lambda kind: kind.ema_s) or 0.0
        if cluster.has_cxl[at] and (expected > self.long_s or not cluster.has_dram[at]):
            self.count("cxl")
            return Place(PlacementKind.CXL)
        if cluster.has_dram[at]:
            self.count("dram")
            return Place(PlacementKind.DRAM)
        self.count("kept")
        return KEEP


@register(
    "write_through",
    "copy to DRAM at every turn end and leave HBM to LRU: eviction is free",
    "SGLang HiCache / Dynamo KVBM, write-through",
    ("copied", "kept"),
)
@dataclass
class WriteThrough(Residency):
    """Unlike ``dram``, the copy in HBM keeps its place in the order of reclaim."""

    def place(self, decision: PlacementDecision) -> Place:
        if not decision.cluster.has_dram[decision.instance]:
            self.count("kept")
            return KEEP
        self.count("copied")
        return Place(PlacementKind.DRAM, stay_warm=True)


@register(
    "kvbm",
    "write through to DRAM, and to CXL what was used at least `uses` times",
    "Dynamo KVBM, frequency-filtered lower tier",
    ("copied_to_cxl", "copied", "kept"),
)
@dataclass
class FrequencyFiltered(Residency):
    """The second copy starts ``delay_s`` after the first and is taken from HBM."""

    uses: int = number(2, low=1)
    delay_s: float = number(0.05, low=1e-3)

    def place(self, decision: PlacementDecision) -> Place:
        cluster, at = decision.cluster, decision.instance
        if decision.elapsed_s > 0.0:
            self.count("copied_to_cxl")
            return Place(PlacementKind.CXL, stay_warm=True)
        if not cluster.has_dram[at]:
            self.count("kept")
            return KEEP
        self.count("copied")
        again = cluster.has_cxl[at] and decision.program.turns_done >= self.uses
        return Place(
            PlacementKind.DRAM, stay_warm=True, ask_again_s=self.delay_s if again else None
        )


@register(
    "unison",
    "move a context only if its bytes fit the budget expected gap x link bandwidth: to DRAM, else "
    "to CXL, else leave it",
    "UNISON (arXiv 2609.09643)",
    ("moved", "over_budget"),
)
@dataclass
class MoveBudget(Residency):
    """The transfer, links' queues included, must fit ``share`` of the expected gap."""

    share: float = number(0.5, low=1e-3, high=1.0)

    def place(self, decision: PlacementDecision) -> Place:
        cluster, program = decision.cluster, decision.program
        expected_s = slowest_gap_s(decision, lambda kind: kind.ema_s) or 0.0
        for tier, kind, reachable in (
            (Tier.DRAM, PlacementKind.DRAM, cluster.has_dram[decision.instance]),
            (Tier.CXL, PlacementKind.CXL, cluster.has_cxl[decision.instance]),
        ):
            if not reachable:
                continue
            if cluster.offload_s(program, tier, program.context_tokens) <= self.share * expected_s:
                self.count("moved")
                return Place(kind)
        self.count("over_budget")
        return KEEP
