"""Dynamo's router queue: hold while every worker has enough to prefill."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.parts import Admission, choice, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.sim import Hold, RouteDecision


@register(
    "router_queue",
    "hold while every instance's prefill backlog exceeds `threshold` x its token budget; release "
    "first come first served, or shortest prompt first (`order=wspt`)",
    "NVIDIA Dynamo router queue",
    ("held", "sent"),
)
@dataclass
class RouterQueue(Admission):
    """WSPT with equal priorities is 1 / prompt length, highest first."""

    threshold: float = number(4.0)
    order: str = choice("fcfs", "wspt")

    def admits(self, decision: RouteDecision, instance: int) -> bool:  # noqa: ARG002
        return any(
            view.load().prefill_backlog_tokens <= self.threshold * view.max_num_batched_tokens
            for view in decision.instances
        )

    def hold(self, decision: RouteDecision, instance: int) -> Hold:  # noqa: ARG002
        shortest_first = self.order == "wspt"
        return Hold(priority=float(decision.turn.prompt_tokens) if shortest_first else 0.0)

    def turn_held(self, decision: RouteDecision) -> None:
        if decision.offers == 0:
            self.count("held")

    def dispatched(self, decision: RouteDecision, instance: int) -> None:  # noqa: ARG002
        self.count("sent")
