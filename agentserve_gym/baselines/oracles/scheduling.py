"""Oracles of scheduling: shortest remaining work."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.oracles.base import Foresight
from agentserve_gym.baselines.parts import Scheduling
from agentserve_gym.baselines.registry import register
from agentserve_gym.sim import ProgramState, RouteDecision
from agentserve_gym.sim.ideal import turn_service_s


@register(
    "srpt",
    "programs with the least service left first",
    "oracle: shortest remaining processing time",
    ("stamped",),
)
@dataclass
class ShortestRemaining(Foresight, Scheduling):
    """Service left is the prefill and decode time of this and all later turns, each alone on the
    instance and with full reuse."""

    def reset(self) -> None:
        super().reset()
        self._left_s: dict[tuple[int, int], list[float]] = {}

    def priority(self, decision: RouteDecision, instance: int) -> float:
        self.count("stamped")
        program = decision.program
        known = (program.index, instance)
        if known not in self._left_s:
            self._left_s[known] = self._remaining(program, instance)
        return self._left_s[known][decision.turn.number]

    def _remaining(self, program: ProgramState, instance: int) -> list[float]:
        """Service from each turn on."""
        engine = self.simulation.engines[instance]
        plan = self.simulation.orchestrator.plan_of(program)
        left: list[float] = []
        total = 0.0
        for turn in reversed(plan.turns):
            first = turn is plan.turns[0]
            reuse = plan.shared_prefix_tokens if first else turn.reuse_tokens
            total += turn_service_s(engine, turn, reuse)
            left.append(total)
        return left[::-1]
