"""MORI: HBM for the busiest programs, DRAM for the next, the others wait."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.idleness import IdlenessRanking
from agentserve_gym.baselines.parts import Residency, number
from agentserve_gym.baselines.registry import register, register_bundle
from agentserve_gym.baselines.residency.saga import BELOW_ALL
from agentserve_gym.sim import Place, PlacementDecision, PlacementKind, RouteDecision, offload


@register(
    "mori",
    "every 5 s rank programs by relative idleness: least idle pinned in HBM, next in DRAM, the "
    "rest first to be evicted",
    "MORI (arXiv 2606.00866)",
    ("demoted", "pinned", "promoted", "given_up"),
)
@dataclass
class Mori(Residency):
    """Moves are sticky: a program moves when its tier changes, not at every tick. ``hbm_share`` of
    HBM is the budget for contexts."""

    interval_s: float = number(5.0, low=1e-3)
    hbm_share: float = number(0.9, low=1e-3, high=1.0)

    def reset(self) -> None:
        super().reset()
        self.ranking = IdlenessRanking(self.interval_s, self.hbm_share)
        self._in_dram: set[int] = set()

    def gap_began(self, decision: PlacementDecision) -> None:
        self.ranking.gap_began(decision)

    def dispatched(self, decision: RouteDecision, instance: int) -> None:
        self._in_dram.discard(decision.program.index)
        self.ranking.admitted(decision.program, instance, decision.turn.prompt_tokens)

    def place(self, decision: PlacementDecision) -> Place:
        index, again_s = decision.program.index, self.interval_s
        tier = self.ranking.tier(decision.cluster, decision.program, decision.instance)
        if tier == "hbm" and index in self._in_dram:
            self._in_dram.discard(index)
            self.count("promoted")
            return Place(PlacementKind.PREFETCH, ask_again_s=again_s)
        if tier == "hbm":
            self.count("pinned")
            return Place(PlacementKind.PIN, ttl_s=2.0 * again_s, ask_again_s=again_s)
        if tier == "dram" and index not in self._in_dram:
            self._in_dram.add(index)
            self.count("demoted")
            return offload("dram", ask_again_s=again_s)
        self.count("given_up")
        return Place(PlacementKind.KEEP, rank=BELOW_ALL, ask_again_s=again_s)


register_bundle(
    "mori_system",
    "owner+mori+mori_gate",
    "MORI with its router and its gate for programs that wait",
    "MORI (arXiv 2606.00866)",
)
