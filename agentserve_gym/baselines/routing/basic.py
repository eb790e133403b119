"""Rules that look at no cache: cyclic, random, least loaded, better of two."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from agentserve_gym.baselines.estimates import least_loaded
from agentserve_gym.baselines.parts import Choice, Routing, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.sim import InstanceView, RouteDecision
from agentserve_gym.sim.kernel.randomness import uniform


@register("round_robin", "instances in turn", "folklore", ("cycles",))
@dataclass
class RoundRobin(Routing):
    """The next instance in cyclic order, of those that serve the turn's model."""

    def reset(self) -> None:
        super().reset()
        self._last: dict[str, int] = {}

    def choose(self, decision: RouteDecision) -> Choice:
        views = decision.instances
        last = self._last.get(decision.program.model, -1)
        following = bisect_right(views, last, key=lambda view: view.index)
        return Choice(views[following % len(views)].index, "cycles")

    def dispatched(self, decision: RouteDecision, instance: int) -> None:
        self._last[decision.program.model] = instance


def draw(seed: int, decision: RouteDecision, number_of_draw: int, count: int) -> int:
    """A draw from ``range(count)`` that depends on who asks, not on the order of events."""
    turn = decision.turn
    identity = (decision.program.stream, turn.number, decision.offers, number_of_draw)
    return int(uniform(seed, *identity) * count)


@register("random", "an instance at random", "folklore", ("draws",))
@dataclass
class Random(Routing):
    """Uniformly random."""

    seed: int = number(0)

    def choose(self, decision: RouteDecision) -> Choice:
        views = decision.instances
        return Choice(views[draw(self.seed, decision, 0, len(views))].index, "draws")


@register(
    "least_loaded",
    "fewest unfinished turns (join the shortest queue)",
    "folklore",
    ("choices",),
)
@dataclass
class LeastLoaded(Routing):
    """The instance with the fewest unfinished turns."""

    def choose(self, decision: RouteDecision) -> Choice:
        return Choice(least_loaded(decision.instances), "choices")


@register(
    "power_of_two",
    "the less loaded of two random instances",
    "Mitzenmacher 2001",
    ("second_taken", "first_taken"),
)
@dataclass
class PowerOfTwo(Routing):
    """The less loaded of two instances drawn at random."""

    seed: int = number(0)

    def choose(self, decision: RouteDecision) -> Choice:
        first, second = sample_two(self.seed, decision)
        if second.sent_turns < first.sent_turns:
            return Choice(second.index, "second_taken")
        return Choice(first.index, "first_taken")


def sample_two(seed: int, decision: RouteDecision) -> tuple[InstanceView, InstanceView]:
    """Two different instances at random; the same one twice where there is only one."""
    views = decision.instances
    count = len(views)
    first = draw(seed, decision, 0, count)
    if count == 1:
        return views[first], views[first]
    second = draw(seed, decision, 1, count - 1)
    return views[first], views[second + (second >= first)]
