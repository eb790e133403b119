"""Queue orders by arrival, program and pin."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.parts import Scheduling, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.sim import RouteDecision

AHEAD = -1e9
"""Added to the priority of a class that goes before everyone else (arrival times are seconds)."""


@register("fcfs", "first come, first served, by turn", "vLLM V1, stock")
@dataclass
class TurnFCFS(Scheduling):
    """The engine's own order."""

    def priority(self, decision: RouteDecision, instance: int) -> float:  # noqa: ARG002
        return 0.0


@register(
    "program_fcfs", "by arrival of the program", "Continuum (arXiv 2511.02230)", ("later_turns",)
)
@dataclass
class ProgramFCFS(Scheduling):
    """Turns of older programs first."""

    def priority(self, decision: RouteDecision, instance: int) -> float:  # noqa: ARG002
        return decision.program.arrival_s

    def dispatched(self, decision: RouteDecision, instance: int) -> None:  # noqa: ARG002
        if decision.turn.number:
            self.count("later_turns")


@register(
    "pinned_first",
    "programs whose context is pinned, then by arrival of the program",
    "Continuum (arXiv 2511.02230)",
    ("pinned", "unpinned"),
)
@dataclass
class PinnedFirst(Scheduling):
    """Stamped while the pin is still there: released first, this would be program FCFS."""

    def priority(self, decision: RouteDecision, instance: int) -> float:  # noqa: ARG002
        pinned = decision.cluster.is_pinned(decision.program)
        return decision.program.arrival_s + (AHEAD if pinned else 0.0)

    def dispatched(self, decision: RouteDecision, instance: int) -> None:  # noqa: ARG002
        pinned = decision.cluster.is_pinned(decision.program)
        self.count("pinned" if pinned else "unpinned")


@register(
    "searched_order",
    "pinned first, then program arrival in ms + context tokens up to `most_tokens`",
    "searched gate's priority (published artifact)",
    ("pinned", "unpinned"),
)
@dataclass
class SearchedOrder(Scheduling):
    """The priority that was searched together with ``gate``; a token weighs a millisecond."""

    most_tokens: int = number(10_000)

    def priority(self, decision: RouteDecision, instance: int) -> float:  # noqa: ARG002
        program = decision.program
        context = min(decision.turn.prompt_tokens, self.most_tokens)
        pinned = decision.cluster.is_pinned(program)
        return program.arrival_s + context / 1000.0 + (AHEAD if pinned else 0.0)

    def dispatched(self, decision: RouteDecision, instance: int) -> None:  # noqa: ARG002
        pinned = decision.cluster.is_pinned(decision.program)
        self.count("pinned" if pinned else "unpinned")
