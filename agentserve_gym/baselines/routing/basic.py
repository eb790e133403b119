"""Rules that look at no cache: cyclic, random, least loaded, better of two."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.estimates import least_loaded
from agentserve_gym.baselines.parts import Choice, Routing, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.sim import RouteDecision
from agentserve_gym.sim.kernel.randomness import uniform


@register("round_robin", "instances in turn", "folklore", ("cycles",))
@dataclass
class RoundRobin(Routing):
    """The next instance in cyclic order."""

    def reset(self) -> None:
        super().reset()
        self._next = 0

    def choose(self, decision: RouteDecision) -> Choice:
        return Choice(self._next % len(decision.cluster.instances), "cycles")

    def dispatched(self, decision: RouteDecision, instance: int) -> None:
        self._next = (instance + 1) % len(decision.cluster.instances)


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
        return Choice(draw(self.seed, decision, 0, len(decision.cluster.instances)), "draws")


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
        return Choice(least_loaded(decision.cluster.instances), "choices")


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
        views = decision.cluster.instances
        first, second = sample_two(self.seed, decision)
        if views[second].sent_turns < views[first].sent_turns:
            return Choice(second, "second_taken")
        return Choice(first, "first_taken")


def sample_two(seed: int, decision: RouteDecision) -> tuple[int, int]:
    """Two different instances at random; the same one twice where there is only one."""
    count = len(decision.cluster.instances)
    first = draw(seed, decision, 0, count)
    if count == 1:
        return first, first
    second = draw(seed, decision, 1, count - 1)
    return first, second + (second >= first)
