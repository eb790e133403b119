"""Steps in time: how long they take and how many are run as one event.

A stepper drives one engine, or a data-parallel group whose engines step together.
"""

from __future__ import annotations

from abc import abstractmethod
from itertools import accumulate
from math import inf

from mypy_extensions import mypyc_attr

from agentserve_gym.hardware.pricing.lockstep import (
    SharedExpertLatency,
    lockstep_decode_run,
    lockstep_step_s,
)
from agentserve_gym.hardware.pricing.timing import BatchStep, LatencyModel
from agentserve_gym.sim.kernel.batch import DecodeBatch
from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.sim.kernel.events import LATE, Clock, Event
from agentserve_gym.sim.kernel.request import Request
from agentserve_gym.sim.kernel.segments import DecodeSegment, PrefillSegment, Segment


@mypyc_attr(allow_interpreted_subclasses=True)
class Steppable(Copyable):
    """What a stepper steps: an engine.

    Attributes:
        batch: turns that decode. ``chunks``: turns that prefill in the steps that run now.
    """

    batch: DecodeBatch
    chunks: list[Request]

    @property
    @abstractmethod
    def has_work(self) -> bool:
        """Whether the planned step computes anything."""

    @property
    @abstractmethod
    def awaits_loads(self) -> bool:
        """Whether the planned step needs KV that is still on its way."""

    @abstractmethod
    def plan(self, planned_at_s: float) -> None:
        """Plan the step that starts now, from what was known at ``planned_at_s``."""

    @abstractmethod
    def complete(self, segment: Segment) -> list[Request]:
        """Apply the effects of the steps that just ended; returns the turns that finished."""

    @abstractmethod
    def announce(self, finished: list[Request]) -> None:
        """Tell the host which turns ended."""

    @abstractmethod
    def shape(self) -> BatchStep:
        """The planned step's batch."""

    @abstractmethod
    def full_chunks(self) -> int:
        """Steps until a lone prefill's last chunk, a completion or a shortage of blocks."""

    @abstractmethod
    def decode_steps(self, linear_steps: int) -> int:
        """Steps that can run before a completion, a shortage of blocks or an admission."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Stepper(Copyable):
    """Runs the steps of its engines.

    Attributes:
        members: the engines, which add themselves.
        segment: the steps that run now, ``None`` when idle.
    """

    def __init__(self, clock: Clock, *, async_scheduling: bool, fused: bool) -> None:
        self.members: list[Steppable] = []
        self.segment: Segment | None = None
        self._clock = clock
        self._async = async_scheduling
        self._fused = fused
        self._event_serial = 0
        self._computed_at_s = 0.0
        self._kick_at_s = -1.0

    def wake(self) -> None:
        """Start stepping, after everything else that happens at this instant."""
        now = self._clock.time_s
        if self._kick_at_s != now:
            self._kick_at_s = now
            self._clock.schedule(now, _Kick(self), LATE)

    def shorten(self, steps: int) -> None:
        """End the current run after ``steps`` steps."""
        segment = self.segment
        assert segment is not None
        segment.steps = steps
        self._schedule_end(segment)

    def load_arrived(self, layers: int) -> None:
        """KV that a turn in the current step needs has arrived. After the last of it, the step has
        at least one of ``layers`` to compute."""
        segment = self.segment
        if any(engine.awaits_loads for engine in self.members):
            return
        assert isinstance(segment, PrefillSegment)
        layer_s = (self._computed_at_s - segment.start_s) / layers
        segment.end_at(max(self._computed_at_s, self._clock.time_s + layer_s))
        self._schedule_end(segment)

    @abstractmethod
    def _plan(self, planned_at_s: float) -> Segment | None:
        """Plan the steps that start now, from what was known at ``planned_at_s``."""

    def kicked(self) -> None:
        """Everything else has happened at the instant of `wake`."""
        self._kick_at_s = -1.0
        if self.segment is None:
            self._begin(self._clock.time_s)

    def steps_ended(self, serial: int) -> None:
        """The planned steps have ended, unless their end was moved after it had been scheduled."""
        segment = self.segment
        if segment is None or serial != self._event_serial:
            return
        ended: list[tuple[Steppable, list[Request]]] = []
        for engine in self.members:
            turns = engine.complete(segment)
            if turns:
                ended.append((engine, turns))
        planned_at_s = self._clock.time_s
        if self._async:
            planned_at_s = segment.boundary_s(segment.steps - 1)
        self.segment = None
        self._begin(planned_at_s)
        for engine, turns in ended:
            engine.announce(turns)

    def _begin(self, planned_at_s: float) -> None:
        segment = self.segment = self._plan(planned_at_s)
        if segment is None:
            return
        if any(engine.awaits_loads for engine in self.members):
            assert isinstance(segment, PrefillSegment)
            self._computed_at_s = segment.boundary_s(1)
            segment.end_at(inf)
        else:
            self._schedule_end(segment)

    def _schedule_end(self, segment: Segment) -> None:
        self._event_serial = serial = self._event_serial + 1
        self._clock.schedule(segment.boundary_s(segment.steps), _StepsEnd(self, serial))


@mypyc_attr(allow_interpreted_subclasses=True)
class _Kick(Event):
    """A stepper that was woken may begin."""

    __slots__ = ("_stepper",)

    def __init__(self, stepper: Stepper) -> None:
        self._stepper = stepper

    def fire(self) -> None:
        self._stepper.kicked()


@mypyc_attr(allow_interpreted_subclasses=True)
class _StepsEnd(Event):
    """The planned steps end."""

    __slots__ = ("_serial", "_stepper")

    def __init__(self, stepper: Stepper, serial: int) -> None:
        self._stepper = stepper
        self._serial = serial

    def fire(self) -> None:
        self._stepper.steps_ended(self._serial)


@mypyc_attr(allow_interpreted_subclasses=True)
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
            steps = engine.full_chunks() if self._fused and not engine.awaits_loads else 1
            seconds = self._latency.prefill_run(engine.shape(), steps)
            return PrefillSegment(now, list(accumulate(seconds, initial=now)), steps)
        if not engine.batch.turns:
            return None
        run = self._latency.decode_run(engine.batch.shape())
        steps = engine.decode_steps(run.steps) if self._fused else 1
        return DecodeSegment(now, run.first_step_s, run.growth_s, steps)


@mypyc_attr(allow_interpreted_subclasses=True)
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
