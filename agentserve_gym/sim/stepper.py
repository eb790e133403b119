"""Steps in time: how long they take and how many are run as one event.

Decode-only steps run in closed form, and so do the full chunks of one long prefill; such a run
(``Segment``) ends at the first step boundary at which anything can change: a completion, blocks
running out, or a turn becoming admissible. What happens in between may move that end, never the
past. A stepper drives one engine, or a data-parallel group whose engines step together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from math import sqrt
from typing import TYPE_CHECKING, Protocol

from agentserve_gym.hardware.lockstep import (
    SharedExpertLatency,
    lockstep_decode_run,
    lockstep_step_s,
)
from agentserve_gym.hardware.timing import LatencyModel
from agentserve_gym.sim.clock import LATE, Call, Clock

if TYPE_CHECKING:
    from agentserve_gym.sim.engine import Engine


_CLEAR = 1e-6
"""Share of a step by which rounding cannot displace a boundary."""


class Segment(Protocol):
    """Steps that an engine has planned from ``start_s`` on.

    ``steps`` may be lowered later, never below the steps that have started.
    """

    start_s: float
    steps: int

    def boundary_s(self, steps: int) -> float:
        """When the first ``steps`` steps have ended."""
        ...

    def completed(self, now_s: float) -> int:
        """How many of the planned steps have ended by ``now_s``."""
        ...


@dataclass(slots=True)
class DecodeSegment:
    """Decode-only steps in closed form: the i-th takes ``first_step_s + i * growth_s``."""

    start_s: float
    first_step_s: float
    growth_s: float
    steps: int

    def boundary_s(self, steps: int) -> float:
        return self.start_s + (
            steps * self.first_step_s + self.growth_s * (0.5 * steps * (steps - 1))
        )

    def completed(self, now_s: float) -> int:
        start, first, growth, steps = self.start_s, self.first_step_s, self.growth_s, self.steps
        if now_s < start + first:
            return 0
        if steps == 1:
            return 1
        elapsed = now_s - start
        linear = first - 0.5 * growth
        # The root of the boundaries' parabola, in the form that also holds without growth.
        passed = 2.0 * elapsed / (linear + sqrt(linear * linear + 2.0 * growth * elapsed))
        count = int(passed)
        if count >= steps:
            count = steps
        elif _CLEAR < passed - count < 1.0 - _CLEAR:
            return count
        # Near a boundary, boundaries decide, as they do when they are scheduled.
        while count < steps and self.boundary_s(count + 1) <= now_s:
            count += 1
        while count > 0 and self.boundary_s(count) > now_s:
            count -= 1
        return count


@dataclass(slots=True)
class PrefillSegment:
    """Steps with prefill chunks, priced one by one; ``boundaries_s``: the start and every end.

    Several steps are planned at once only where one turn takes the whole token budget in each of
    them: nobody can be admitted in between.
    """

    start_s: float
    boundaries_s: list[float]
    steps: int

    def boundary_s(self, steps: int) -> float:
        return self.boundaries_s[steps]

    def completed(self, now_s: float) -> int:
        return bisect_right(self.boundaries_s, now_s, 1, self.steps + 1) - 1


class Stepper(ABC):
    """Runs the steps of its engines.

    Attributes:
        members: the engines, which add themselves.
        segment: the steps that run now, ``None`` when idle.
    """

    def __init__(self, clock: Clock, *, async_scheduling: bool, fused: bool) -> None:
        self.members: list[Engine] = []
        self.segment: Segment | None = None
        self._clock = clock
        self._async = async_scheduling
        self._fused = fused
        self._event_serial = 0
        self._kick_at_s = -1.0

    def wake(self) -> None:
        """Start stepping, after everything else that happens at this instant."""
        now = self._clock.time_s
        if self._kick_at_s != now:
            self._kick_at_s = now
            self._clock.call_at(now, self._on_kick, priority=LATE)

    def shorten(self, steps: int) -> None:
        """End the current run after ``steps`` steps."""
        segment = self.segment
        assert segment is not None
        segment.steps = steps
        self._schedule_end(segment)

    @abstractmethod
    def _plan(self, planned_at_s: float) -> Segment | None:
        """Plan the steps that start now, from what was known at ``planned_at_s``."""

    def _on_kick(self, _call: Call) -> None:
        self._kick_at_s = -1.0
        if self.segment is None:
            self._begin(self._clock.time_s)

    def _on_boundary(self, call: Call) -> None:
        segment = self.segment
        if segment is None or call.argument != self._event_serial:
            return
        ended = [(engine, turns) for engine in self.members if (turns := engine.complete(segment))]
        planned_at_s = self._clock.time_s
        if self._async:
            planned_at_s = segment.boundary_s(segment.steps - 1)
        self.segment = None
        self._begin(planned_at_s)
        for engine, turns in ended:
            engine.announce(turns)

    def _begin(self, planned_at_s: float) -> None:
        segment = self.segment = self._plan(planned_at_s)
        if segment is not None:
            self._schedule_end(segment)

    def _schedule_end(self, segment: Segment) -> None:
        self._event_serial = serial = self._event_serial + 1
        self._clock.call_at(segment.boundary_s(segment.steps), self._on_boundary, serial)


class SingleStepper(Stepper):
    """One engine on its own."""

    def __init__(
        self, latency: LatencyModel, clock: Clock, *, async_scheduling: bool, fused: bool
    ) -> None:
        super().__init__(clock, async_scheduling=async_scheduling, fused=fused)
        self._latency = latency

    def _plan(self, planned_at_s: float) -> Segment | None:
        engine = self.members[0]
        engine.plan(planned_at_s)
        now = self._clock.time_s
        if engine.chunks:
            steps = engine.full_chunks() if self._fused else 1
            seconds = self._latency.prefill_run(engine.shape(), steps)
            return PrefillSegment(now, list(accumulate(seconds, initial=now)), steps)
        if not engine.batch.turns:
            return None
        first_s, growth_s, steps = self._latency.decode_run(engine.batch.shape())
        steps = engine.decode_steps(steps) if self._fused else 1
        return DecodeSegment(now, first_s, growth_s, steps)


class LockstepStepper(Stepper):
    """A data-parallel group with expert parallelism: a step ends when its slowest member's does."""

    def __init__(
        self,
        latency: SharedExpertLatency,
        graph_tokens: int,
        clock: Clock,
        *,
        async_scheduling: bool,
        fused: bool,
    ) -> None:
        super().__init__(clock, async_scheduling=async_scheduling, fused=fused)
        self._latency = latency
        self._graph_tokens = graph_tokens

    def _plan(self, planned_at_s: float) -> Segment | None:
        for engine in self.members:
            engine.plan(planned_at_s)
        if not any(engine.has_work for engine in self.members):
            return None
        now = self._clock.time_s
        shapes = [engine.shape() for engine in self.members]
        if any(engine.chunks for engine in self.members):
            step_s = lockstep_step_s(self._latency, shapes, self._graph_tokens)
            return PrefillSegment(now, [now, now + step_s], 1)
        run = lockstep_decode_run(self._latency, shapes, self._graph_tokens)
        steps = 1
        if self._fused:
            steps = min(engine.decode_steps(run.steps) for engine in self.members)
        return DecodeSegment(now, run.first_step_s, run.growth_s, steps)
