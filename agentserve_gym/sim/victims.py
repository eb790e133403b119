"""Whom a shortage of KV blocks preempts.

vLLM V1 preempts the turn that was admitted last. Preempting the one with the fewest tokens instead
costs the least recomputation; a published search found that rule by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentserve_gym.sim.engine import Engine
    from agentserve_gym.sim.programs import TurnState


def last_admitted(engine: Engine) -> TurnState:
    """The tail of the running list."""
    return next(reversed(engine.running.values()))


def fewest_tokens(engine: Engine) -> TurnState:
    """The running turn with the least prompt and generated tokens; of equals the last admitted."""
    return min(reversed(engine.running.values()), key=lambda turn: _tokens(engine, turn))


def _tokens(engine: Engine, turn: TurnState) -> int:
    if turn.sequence in engine.batch.turns:
        return turn.target_tokens + engine.batch.step - turn.decode_start
    return turn.target_tokens


VICTIMS: dict[str, Callable[[Engine], TurnState]] = {
    "last_admitted": last_admitted,
    "fewest_tokens": fewest_tokens,
}
"""By the names that a scenario uses."""
