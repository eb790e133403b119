"""Actions: numbers that stand for answers, and masks of those that are possible.

A route is the number of an instance, or the last number, hold. A placement counts, in order: keep
(leave in HBM under LRU), pin for each of the scenario's pin TTLs, offload to each of its lower
tiers, drop. Of these numbers, one that the mask excludes becomes an answer that is not possible
either; the simulation then falls back to a safe one (home, else of the instances that serve the
program's model the one with fewest turns; keep) and counts it. Anything else is an error of the
caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.sim import (
    KEEP,
    Answer,
    Decision,
    Hold,
    Place,
    PlacementKind,
    Route,
    RouteDecision,
    offload,
)

Mask = NDArray[np.int8]
_LONGEST_TTL_S = 1e9
"""What a pin without end counts as."""


class RouteActions:
    """``max_instances + 1`` actions: an instance, or hold (the last)."""

    def __init__(self, max_instances: int) -> None:
        self.size = max_instances + 1
        self.hold = max_instances
        self.names = (*(f"instance {number}" for number in range(max_instances)), "hold")
        self._answers: list[Answer] = [Route(number) for number in range(max_instances)]
        self._answers.append(Hold())

    def answer(self, action: int) -> Answer:
        """The answer that an action stands for."""
        return self._answers[action]

    def action(self, answer: Answer) -> int:
        """The action closest to an answer: the route's instance whatever its priority, restore rule
        or promotion; hold for every hold, and for an answer that is not a route to an instance."""
        if isinstance(answer, Route) and 0 <= answer.instance < self.hold:
            return answer.instance
        return self.hold

    def write_mask(self, mask: Mask, decision: Decision) -> None:
        """Write 1 for each possible action, 0 for the rest: padding, instances of other models."""
        assert isinstance(decision, RouteDecision)
        views, number = decision.instances, len(decision.cluster.instances)
        mask[:number] = len(views) == number
        mask[number:] = 0
        if len(views) < number:
            mask[[view.index for view in views]] = 1
        mask[self.hold] = decision.may_hold

    def write_unasked(self, mask: Mask) -> None:
        """Only hold, as the one action that means nothing while no route is asked."""
        mask[:] = 0
        mask[self.hold] = 1


class PlaceActions:
    """Keep, pin for each TTL, offload to each lower tier, drop."""

    def __init__(self, pin_ttls_s: Sequence[float], tiers: Sequence[str]) -> None:
        pins = [Place(PlacementKind.PIN, ttl_s=ttl_s) for ttl_s in pin_ttls_s]
        lower = [offload(tier) for tier in tiers]
        self._answers = [KEEP, *pins, *lower, Place(PlacementKind.DROP)]
        self.size = len(self._answers)
        self.names = ("keep", *(f"pin {ttl_s:g} s" for ttl_s in pin_ttls_s), *tiers, "drop")
        self._pin_ttls_s = tuple(pin_ttls_s)
        self._offloads = {tier: 1 + len(pins) + i for i, tier in enumerate(tiers)}

    def answer(self, action: int) -> Answer:
        """The answer that an action stands for."""
        return self._answers[action]

    def action(self, answer: Answer) -> int:
        """The action closest to an answer.

        A pin: the TTL with the nearest logarithm, or keep where the scenario has no pins. Prefetch:
        keep, which moves nothing; what lies in a lower tier is then loaded when the program
        returns. Ranks, asking again and staying warm are not expressed. An offload to a tier that
        there is no action for, or an answer that is not a placement: keep.
        """
        if not isinstance(answer, Place):
            return 0
        if answer.kind is PlacementKind.PIN:
            return self._nearest_pin(answer.ttl_s)
        if answer.kind is PlacementKind.OFFLOAD:
            return self._offloads.get(answer.tier, 0)
        return self.size - 1 if answer.kind is PlacementKind.DROP else 0

    def _nearest_pin(self, ttl_s: float) -> int:
        wanted = log(min(max(ttl_s, 1e-9), _LONGEST_TTL_S))
        distances = [abs(log(known_s) - wanted) for known_s in self._pin_ttls_s]
        return 1 + distances.index(min(distances)) if distances else 0

    def write_mask(self, mask: Mask, decision: Decision) -> None:
        """Write 1 for each possible action, 0 for tiers that the home instance does not reach."""
        assert not isinstance(decision, RouteDecision)
        mask[:] = 1
        for tier, action in self._offloads.items():
            mask[action] = decision.cluster.reaches(decision.instance, tier)

    def write_unasked(self, mask: Mask) -> None:
        """Only keep, as the one action that means nothing while no placement is asked."""
        mask[:] = 0
        mask[0] = 1


def one_integer(action: Any, size: int) -> int:
    """An action of a discrete space of ``size`` actions as ``int``.

    Raises:
        ValueError: if it is not one integer from 0 to ``size - 1``.
    """
    if type(action) is int and 0 <= action < size:
        return action
    value = action
    if isinstance(action, np.ndarray) and action.shape in ((), (1,)):
        value = action.item() if action.dtype.kind in "iu" else None
    if type(value) is not int and isinstance(value, np.integer):
        value = int(value)
    if type(value) is not int or not 0 <= value < size:
        raise ValueError(f"action is {action!r}; allowed: an integer from 0 to {size - 1}")
    return value


def two_integers(action: Any, routes: int, placements: int) -> tuple[int, int]:
    """An action of the joint space as ``(route, placement)``.

    Raises:
        ValueError: if it is not a pair of integers below ``routes`` and ``placements``.
    """
    pair = action.tolist() if isinstance(action, np.ndarray) else action
    if isinstance(pair, (list, tuple)) and len(pair) == 2:
        try:
            return one_integer(pair[0], routes), one_integer(pair[1], placements)
        except ValueError:
            pass
    raise ValueError(
        f"action is {action!r}; allowed: two integers (route, placement), the route from 0 to "
        f"{routes - 1}, the placement from 0 to {placements - 1}"
    )
