"""Whom a shortage of KV blocks preempts.

vLLM V1 preempts the turn that was admitted last. Preempting the one with the fewest tokens instead
costs the least recomputation; a published search found that rule by itself.
"""

from __future__ import annotations

from collections.abc import Callable

from agentserve_gym.sim.kernel.batch import DecodeBatch
from agentserve_gym.sim.kernel.request import Request

Running = dict[int, Request]
"""Running turns by sequence, in order of admission."""


def last_admitted(running: Running, _batch: DecodeBatch) -> Request:
    """The tail of the running list."""
    return next(reversed(running.values()))


def fewest_tokens(running: Running, batch: DecodeBatch) -> Request:
    """The running turn with the least prompt and generated tokens; of equals the last admitted."""
    return min(reversed(running.values()), key=lambda request: _tokens(request, batch))


def _tokens(request: Request, batch: DecodeBatch) -> int:
    if request.sequence in batch.turns:
        return request.target_tokens + batch.step - request.decode_start
    return request.target_tokens


VICTIMS: dict[str, Callable[[Running, DecodeBatch], Request]] = {
    "last_admitted": last_admitted,
    "fewest_tokens": fewest_tokens,
}
"""By the names that a scenario uses."""
