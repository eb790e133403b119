"""Whom a shortage of KV blocks preempts, and where it waits then.

vLLM V1 preempts the turn that was admitted last; with its policy ``priority``, the one that its
queue would serve last. Preempting the one with the fewest tokens instead costs the least
recomputation; a published search found that rule by itself.
"""

from __future__ import annotations

from collections.abc import Callable

from agentserve_gym.sim.kernel.batch import DecodeBatch
from agentserve_gym.sim.kernel.request import QueueKey, Request

Running = dict[int, Request]
"""Running turns by sequence, in order of admission."""


def last_admitted(running: Running, _batch: DecodeBatch) -> Request:
    """The tail of the running list."""
    return next(reversed(running.values()))


def fewest_tokens(running: Running, batch: DecodeBatch) -> Request:
    """The running turn with the least prompt and generated tokens; of equals the last admitted."""
    return min(reversed(running.values()), key=lambda request: _tokens(request, batch))


def lowest_priority(running: Running, _batch: DecodeBatch) -> Request:
    """The running turn of the highest priority number; of equals the last that arrived."""
    return max(running.values(), key=lambda request: (request.priority, request.sequence))


def _tokens(request: Request, batch: DecodeBatch) -> int:
    if request.sequence in batch.turns:
        return request.target_tokens + batch.step - request.decode_start
    return max(request.target_tokens, request.computed_tokens)


def before_all(request: Request, preemptions: int) -> QueueKey:
    """At the front, before those that were preempted earlier; ``preemptions`` counts them."""
    return (-1, -preemptions, request.sequence)


def own_place(request: Request, _preemptions: int) -> QueueKey:
    """Where it was before it was admitted."""
    return (0, request.priority, request.sequence)


Choice = Callable[[Running, DecodeBatch], Request]
Place = Callable[[Request, int], QueueKey]

VICTIMS: dict[str, tuple[Choice, Place]] = {
    "last_admitted": (last_admitted, before_all),
    "fewest_tokens": (fewest_tokens, before_all),
    "lowest_priority": (lowest_priority, own_place),
}
"""By the names that a scenario uses."""
