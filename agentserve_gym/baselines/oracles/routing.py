"""Oracle of routing: roll every choice forward in a copy of the simulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agentserve_gym.baselines.estimates import least_loaded
from agentserve_gym.baselines.oracles.base import Foresight
from agentserve_gym.baselines.parts import Choice, Routing, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.sim import (
    KEEP,
    Answer,
    Decision,
    InstanceView,
    Route,
    RouteDecision,
    Simulation,
)


@register(
    "min_completion",
    "the instance on which this turn really completes first, by simulating each",
    "oracle: look-ahead on copies of the simulation",
    ("moved", "kept_home", "new"),
)
@dataclass
class MinCompletion(Foresight, Routing):
    """Every instance is tried in a copy, which then runs under session affinity and LRU until the
    turn completes, or for at most ``decisions`` decisions. Of idle instances that are alike, one
    is tried. A copy takes milliseconds, so this is for small scenarios."""

    decisions: int = number(200, low=1)

    def choose(self, decision: RouteDecision) -> Choice:
        views = decision.instances
        tried: dict[tuple[Any, ...], float] = {}
        ends: dict[int, float] = {}
        for view in views:
            likeness = _likeness(view, decision)
            if likeness not in tried:
                tried[likeness] = self._end_s(decision, view.index)
            ends[view.index] = tried[likeness]
        best = min(views, key=lambda view: (ends[view.index], view.sent_turns, view.index)).index
        home = decision.program.home
        if home < 0:
            return Choice(best, "new")
        return Choice(best, "kept_home" if best == home else "moved")

    def _end_s(self, decision: RouteDecision, instance: int) -> float:
        """When the turn completes on an instance."""
        copy = self.simulation.snapshot()
        pending = copy.pending
        assert pending is not None
        program, number_of_turn = pending.program, decision.turn.number
        answer: Answer = Route(instance)
        for _ in range(self.decisions):
            following = copy.advance(answer)
            if program.turns_done > number_of_turn:
                break
            if following is None:
                break
            answer = _stock(following)
        return _completion_s(copy, program.gap_started_s, program.turns_done > number_of_turn)


def _likeness(view: InstanceView, decision: RouteDecision) -> tuple[Any, ...]:
    """What makes two idle instances the same to this turn; a busy one is like no other."""
    busy = view.index if view.sent_turns else -1
    cached = view.cached_tokens(decision.turn)
    return (busy, view.node, id(view.latency), view.kv_blocks, view.load(), cached)


def _completion_s(copy: Simulation, gap_started_s: float, completed: bool) -> float:
    """The turn's end: the start of the gap after it, or, where none follows or the look-ahead
    ended before, the time that the copy has reached."""
    return gap_started_s if completed and gap_started_s > 0.0 else copy.now_s


def _stock(decision: Decision) -> Answer:
    """Session affinity and LRU."""
    if isinstance(decision, RouteDecision):
        home = decision.program.home
        return Route(home if home >= 0 else least_loaded(decision.instances))
    return KEEP
