"""What gates share: the order in which they release the turns that they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agentserve_gym.baselines.parts import Admission, Scheduling, choice
from agentserve_gym.sim import Hold, RouteDecision

RELEASE_ORDERS = ("scenario", "turn_arrival", "program_arrival", "shortest_context", "queue")


def release_order(*first: str) -> Any:
    """The parameter ``order``; ``first`` names the default, and orders that only one gate has."""
    return choice(*dict.fromkeys((*first, *RELEASE_ORDERS)))


@dataclass
class Gate(Admission):
    """Admission that holds turns, and says which of them it releases first.

    ``order``: ``scenario`` leaves it to the scenario's ``router.held_order``, which also decides
    among equals of every other order; ``queue`` is that of the policy's scheduling part, as if the
    gate stood at the head of an instance's queue.
    """

    order: str = release_order("scenario")

    def join(self, scheduling: Scheduling) -> None:
        self._scheduling = scheduling

    def hold(self, decision: RouteDecision, instance: int) -> Hold:
        return Hold(self.release_priority(decision, instance), self.lane(instance))

    def lane(self, instance: int) -> int:
        """Turns held for one instance do not wait for those held for another."""
        return instance

    def release_priority(self, decision: RouteDecision, instance: int) -> float:
        """A held turn's place, lowest first."""
        if self.order == "turn_arrival":
            return decision.turn.ready_s
        if self.order == "program_arrival":
            return decision.program.arrival_s
        if self.order == "shortest_context":
            return float(decision.turn.prompt_tokens)
        if self.order == "queue":
            return self._scheduling.priority(decision, instance)
        return 0.0
