"""How instances tell the router of themselves: at once, late, or when a step ends.

Signals may lag (``signal_delay_s``): each instance then keeps one log of changes, and the router's
cursor follows it that far behind; nothing is copied. Loads may be those of the last step's end
(``load_signal``), as engines' metrics have them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from typing import NamedTuple

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.sim.kernel.engine import Engine
from agentserve_gym.sim.kernel.events import Clock
from agentserve_gym.sim.kernel.host import StepWatcher, Watcher
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


_new = tuple.__new__


def read_load(engine: Engine) -> Load:
    """The engine's load at this moment."""
    steps_done = engine.synchronize()
    pool, batch = engine.pool, engine.batch
    decoding, queued_tokens = len(batch.turns), engine.queue.uncached_tokens
    return _new(  # in half the time that the class's own constructor takes
        Load,
        (
            len(engine.queue.turns),
            len(engine.queue.loading),
            len(engine.prefilling),
            decoding,
            queued_tokens,
            queued_tokens + (engine.prefill_tokens_left() if engine.prefilling else 0),
            batch.context_tokens() + decoding * steps_done if decoding else 0,
            pool.free,
            pool.cached,
            pool.pinned if pool.pins else 0,
        ),
    )


@mypyc_attr(allow_interpreted_subclasses=True)
class Signals(Copyable):
    """Where an instance view gets its knowledge from: the engine itself, or a log of it."""

    @abstractmethod
    def load(self) -> Load:
        """The latest known load."""

    @abstractmethod
    def cached_blocks(self, program: ProgramState, limit: int) -> int:
        """Leading blocks of a chain known to lie in the instance's HBM."""

    @abstractmethod
    def look(self, program: ProgramState, limit: int) -> tuple[int, Load]:
        """Both at once."""


@mypyc_attr(allow_interpreted_subclasses=True)
class LiveSignals(Signals):
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


@mypyc_attr(allow_interpreted_subclasses=True)
class _ChangeLog(Watcher):
    """What happened to an engine, and how far the router knows of it: up to ``delay_s`` ago."""

    def __init__(self, engine: Engine, clock: Clock, delay_s: float) -> None:
        self._engine = engine
        self._clock = clock
        self._delay_s = delay_s
        self._loads: deque[tuple[float, Load]] = deque([(0.0, read_load(engine))])
        self._changes: deque[tuple[float, Key, int]] = deque()
        self._known: dict[Key, int] = {}

    def load_changed(self) -> None:
        self.known_load()
        self._loads.append((self._clock.time_s, read_load(self._engine)))

    def entry_changed(self, key: Key, blocks: int) -> None:
        self.known_blocks()
        at_s = self._engine.pool.changing_at_s
        self._changes.append((self._clock.time_s if at_s is None else at_s, key, blocks))

    def known_load(self) -> Load:
        """The load of then."""
        until = self._clock.time_s - self._delay_s
        while len(self._loads) > 1 and self._loads[1][0] <= until:
            self._loads.popleft()
        return self._loads[0][1]

    def known_blocks(self) -> dict[Key, int]:
        """Blocks by entry of the pool then."""
        until = self._clock.time_s - self._delay_s
        while self._changes and self._changes[0][0] <= until:
            _, key, blocks = self._changes.popleft()
            if blocks:
                self._known[key] = blocks
            else:
                self._known.pop(key, None)
        return self._known


@mypyc_attr(allow_interpreted_subclasses=True)
class DelayedSignals(Signals):
    """Signals that arrive ``delay_s`` late: a log of changes with the router's cursor on it."""

    def __init__(self, engine: Engine, clock: Clock, delay_s: float) -> None:
        self._engine = engine
        self._log = _ChangeLog(engine, clock, delay_s)
        engine.pool.watcher = engine.watcher = self._log

    def load(self) -> Load:
        return self._log.known_load()

    def cached_blocks(self, program: ProgramState, limit: int) -> int:
        self._engine.synchronize()
        known = self._log.known_blocks()
        found = 0
        for key, size in program.prefix:
            blocks = known.get(key, 0)
            found += blocks
            if blocks < size or found >= limit:
                return min(found, limit)
        return min(found + known.get(program.index, 0), limit)

    def look(self, program: ProgramState, limit: int) -> tuple[int, Load]:
        return self.cached_blocks(program, limit), self.load()


@mypyc_attr(allow_interpreted_subclasses=True)
class _StepEnds(StepWatcher):
    """An engine's load as its metrics show it: as the scheduler left it when a step last ended.

    That is before the next step admits turns or, with async scheduling, which plans it a step
    ahead, after that. Turns that came while the step ran are not in it. In the middle of a run of
    fused steps, blocks that transfers and placements took or freed since the last end are in it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._shown = read_load(engine)

    def metrics_shown(self, began_s: float) -> None:
        self._shown = self._without_later(began_s)

    def load(self, now_s: float) -> Load:
        """The load that the metrics show now."""
        segment = self._engine.segment
        done = segment.completed(now_s) if segment is not None else 0
        if segment is None or not done:
            return self._shown
        return self._without_later(segment.boundary_s(done - 1))

    def _without_later(self, time_s: float) -> Load:
        """The engine's load without the turns that came after a time and still wait."""
        load, engine = read_load(self._engine), self._engine
        later = [turn for turn in engine.queue.turns if turn.visible_after_s > time_s]
        if not later:
            return load
        tokens = sum(turn.uncached_tokens for turn in later)
        return load._replace(
            queued_turns=load.queued_turns - len(later),
            queued_tokens=load.queued_tokens - tokens,
            prefill_backlog_tokens=load.prefill_backlog_tokens - tokens,
        )


@mypyc_attr(allow_interpreted_subclasses=True)
class StepEndSignals(Signals):
    """Loads as of the last step's end; what is cached comes from ``events``, other signals."""

    def __init__(self, engine: Engine, clock: Clock, events: Signals) -> None:
        self._clock = clock
        self._events = events
        self._ends = _StepEnds(engine)
        engine.step_watcher = self._ends

    def load(self) -> Load:
        return self._ends.load(self._clock.time_s)

    def cached_blocks(self, program: ProgramState, limit: int) -> int:
        return self._events.cached_blocks(program, limit)

    def look(self, program: ProgramState, limit: int) -> tuple[int, Load]:
        return self.cached_blocks(program, limit), self.load()
