"""Queue orders by what a turn has to prefill."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.parts import Scheduling
from agentserve_gym.baselines.registry import register
from agentserve_gym.sim import RouteDecision


@register(
    "shortest_prefill",
    "fewest uncached prompt tokens first",
    "shortest job first; Dynamo's WSPT with equal weights",
    ("reordered",),
)
@dataclass
class ShortestPrefill(Scheduling):
    """Uncached tokens as known when the turn is sent."""

    def priority(self, decision: RouteDecision, instance: int) -> float:
        cached = decision.cluster.instances[instance].cached_tokens(decision.turn)
        return float(decision.turn.prompt_tokens - cached)

    def dispatched(self, decision: RouteDecision, instance: int) -> None:
        if decision.cluster.instances[instance].load().queued_turns:
            self.count("reordered")


@register(
    "longest_prefix",
    "most cached prompt tokens first",
    "SGLang's longest prefix match (LPM)",
    ("matched", "unmatched"),
)
@dataclass
class LongestPrefix(Scheduling):
    """Turns with a long cached prefix go while it is there. Cached tokens as known when the turn is
    sent; SGLang looks them up again before every pass."""

    def priority(self, decision: RouteDecision, instance: int) -> float:
        return -float(decision.cluster.instances[instance].cached_tokens(decision.turn))

    def dispatched(self, decision: RouteDecision, instance: int) -> None:
        hit = decision.cluster.instances[instance].cached_tokens(decision.turn) > 0
        self.count("matched" if hit else "unmatched")
