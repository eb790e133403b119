"""Turns wait at the router instead of at an engine, where they could no longer go elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.admission.gate import Gate
from agentserve_gym.baselines.parts import number
from agentserve_gym.baselines.registry import register
from agentserve_gym.sim import RouteDecision


@register(
    "short_queue",
    "hold while `turns` turns wait at the instance",
    "what work stealing needs",
    ("held", "sent"),
)
@dataclass
class ShortQueue(Gate):
    """Turns that were sent and that late signals do not show yet count as waiting."""

    turns: int = number(1, low=1)

    def admits(self, decision: RouteDecision, instance: int) -> bool:
        view = decision.cluster.instances[instance]
        load = view.load()
        return load.queued_turns + max(view.sent_turns - load.turns, 0) < self.turns

    def turn_held(self, decision: RouteDecision) -> None:
        if decision.offers == 0:
            self.count("held")

    def dispatched(self, decision: RouteDecision, instance: int) -> None:  # noqa: ARG002
        self.count("sent")
