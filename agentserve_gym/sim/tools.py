"""The tool simulator: how long a tool gap lasts, and what policies may learn from past ones.

Durations come with the program (replayed from a trace or drawn by its generator). On top, tool
hosts may limit concurrency per kind, fail and retry, time out, and slow down under load. Parallel
calls overlap; what a trace's gap holds beyond its longest call (client time) follows the calls.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import exp, inf
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.sim.kernel.events import Clock, Event
from agentserve_gym.sim.kernel.host import Host
from agentserve_gym.sim.kernel.programs import ProgramState
from agentserve_gym.sim.kernel.randomness import uniform
from agentserve_gym.sim.kernel.tool_statistics import ToolStatistics
from agentserve_gym.workloads.program import ToolCall, Turn

if TYPE_CHECKING:
    from agentserve_gym.sim.scenario import ToolSpec

_FAILURE, _COMPONENT, _DURATION = 1, 2, 3
_STANDARD_NORMAL = NormalDist()

Completed = tuple[tuple[str, float], ...]
"""Calls that are over: (kind, seconds)."""


class _Mixture(NamedTuple):
    """Durations of a kind: log-normals and their weights, cut at ``cap_s``."""

    weights: tuple[float, ...]
    mu: tuple[float, ...]
    sigma: tuple[float, ...]
    cap_s: float


@mypyc_attr(allow_interpreted_subclasses=True)
@dataclass
class _Gap(Copyable):
    program: ProgramState
    open_calls: int
    client_s: float


@mypyc_attr(allow_interpreted_subclasses=True)
@dataclass
class ToolRun(Copyable):
    """A call on its way, and how often it was tried."""

    gap: _Gap
    kind: str
    duration_s: float
    planned_failures: int
    identity: tuple[int, int, int]
    attempts: int = 0
    tool_s: float = 0.0


@mypyc_attr(allow_interpreted_subclasses=True)
class ToolSimulator(Copyable):
    """Runs the tool calls of tool gaps.

    Attributes:
        statistics: what may be learned from completed calls.
        running: calls in progress per kind. ``queued``: calls waiting for a slot.
        failures: attempts that failed so far. ``timeouts``: attempts cut.
        open_tool_gaps: gaps whose tools are not all done, but for people's.
    """

    def __init__(self, spec: ToolSpec, clock: Clock, seed: int, host: Host) -> None:
        self.statistics = ToolStatistics()
        self.running: dict[str, int] = {}
        self.queued: dict[str, deque[ToolRun]] = {}
        self.failures = 0
        self.timeouts = 0
        self.open_tool_gaps = 0
        self._clock = clock
        self._seed = seed
        self._host = host
        self._concurrency: dict[str, int] = dict(spec.concurrency)
        self._failure_probability: float = spec.failure_probability
        self._max_retries: int = spec.max_retries
        self._retry_delay_s: float = spec.retry_delay_s
        self._timeout_s: float = inf if spec.timeout_s is None else spec.timeout_s
        self._slowdown_per_call: float = spec.slowdown_per_call
        self._durations = {
            kind: _Mixture(tuple(drawn.weights), tuple(drawn.mu), tuple(drawn.sigma), drawn.cap_s)
            for kind, drawn in spec.durations.items()
        }
        self._plain = not (
            spec.concurrency
            or spec.failure_probability
            or spec.slowdown_per_call
            or spec.timeout_s
            or spec.durations
        )

    def start(self, program: ProgramState, turn: Turn, number: int) -> None:
        """Begin the gap after ``turn``; the host is told when it is over."""
        self.open_tool_gaps += program.gap_kind != "user"
        calls = turn.tools or (ToolCall(turn.gap_kind, turn.gap_s),)
        if turn.gap_kind == "user" and not turn.tools:
            self._start_wait(program, self._duration(calls[0], (program.stream, number, 0)))
        elif self._plain and not any(call.failures for call in calls):
            self._start_plain(program, calls, turn.gap_s)
        else:
            self._start_calls(program, calls, turn.gap_s, number)

    def _start_wait(self, program: ProgramState, duration_s: float) -> None:
        """A person's wait: no tool host is involved."""
        waited = (("user", duration_s),)
        self._clock.schedule(self._clock.time_s + duration_s, _GapEnd(self, program, waited))

    def _start_plain(
        self, program: ProgramState, calls: tuple[ToolCall, ...], gap_s: float
    ) -> None:
        """Hosts without limits: the gap lasts as long as the program says."""
        now = self._clock.time_s
        last: list[tuple[str, float]] = []
        for call in calls:
            if call.duration_s < gap_s:
                self._clock.schedule(now + call.duration_s, _CallEnd(self.statistics, call))
            else:
                last.append((call.kind, call.duration_s))
        self._clock.schedule(now + gap_s, _GapEnd(self, program, tuple(last)))

    def _start_calls(
        self, program: ProgramState, calls: tuple[ToolCall, ...], gap_s: float, number: int
    ) -> None:
        longest = max(call.duration_s for call in calls)
        gap = _Gap(program, len(calls), max(gap_s - longest, 0.0))
        for position, call in enumerate(calls):
            identity = (program.stream, number, position)
            duration = self._duration(call, identity)
            self.queue_call(ToolRun(gap, call.kind, duration, call.failures, identity))

    def redraw(self, seed: int, ends: list[tuple[ProgramState, float]]) -> None:
        """Replace what is to come: when each open gap ends, seconds, and what is drawn later.

        Calls in progress end with their gaps, so slots of limited hosts are free until new ones
        begin.
        """
        self._clock.forget((_GapEnd, _CallEnd, _AttemptEnd, _Retry))
        self._seed = seed
        self.running.clear()
        self.queued.clear()
        self.open_tool_gaps = 0
        for program, end_s in ends:
            self.open_tool_gaps += program.gap_kind != "user"
            self._clock.schedule(end_s, _GapEnd(self, program, ()))

    def gap_ended(self, program: ProgramState, completed: Completed) -> None:
        """A gap is over, and with it the calls that lasted until its end."""
        for kind, duration_s in completed:
            self.statistics.learn(kind, duration_s)
        self.open_tool_gaps -= program.gap_kind != "user"
        self._host.tools_done(program)

    def _duration(self, call: ToolCall, identity: tuple[int, int, int]) -> float:
        mixture = self._durations.get(call.kind)
        return call.duration_s if mixture is None else self._draw(mixture, identity)

    def _draw(self, mixture: _Mixture, identity: tuple[int, int, int]) -> float:
        """A draw from a mixture of log-normals, cut at its cap."""
        pick = uniform(self._seed, _COMPONENT, *identity) * sum(mixture.weights)
        component = 0
        while component < len(mixture.weights) - 1 and pick > mixture.weights[component]:
            pick -= mixture.weights[component]
            component += 1
        normal = _STANDARD_NORMAL.inv_cdf(uniform(self._seed, _DURATION, *identity))
        value = exp(mixture.mu[component] + mixture.sigma[component] * normal)
        return min(value, mixture.cap_s)

    def queue_call(self, call: ToolRun) -> None:
        """Begin an attempt, or wait for a slot of its kind."""
        limit = self._concurrency.get(call.kind)
        if limit is not None and self.running.get(call.kind, 0) >= limit:
            self.queued.setdefault(call.kind, deque()).append(call)
        else:
            self._begin_attempt(call)

    def _begin_attempt(self, call: ToolRun) -> None:
        others = sum(self.running.values())
        self.running[call.kind] = self.running.get(call.kind, 0) + 1
        duration = call.duration_s * (1.0 + self._slowdown_per_call * others)
        if duration > self._timeout_s:
            duration = self._timeout_s
            self.timeouts += 1
        call.attempts += 1
        call.tool_s += duration
        self._clock.schedule(self._clock.time_s + duration, _AttemptEnd(self, call))

    def attempt_ended(self, call: ToolRun) -> None:
        """An attempt is over: it failed and is tried again, or the call is done."""
        self.running[call.kind] -= 1
        waiting = self.queued.get(call.kind)
        if waiting:
            self._begin_attempt(waiting.popleft())
        if self._fails(call):
            self.failures += 1
            again_s = self._clock.time_s + self._retry_delay_s
            self._clock.schedule(again_s, _Retry(self, call))
            return
        self.statistics.learn(call.kind, call.tool_s)
        call.gap.open_calls -= 1
        if call.gap.open_calls == 0:
            end_s = self._clock.time_s + call.gap.client_s
            self._clock.schedule(end_s, _GapEnd(self, call.gap.program, ()))

    def _fails(self, call: ToolRun) -> bool:
        if call.attempts <= call.planned_failures:
            return True
        retries_left = call.attempts - call.planned_failures <= self._max_retries
        chance = self._failure_probability
        return (
            retries_left
            and chance > 0.0
            and uniform(self._seed, _FAILURE, call.attempts, *call.identity) < chance
        )


