"""What a policy thinks of the options that a decision has, for people who look at a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from agentserve_gym.sim import Answer, Decision, RouteDecision
from agentserve_gym.sim.driving import Policy


class Scores(NamedTuple):
    """A number for each option, by name: ``instance 2`` of a route, a place such as ``pin`` of a
    placement. The least wins, or the most; an admission rule may still hold a turn."""

    of: Mapping[str, float]
    least_wins: bool


@runtime_checkable
class Explaining(Protocol):
    """A policy that can tell its scores."""

    def explain(self, decision: Decision) -> Scores | None:
        """The scores by which ``decide`` would now answer, or ``None``; changes nothing."""
        ...


class ScoreKeeper:
    """Answers as a policy does, and keeps its scores.

    Attributes:
        routes, placements: an entry for each decision, in order; ``None`` where there are none.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.routes: list[Scores | None] = []
        self.placements: list[Scores | None] = []

    def decide(self, decision: Decision) -> Answer:
        """The policy's answer."""
        policy = self._policy
        scores = policy.explain(decision) if isinstance(policy, Explaining) else None
        kept = self.routes if isinstance(decision, RouteDecision) else self.placements
        kept.append(scores)
        return policy.decide(decision)
