"""MORI's gate: who returns to a context outside HBM waits until it is promoted."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.admission.gate import Gate, release_order
from agentserve_gym.baselines.idleness import IdlenessRanking
from agentserve_gym.baselines.parts import number
from agentserve_gym.baselines.registry import register
from agentserve_gym.sim import PlacementDecision, RouteDecision


@register(
    "mori_gate",
    "hold a program until it ranks into the HBM budget or there is room for it",
    "MORI (arXiv 2606.00866)",
    ("blocked", "ranked_in", "let_in"),
)
@dataclass
class MoriGate(Gate):
    """Least idle first among those who wait. Newcomers are ranked with the others."""

    order: str = release_order("least_idle")
    interval_s: float = number(5.0, low=1e-3)
    hbm_share: float = number(0.9, low=1e-3, high=1.0)

    def reset(self) -> None:
        super().reset()
        self._ranking = IdlenessRanking(self.interval_s, self.hbm_share)

    def gap_began(self, decision: PlacementDecision) -> None:
        self._ranking.gap_began(decision)

    def admits(self, decision: RouteDecision, instance: int) -> bool:
        program, cluster = decision.program, decision.cluster
        tokens = decision.turn.prompt_tokens
        self._ranking.waits(program, instance, tokens)
        if self._ranking.tier(cluster, program, instance) == "hbm":
            return True
        return self._ranking.has_room(cluster, program, instance, tokens)

    def release_priority(self, decision: RouteDecision, instance: int) -> float:
        if self.order == "least_idle":
            return self._ranking.idleness(decision.program, decision.time_s)
        return super().release_priority(decision, instance)

    def turn_held(self, decision: RouteDecision) -> None:
        if decision.offers == 0:
            self.count("blocked")

    def dispatched(self, decision: RouteDecision, instance: int) -> None:
        program = decision.program
        ranked = self._ranking.tier(decision.cluster, program, instance) == "hbm"
        self.count("ranked_in" if ranked else "let_in")
        self._ranking.admitted(program, instance, decision.turn.prompt_tokens)
