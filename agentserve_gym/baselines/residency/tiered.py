"""Rules that spread contexts over DRAM and CXL."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.estimates import slowest_gap_s
from agentserve_gym.baselines.parts import Residency, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.sim import KEEP, Place, PlacementDecision, PlacementKind


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
