"""Admission by HBM capacity."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from agentserve_gym.baselines.admission.gate import Gate
from agentserve_gym.baselines.estimates import utilization
from agentserve_gym.baselines.parts import Admission, number
from agentserve_gym.baselines.registry import register, register_bundle
from agentserve_gym.sim import RouteDecision


@register("none", "every turn is sent at once", "stock")
@dataclass
class NoAdmissionControl(Admission):
    """Queues form in the engines only."""

    def admits(self, decision: RouteDecision, instance: int) -> bool:  # noqa: ARG002
        return True


class PendingNeed:
    """Tokens promised to turns that an instance's signals do not show yet.

    Several turns admitted at one moment must count each other; an instance whose signals lag knows
    nothing of them, the router that sent them does.
    """

    def __init__(self) -> None:
        self._sent: dict[int, deque[int]] = {}

    def sent(self, instance: int, tokens: int) -> None:
        """A turn with ``tokens`` uncached was sent."""
        self._sent.setdefault(instance, deque(maxlen=4096)).append(tokens)

    def tokens(self, decision: RouteDecision, instance: int) -> int:
        """Tokens still to be taken: queued there, or on the way."""
        view = decision.cluster.instances[instance]
        load = view.load()
        unseen = view.sent_turns - load.turns
        recent = self._sent.get(instance, ())
        on_the_way = list(recent)[-unseen:] if unseen > 0 else []
        return load.queued_tokens + sum(on_the_way)

    def room_tokens(self, decision: RouteDecision, instance: int) -> int:
        """Tokens that fit blocks which are free or evictable, less those promised."""
        view = decision.cluster.instances[instance]
        load = view.load()
        unused = (load.free_blocks + load.cached_blocks) * view.block_size_tokens
        return unused - self.tokens(decision, instance)


@register(
    "gate",
    "hold while KV utilisation > `utilization` and the uncached prompt exceeds free + evictable, "
    "unless the context is pinned",
    "searched capacity gate (published artifact)",
    ("held", "admitted_pinned", "admitted"),
)
@dataclass
class CapacityGate(Gate):
    """Caps the active working set at what HBM holds. Room is what is free or evictable, less what
    turns already sent will take."""

    utilization: float = number(0.9, high=1.0)

    def reset(self) -> None:
        super().reset()
        self._pending = PendingNeed()

    def admits(self, decision: RouteDecision, instance: int) -> bool:
        if decision.cluster.is_pinned(decision.program):
            return True
        view = decision.cluster.instances[instance]
        if utilization(view) <= self.utilization:
            return True
        need = decision.turn.prompt_tokens - view.cached_tokens(decision.turn)
        return need <= self._pending.room_tokens(decision, instance)

    def turn_held(self, decision: RouteDecision) -> None:  # noqa: ARG002
        self.count("held")

    def dispatched(self, decision: RouteDecision, instance: int) -> None:
        pinned = decision.cluster.is_pinned(decision.program)
        self.count("admitted_pinned" if pinned else "admitted")
        cached = decision.cluster.instances[instance].cached_tokens(decision.turn)
        self._pending.sent(instance, decision.turn.prompt_tokens - cached)


register_bundle(
    "searched_gate",
    "gate(order=queue)+searched+searched_order",
    "the searched policy whole: gate, retention and priority, at the gate too",
    "searched capacity gate (published artifact)",
)
register_bundle(
    "seed_only",
    "searched+searched_order",
    "the searched policy without its gate",
    "searched capacity gate, ablation",
)
