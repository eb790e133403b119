"""Queue classes: the three places in an instance's queue that a route may ask for.

Policies of other kinds give any priority (an arrival time, seconds of service, uncached tokens);
here these become classes, for imitation and for runs through the environments' actions.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum

_RECENT = 32
_FEWEST = 3


class QueueClass(IntEnum):
    """Where a turn joins its instance's queue; within a class first come, first served."""

    AHEAD = 0
    IN_ORDER = 1
    BEHIND = 2

    @property
    def priority(self) -> float:
        """The ``Route.priority`` that it stands for."""
        return float(self - QueueClass.IN_ORDER)

    @property
    def text(self) -> str:
        return ("ahead", "in order", "behind")[self]


_OWN = {queue_class.priority: queue_class for queue_class in QueueClass}


class PriorityReader:
    """Reads one policy's priorities as queue classes, in the order in which it gives them.

    As long as they are nothing but -1, 0 and 1, they are the classes' own and nothing is lost.
    After any other, a priority is compared with the last 32 that the policy gave at the same
    instance: ahead if more than two thirds of them are higher, behind if more than two thirds are
    lower, else (and while there are fewer than three) in order. So a turn overtakes about whom it
    should, but the order of turns in one class is that of their arrival.
    """

    def __init__(self) -> None:
        self._only_own = True
        self._recent: dict[int, deque[float]] = {}

    def read(self, instance: int, priority: float) -> QueueClass:
        """The class of the next priority that the policy gives, and remember it."""
        recent = self._recent.setdefault(instance, deque(maxlen=_RECENT))
        self._only_own = self._only_own and priority in _OWN
        found = _OWN[priority] if self._only_own else _among(recent, priority)
        recent.append(priority)
        return found


def _among(recent: deque[float], priority: float) -> QueueClass:
    most = 2 * len(recent)
    if len(recent) < _FEWEST:
        return QueueClass.IN_ORDER
    if 3 * sum(other > priority for other in recent) > most:
        return QueueClass.AHEAD
    if 3 * sum(other < priority for other in recent) > most:
        return QueueClass.BEHIND
    return QueueClass.IN_ORDER
