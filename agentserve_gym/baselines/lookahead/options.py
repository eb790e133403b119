"""What else could be answered: a few alternatives to a base policy's answer, lever by lever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from agentserve_gym.baselines.estimates import predicted_ttft_s
from agentserve_gym.sim import (
    KEEP,
    Answer,
    Decision,
    Hold,
    Place,
    PlacementDecision,
    PlacementKind,
    Route,
    RouteDecision,
    offload,
)

LEVERS = ("all", "routing", "admission", "order", "placement")
"""Which answers may change: the instance, whether a turn waits at the router, its place in the
instance's queue, where KV waits."""

_FIRST, _LAST = -1e15, 1e15
_LONG_S = 120.0


class Option(NamedTuple):
    """An answer, and how many tokens of luck come with it: 0 but for placebos."""

    answer: Answer
    luck_tokens: int = 0


def options(decision: Decision, answer: Answer, lever: str, most: int) -> list[Option]:
    """The base policy's answer, and at most ``most`` others that move the lever; of all levers,
    the best of each first."""
    found = [Option(answer)]
    for other in _others(decision, answer, lever):
        if len(found) > most:
            break
        if other != answer:
            found.append(Option(other))
    return found


def _others(decision: Decision, answer: Answer, lever: str) -> Iterator[Answer]:
    if isinstance(decision, PlacementDecision):
        if lever in ("all", "placement"):
            yield from _places(decision, answer)
        return
    if isinstance(answer, Hold):
        if lever in ("all", "admission"):
            yield from _routes(decision, Route(-1))
    elif isinstance(answer, Route):
        routes = list(_routes(decision, answer)) if lever in ("all", "routing") else []
        yield from routes[:1]
        if lever in ("all", "admission") and decision.may_hold:
            yield Hold()
        if lever in ("all", "order"):
            yield from _orders(decision, answer)
        yield from routes[1:]


def _routes(decision: RouteDecision, answer: Route) -> Iterator[Answer]:
    """Other instances, the one with the least predicted TTFT first."""
    others = [view.index for view in decision.instances if view.index != answer.instance]
    for index in sorted(others, key=lambda index: predicted_ttft_s(decision, index)):
        yield answer._replace(instance=index)


def _orders(decision: RouteDecision, answer: Route) -> Iterator[Answer]:
    """First and last in the queue, where there is one."""
    if decision.cluster.instances[answer.instance].load().queued_turns:
        yield answer._replace(priority=_FIRST)
        yield answer._replace(priority=_LAST)


def _places(decision: PlacementDecision, answer: Answer) -> Iterator[Answer]:
    """Pinned for long, left to LRU, first to go, and a copy in each tier within reach."""
    pinned = isinstance(answer, Place) and answer.kind is PlacementKind.PIN
    if not pinned:
        yield Place(PlacementKind.PIN, ttl_s=_LONG_S, until_admitted=True)
    yield KEEP
    yield Place(PlacementKind.KEEP, rank=_FIRST)
    for tier in decision.cluster.reached_tiers(decision.instance):
        yield offload(tier, stay_warm=True)
