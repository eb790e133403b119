"""Actions: numbers that stand for answers, and masks of those that are possible.

A route is ``3 x instance + queue class``, or the last number, hold. Placements are listed by
``PlaceActions``. Of these numbers, one that the mask excludes becomes an answer that is not
possible either; the simulation then falls back to a safe one (home, else of the instances that
serve the program's model the one with fewest turns; keep) and counts it. Anything else is an error
of the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.envs.expected_return import ask_again_s
from agentserve_gym.envs.queue_classes import PriorityReader, QueueClass
from agentserve_gym.sim import (
    KEEP,
    Answer,
    Hold,
    Place,
    PlacementDecision,
    PlacementKind,
    Route,
    RouteDecision,
    offload,
)

Mask = NDArray[np.int8]
CLASSES = len(QueueClass)
_LONGEST_TTL_S = 1e9
"""What a pin without end counts as."""
_NOT_POSSIBLE = Place(PlacementKind.PREFETCH, rank=nan)
"""A prefetch that the mask excludes: its rank makes the simulation refuse and count it."""


class RouteActions:
    """``3 x max_instances + 1`` actions: for each instance, ahead, in order and behind; then hold.

    Attributes:
        size: how many. ``hold``: the number of hold, the last.
        names: of each, in words.
    """

    def __init__(self, max_instances: int) -> None:
        self.hold = CLASSES * max_instances
        self.size = self.hold + 1
        places = [(number, place) for number in range(max_instances) for place in QueueClass]
        self.names = (*(f"instance {number}, {place.text}" for number, place in places), "hold")
        self._answers: list[Answer] = [Route(number, place.priority) for number, place in places]
        self._answers.append(Hold())

    @staticmethod
    def to(instance: int, queue_class: QueueClass = QueueClass.IN_ORDER) -> int:
        """The action that sends a turn to an instance."""
        return CLASSES * instance + queue_class

    def answer(self, action: int) -> Answer:
        """The answer that an action stands for."""
        return self._answers[action]

    def action(self, answer: Answer, reader: PriorityReader) -> int:
        """The action closest to an answer: the route's instance, and its priority as the reader has
        it, whatever its restore rule or promotion; hold for every hold, whatever its priority and
        lane, and for an answer that is not a route to an instance."""
        if isinstance(answer, Route) and 0 <= CLASSES * answer.instance < self.hold:
            return self.to(answer.instance, reader.read(answer.instance, answer.priority))
        return self.hold

    def write_mask(self, mask: Mask, decision: RouteDecision) -> None:
        """Write 1 for each possible action, 0 for the rest: padding, instances of other models."""
        mask[:] = 0
        by_instance = mask[: self.hold].reshape(-1, CLASSES)
        by_instance[[view.index for view in decision.instances]] = 1
        mask[self.hold] = decision.may_hold

    def write_unasked(self, mask: Mask) -> None:
        """Only hold, as the one action that means nothing while no route is asked."""
        mask[:] = 0
        mask[self.hold] = 1


class PlaceActions:
    """What can become of KV during a tool gap, in this order:

    - keep: leave it in HBM under LRU;
    - pin until the program returns, for at most the scenario's ``pin_until_return_s``;
    - pin for each of the scenario's ``pin_ttls_s``;
    - copy to each lower tier, where the copy in HBM keeps its place (write-through);
    - move to each lower tier, where it becomes the first to be reclaimed;
    - prefetch what a lower tier holds and HBM lacks (no such action without lower tiers);
    - drop every copy.

    A pin that is alive when the program returns lasts until its turn is admitted. After a copy or a
    move the placement is asked once more in the gap, at ``expected_return.ask_again_s``, if
    something can be prefetched then; at no other time can it be.

    Attributes:
        size: how many.
        names: of each, in words.
        answers: of each, without when to ask again.
    """

    def __init__(
        self, pin_until_return_s: float, pin_ttls_s: Sequence[float], tiers: Sequence[str]
    ) -> None:
        self._pins_s = (pin_until_return_s, *pin_ttls_s)
        pins = [
            Place(PlacementKind.PIN, ttl_s=ttl_s, until_admitted=True) for ttl_s in self._pins_s
        ]
        copies = [offload(tier, stay_warm=True) for tier in tiers]
        moves = [offload(tier) for tier in tiers]
        prefetches = [Place(PlacementKind.PREFETCH)] if tiers else []
        self.answers = (KEEP, *pins, *copies, *moves, *prefetches, Place(PlacementKind.DROP))
        self.size = len(self.answers)
        self.names = (
            "keep",
            "pin until return",
            *(f"pin {ttl_s:g} s" for ttl_s in pin_ttls_s),
            *(f"copy to {tier}" for tier in tiers),
            *(f"move to {tier}" for tier in tiers),
            *("prefetch" for _ in prefetches),
            "drop",
        )
        first = 1 + len(pins)
        self._copies = {tier: first + number for number, tier in enumerate(tiers)}
        self._moves = {tier: action + len(tiers) for tier, action in self._copies.items()}
        self._prefetch = self.size - 2 if tiers else None

    def is_question(self, decision: PlacementDecision) -> bool:
        """Whether a policy is asked: where a placement comes up again, whether something can be
        prefetched. Otherwise all stays as it is (keep)."""
        return decision.elapsed_s == 0.0 or self.can_prefetch(decision)

    def can_prefetch(self, decision: PlacementDecision) -> bool:
        """Whether the placement is asked again and a tier that the home instance reaches holds more
        of the context than its HBM, as far as signals tell."""
        if decision.elapsed_s == 0.0 or self._prefetch is None:
            return False
        cluster, program, home = decision.cluster, decision.program, decision.instance
        here = cluster.chain_tokens(program, home, "hbm")
        return any(cluster.chain_tokens(program, home, tier) > here for tier in cluster.tiers)

    def answer(self, action: int, decision: PlacementDecision) -> Answer:
        """The answer that an action stands for at a decision."""
        place = self.answers[action]
        if place.kind is PlacementKind.OFFLOAD and decision.elapsed_s == 0.0:
            again_s = ask_again_s(decision, place.tier)
            if again_s is not None:
                return offload(place.tier, stay_warm=place.stay_warm, ask_again_s=again_s)
        elif action == self._prefetch and not self.can_prefetch(decision):
            return _NOT_POSSIBLE
        return place

    def action(self, answer: Answer, decision: PlacementDecision) -> int:
        """The action closest to an answer.

        A pin: that whose time has the nearest logarithm, be it for a TTL or until the program
        returns; also where the pin would have ended on return. Prefetch: keep where it is not
        possible. Ranks and the policy's own times of asking again are not expressed. An offload to
        a tier that there is no action for, or an answer that is not a placement: keep.
        """
        if not isinstance(answer, Place):
            return 0
        if answer.kind is PlacementKind.PIN:
            return self._nearest_pin(answer.ttl_s)
        if answer.kind is PlacementKind.OFFLOAD:
            return (self._copies if answer.stay_warm else self._moves).get(answer.tier, 0)
        if answer.kind is PlacementKind.PREFETCH and self.can_prefetch(decision):
            assert self._prefetch is not None
            return self._prefetch
        return self.size - 1 if answer.kind is PlacementKind.DROP else 0

    def _nearest_pin(self, ttl_s: float) -> int:
        wanted = log(min(max(ttl_s, 1e-9), _LONGEST_TTL_S))
        distances = [abs(log(known_s) - wanted) for known_s in self._pins_s]
        return 1 + distances.index(min(distances))

    def write_mask(self, mask: Mask, decision: PlacementDecision) -> None:
        """Write 1 for each possible action, 0 for tiers that the home instance does not reach, and
        for prefetch where there is nothing to be brought back."""
        mask[:] = 1
        for actions in (self._copies, self._moves):
            for tier, action in actions.items():
                mask[action] = decision.cluster.reaches(decision.instance, tier)
        if self._prefetch is not None:
            mask[self._prefetch] = self.can_prefetch(decision)

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
