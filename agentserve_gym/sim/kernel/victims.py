"""Whom a shortage of KV blocks preempts.

vLLM V1 preempts the turn that was admitted last. Preempting the one with the fewest tokens instead
costs the least recomputation; a published search found that rule by itself.
"""

from __future__ import annotations

from collections.abc import Callable

from agentserve_gym.sim.kernel.batch import DecodeBatch
from agentserve_gym.sim.kernel.programs import TurnState

Running = dict[int, TurnState]
"""Running turns by sequence, in order of admission."""


def last_admitted(running: Running, _batch: DecodeBatch) -> TurnState:
    """The tail of the running list."""
    return next(reversed(running.values()))


def fewest_tokens(running: Running, batch: DecodeBatch) -> TurnState:
    """The running turn with the least prompt and generated tokens; of equals the last admitted."""
    return min(reversed(running.values()), key=lambda turn: _tokens(turn, batch))


def _tokens(turn: TurnState, batch: DecodeBatch) -> int:
    if turn.sequence in batch.turns:
        return turn.target_tokens + batch.step - turn.decode_start
    return turn.target_tokens


VICTIMS: dict[str, Callable[[Running, DecodeBatch], TurnState]] = {
    "last_admitted": last_admitted,
    "fewest_tokens": fewest_tokens,
}
"""By the names that a scenario uses."""
