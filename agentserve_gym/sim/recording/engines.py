"""What instances do: the steps that they run, and the turns that they preempt."""

from __future__ import annotations

from agentserve_gym.sim.kernel.engine import Engine
from agentserve_gym.sim.kernel.request import Request
from agentserve_gym.sim.kernel.segments import Segment
from agentserve_gym.sim.recording.history import (
    NOBODY,
    BatchSlice,
    Chunk,
    Preemption,
    RunHistory,
)


def turns_at(engine: Engine) -> list[Request]:
    """All turns that wait, load or run at an engine."""
    queue = engine.queue
    return [*queue.turns, *queue.loading.values(), *engine.running.values()]


class EngineObserver:
    """Writes the batches of one engine."""

    def __init__(self, engine: Engine, history: RunHistory) -> None:
        self._engine = engine
        self._history = history
        self._segment: Segment | None = None
        self._decoding = 0
        self._chunks: tuple[Chunk, ...] = ()
        self._preemptions = 0
        self._preempted: dict[tuple[int, int], int] = {}

    def observe(self, now_s: float) -> bool:
        """Take note of what has changed at this instant; whether steps were planned."""
        engine, before = self._engine, self._segment
        segment = engine.segment
        if segment is before:
            return False
        if before is not None:
            self._write(before, now_s, before.steps)
        self._segment = segment
        self._decoding = len(engine.batch.turns)
        self._chunks = tuple(
            Chunk(request.program.index, request.turn.number, request.chunk_tokens)
            for request in engine.chunks
        )
        if engine.preemptions != self._preemptions:
            self._name_preempted(now_s)
        return True

    def finish(self, now_s: float) -> None:
        """The run ends here."""
        if self._segment is not None and now_s > self._segment.start_s:
            self._write(self._segment, now_s, self._segment.completed(now_s))

    def _write(self, segment: Segment, end_s: float, steps: int) -> None:
        self._history.batches.append(
            BatchSlice(
                self._engine.index, segment.start_s, end_s, steps, self._decoding, self._chunks
            )
        )

    def _name_preempted(self, now_s: float) -> None:
        """Note what has been preempted since the last look; those turns wait, or run again."""
        engine, index = self._engine, self._engine.index
        new = engine.preemptions - self._preemptions
        self._preemptions = engine.preemptions
        for request in turns_at(engine):
            turn = request.program.index, request.turn.number
            times = request.preemptions - self._preempted.get(turn, 0)
            if times:
                self._preempted[turn] = request.preemptions
                self._history.preemptions += [Preemption(now_s, index, *turn)] * times
                new -= times
        self._history.preemptions += [Preemption(now_s, index, NOBODY, NOBODY)] * new
