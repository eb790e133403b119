"""Dynamo's router queue: hold while every worker has enough to prefill."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.admission.gate import Gate
from agentserve_gym.baselines.parts import number
from agentserve_gym.baselines.registry import register
from agentserve_gym.sim import RouteDecision


@register(
    "router_queue",
    "hold while every instance's prefill backlog exceeds `threshold` x its token budget; release "
    "first come first served, or by WSPT (`order=shortest_context`)",
    "NVIDIA Dynamo router queue",
    ("held", "sent"),
)
@dataclass
class RouterQueue(Gate):
    """WSPT with equal priorities is 1 / prompt length, highest first."""

    threshold: float = number(4.0)

    def admits(self, decision: RouteDecision, instance: int) -> bool:  # noqa: ARG002
        return any(
            view.load().prefill_backlog_tokens <= self.threshold * view.max_num_batched_tokens
            for view in decision.instances
        )

    def lane(self, instance: int) -> int:  # noqa: ARG002
        return 0

    def turn_held(self, decision: RouteDecision) -> None:
        if decision.offers == 0:
            self.count("held")

    def dispatched(self, decision: RouteDecision, instance: int) -> None:  # noqa: ARG002
        self.count("sent")
