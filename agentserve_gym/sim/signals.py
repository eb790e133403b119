"""How instances tell the router of themselves: at once, or late.

Signals may lag (``signal_delay_s``): each instance then keeps one log of changes, and the router's
cursor follows it that far behind; nothing is copied.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, Protocol

from agentserve_gym.sim.kernel.engine import Engine
from agentserve_gym.sim.kernel.events import Clock
from agentserve_gym.sim.kernel.pools import Key
from agentserve_gym.sim.kernel.programs import ProgramState


class Load(NamedTuple):
    """An instance's state as its signals report it.

    Attributes:
        queued_turns, loading_turns, prefilling_turns, decoding_turns: turns in each state.
        queued_tokens: uncached prompt tokens of queued turns.
        prefill_backlog_tokens: those, and what running prefills have left.
        context_tokens: sum of contexts of decoding turns.
        free_blocks, cached_blocks, pinned_blocks: of the HBM pool; the rest is in use.
    """

    queued_turns: int
    loading_turns: int
    prefilling_turns: int
    decoding_turns: int
    queued_tokens: int
    prefill_backlog_tokens: int
    context_tokens: int
    free_blocks: int
    cached_blocks: int
    pinned_blocks: int

    @property
    def running_turns(self) -> int:
        return self.prefilling_turns + self.decoding_turns

    @property
    def turns(self) -> int:
        """Turns queued, loading or running."""
        return self.queued_turns + self.loading_turns + self.running_turns


def read_load(engine: Engine) -> Load:
    """The engine's load at this moment."""
    steps_done = engine.synchronize()
    pool, batch = engine.pool, engine.batch
    decoding, queued_tokens = len(batch.turns), engine.queued_tokens
    return Load(
        len(engine.waiting),
        len(engine.loading),
        len(engine.prefilling),
        decoding,
        queued_tokens,
        queued_tokens + (engine.prefill_tokens_left() if engine.prefilling else 0),
        batch.context_tokens() + decoding * steps_done if decoding else 0,
        pool.free,
        pool.cached,
        pool.pinned if pool.pins else 0,
    )


class Signals(Protocol):
    """Where an instance view gets its knowledge from: the engine itself, or a log of it."""

    def load(self) -> Load:
        """The latest known load."""
        ...

    def cached_blocks(self, program: ProgramState, limit: int) -> int:
        """Leading blocks of a chain known to lie in the instance's HBM."""
        ...

    def look(self, program: ProgramState, limit: int) -> tuple[int, Load]:
        """Both at once."""
        ...


class LiveSignals:
    """Signals without delay."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def load(self) -> Load:
        return read_load(self._engine)

    def cached_blocks(self, program: ProgramState, limit: int) -> int:
        self._engine.synchronize()
        return self._engine.pool.match(program, limit)

    def look(self, program: ProgramState, limit: int) -> tuple[int, Load]:
        load = read_load(self._engine)
        return self._engine.pool.match(program, limit), load


class DelayedSignals:
    """Signals that arrive ``delay_s`` late: a log of changes with the router's cursor on it."""

    def __init__(self, engine: Engine, clock: Clock, delay_s: float) -> None:
        self._engine = engine
        self._clock = clock
        self._delay_s = delay_s
        self._loads: deque[tuple[float, Load]] = deque([(0.0, read_load(engine))])
        self._changes: deque[tuple[float, Key, int]] = deque()
        self._cached: dict[Key, int] = {}
        engine.pool.journal = self._note_change
        engine.on_change = self._note_load

    def load(self) -> Load:
        until = self._clock.time_s - self._delay_s
        while len(self._loads) > 1 and self._loads[1][0] <= until:
            self._loads.popleft()
        return self._loads[0][1]

    def cached_blocks(self, program: ProgramState, limit: int) -> int:
        self._engine.synchronize()
        self._follow()
        known = self._cached
        found = 0
        for key, size in program.prefix:
            blocks = known.get(key, 0)
            found += blocks
            if blocks < size or found >= limit:
                return min(found, limit)
        return min(found + known.get(program.index, 0), limit)

    def look(self, program: ProgramState, limit: int) -> tuple[int, Load]:
        return self.cached_blocks(program, limit), self.load()

    def _note_load(self) -> None:
        self.load()
        self._loads.append((self._clock.time_s, read_load(self._engine)))

    def _note_change(self, key: Key, blocks: int) -> None:
        self._follow()
        at_s = self._engine.pool.changing_at_s
        self._changes.append((self._clock.time_s if at_s is None else at_s, key, blocks))

    def _follow(self) -> None:
        until = self._clock.time_s - self._delay_s
        while self._changes and self._changes[0][0] <= until:
            _, key, blocks = self._changes.popleft()
            if blocks:
                self._cached[key] = blocks
            else:
                self._cached.pop(key, None)