@mypyc_attr(allow_interpreted_subclasses=True)
class _GapEnd(Event):
    """A gap's tools and client time are over; ``completed``: calls that end with it."""

    __slots__ = ("_completed", "_program", "_tools")

    def __init__(self, tools: ToolSimulator, program: ProgramState, completed: Completed) -> None:
        self._tools = tools
        self._program = program
        self._completed = completed

    def fire(self) -> None:
        self._tools.gap_ended(self._program, self._completed)


@mypyc_attr(allow_interpreted_subclasses=True)
class _CallEnd(Event):
    """A call on a host without limits is over, and its gap is not."""

    __slots__ = ("_call", "_statistics")

    def __init__(self, statistics: ToolStatistics, call: ToolCall) -> None:
        self._statistics = statistics
        self._call = call

    def fire(self) -> None:
        self._statistics.learn(self._call.kind, self._call.duration_s)


@mypyc_attr(allow_interpreted_subclasses=True)
class _AttemptEnd(Event):
    """An attempt is over."""

    __slots__ = ("_call", "_tools")

    def __init__(self, tools: ToolSimulator, call: ToolRun) -> None:
        self._tools = tools
        self._call = call

    def fire(self) -> None:
        self._tools.attempt_ended(self._call)


@mypyc_attr(allow_interpreted_subclasses=True)
class _Retry(Event):
    """A failed call is tried again."""

    __slots__ = ("_call", "_tools")

    def __init__(self, tools: ToolSimulator, call: ToolRun) -> None:
        self._tools = tools
        self._call = call

    def fire(self) -> None:
        self._tools.queue_call(self._call)
