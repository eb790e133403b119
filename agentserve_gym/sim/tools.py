"""The tool simulator: how long a tool gap lasts, and what policies may learn from past ones.

Durations come with the program (replayed from a trace or drawn by its generator). On top, tool
hosts may limit concurrency per kind, fail and retry, time out, and slow down under load. Parallel
calls overlap; what a trace's gap holds beyond its longest call (client time) follows the calls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import exp, log
from statistics import NormalDist

from agentserve_gym.sim.clock import Call, Clock
from agentserve_gym.sim.programs import ProgramState
from agentserve_gym.sim.randomness import uniform
from agentserve_gym.sim.scenario import ToolDurationSpec, ToolSpec
from agentserve_gym.workloads.program import ToolCall, Turn

_FAILURE, _COMPONENT, _DURATION = 1, 2, 3
_STANDARD_NORMAL = NormalDist()
SHORTEST_S = 1e-6


@dataclass(slots=True)
class KindStatistics:
    """Durations of completed calls of one tool kind, seconds; tool time only, no queueing.

    ``log_mean`` and ``log_variance`` are exponential averages (weight 0.2) of log durations;
    ``ema_s`` is the same for durations; ``recent`` holds the last 100 durations.
    """

    count: int = 0
    total_s: float = 0.0
    ema_s: float = 0.0
    log_mean: float = 0.0
    log_variance: float = 0.0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=100))

    @property
    def mean_s(self) -> float:
        return self.total_s / self.count if self.count else 0.0

    def learn(self, duration_s: float) -> None:
        value = log(duration_s if duration_s > SHORTEST_S else SHORTEST_S)
        if self.count == 0:
            self.ema_s, self.log_mean = duration_s, value
        else:
            delta = value - self.log_mean
            self.log_mean += 0.2 * delta
            self.log_variance = 0.8 * (self.log_variance + 0.2 * delta * delta)
            self.ema_s += 0.2 * (duration_s - self.ema_s)
        self.count += 1
        self.total_s += duration_s
        self.recent.append(duration_s)


class ToolStatistics:
    """Statistics by tool kind, and over all completed calls together (``overall``)."""

    def __init__(self) -> None:
        self.overall = KindStatistics()
        self._kinds: dict[str, KindStatistics] = {}

    def kind(self, name: str) -> KindStatistics | None:
        """Statistics of a kind, or ``None`` before its first completed call."""
        return self._kinds.get(name)

    def learn(self, kind: str, duration_s: float) -> None:
        """Book a completed call."""
        statistics = self._kinds.get(kind)
        if statistics is None:
            statistics = self._kinds[kind] = KindStatistics()
        statistics.learn(duration_s)
        self.overall.learn(duration_s)


@dataclass(slots=True)
class _Gap:
    program: ProgramState
    open_calls: int
    client_s: float


@dataclass(slots=True)
class _ToolRun:
    gap: _Gap
    kind: str
    duration_s: float
    planned_failures: int
    identity: tuple[int, int, int]
    attempts: int = 0
    tool_s: float = 0.0


class ToolSimulator:
    """Runs the tool calls of tool gaps.

    Attributes:
        statistics: what may be learned from completed calls.
        running: calls in progress per kind. ``queued``: calls waiting for a slot.
        failures: attempts that failed so far. ``timeouts``: attempts cut.
        open_gaps: gaps whose tools are not all done.
    """

    def __init__(
        self, spec: ToolSpec, clock: Clock, seed: int, on_done: Callable[[ProgramState], None]
    ) -> None:
        self.statistics = ToolStatistics()
        self.running: dict[str, int] = {}
        self.queued: dict[str, deque[_ToolRun]] = {}
        self.failures = 0
        self.timeouts = 0
        self.open_gaps = 0
        self._spec = spec
        self._clock = clock
        self._seed = seed
        self._on_done = on_done
        self._plain = not (
            spec.concurrency
            or spec.failure_probability
            or spec.slowdown_per_call
            or spec.timeout_s
            or spec.durations
        )

    def start(self, program: ProgramState, turn: Turn, number: int) -> None:
        """Begin the gap after ``turn``; ``on_done(program)`` is called when it is over."""
        self.open_gaps += 1
        calls = turn.tools or (ToolCall(turn.gap_kind, turn.gap_s),)
        if turn.gap_kind == "user" and not turn.tools:
            self._start_wait(program, self._duration(calls[0], (program.stream, number, 0)))
        elif self._plain and not any(call.failures for call in calls):
            self._start_plain(program, calls, turn.gap_s)
        else:
            self._start_calls(program, calls, turn.gap_s, number)

    def _start_wait(self, program: ProgramState, duration_s: float) -> None:
        """A person's wait: no tool host is involved."""
        self._clock.call_at(
            self._clock.time_s + duration_s,
            self._on_plain_gap_done,
            (program, (("user", duration_s),)),
        )

    def _start_plain(
        self, program: ProgramState, calls: tuple[ToolCall, ...], gap_s: float
    ) -> None:
        """Hosts without limits: the gap lasts as long as the program says."""
        now = self._clock.time_s
        last = []
        for call in calls:
            if call.duration_s < gap_s:
                self._clock.call_at(now + call.duration_s, self._on_plain_call_done, call)
            else:
                last.append((call.kind, call.duration_s))
        self._clock.call_at(now + gap_s, self._on_plain_gap_done, (program, last))

    def _start_calls(
        self, program: ProgramState, calls: tuple[ToolCall, ...], gap_s: float, number: int
    ) -> None:
        longest = max(call.duration_s for call in calls)
        gap = _Gap(program, len(calls), max(gap_s - longest, 0.0))
        for position, call in enumerate(calls):
            identity = (program.stream, number, position)
            duration = self._duration(call, identity)
            self._queue(_ToolRun(gap, call.kind, duration, call.failures, identity))

    def _on_plain_call_done(self, event: Call) -> None:
        call: ToolCall = event.argument
        self.statistics.learn(call.kind, call.duration_s)

    def _on_plain_gap_done(self, event: Call) -> None:
        program, completed = event.argument
        for kind, duration_s in completed:
            self.statistics.learn(kind, duration_s)
        self.open_gaps -= 1
        self._on_done(program)

    def _duration(self, call: ToolCall, identity: tuple[int, int, int]) -> float:
        spec = self._spec.durations.get(call.kind)
        return call.duration_s if spec is None else self._draw(spec, identity)

    def _draw(self, spec: ToolDurationSpec, identity: tuple[int, int, int]) -> float:
        """A draw from a mixture of log-normals, cut at its cap."""
        pick = uniform(self._seed, _COMPONENT, *identity) * sum(spec.weights)
        component = 0
        while component < len(spec.weights) - 1 and pick > spec.weights[component]:
            pick -= spec.weights[component]
            component += 1
        normal = _STANDARD_NORMAL.inv_cdf(uniform(self._seed, _DURATION, *identity))
        value = exp(spec.mu[component] + spec.sigma[component] * normal)
        return min(value, spec.cap_s)

    def _queue(self, call: _ToolRun) -> None:
        limit = self._spec.concurrency.get(call.kind)
        if limit is not None and self.running.get(call.kind, 0) >= limit:
            self.queued.setdefault(call.kind, deque()).append(call)
        else:
            self._begin_attempt(call)

    def _begin_attempt(self, call: _ToolRun) -> None:
        others = sum(self.running.values())
        self.running[call.kind] = self.running.get(call.kind, 0) + 1
        duration = call.duration_s * (1.0 + self._spec.slowdown_per_call * others)
        if self._spec.timeout_s is not None and duration > self._spec.timeout_s:
            duration = self._spec.timeout_s
            self.timeouts += 1
        call.attempts += 1
        call.tool_s += duration
        self._clock.call_at(self._clock.time_s + duration, self._on_attempt_done, call)

    def _on_attempt_done(self, event: Call) -> None:
        call: _ToolRun = event.argument
        self.running[call.kind] -= 1
        waiting = self.queued.get(call.kind)
        if waiting:
            self._begin_attempt(waiting.popleft())
        if self._fails(call):
            self.failures += 1
            self._clock.call_at(self._clock.time_s + self._spec.retry_delay_s, self._on_retry, call)
            return
        self.statistics.learn(call.kind, call.tool_s)
        call.gap.open_calls -= 1
        if call.gap.open_calls == 0:
            self._clock.call_at(
                self._clock.time_s + call.gap.client_s, self._on_gap_done, call.gap.program
            )

    def _fails(self, call: _ToolRun) -> bool:
        if call.attempts <= call.planned_failures:
            return True
        retries_left = call.attempts - call.planned_failures <= self._spec.max_retries
        chance = self._spec.failure_probability
        return (
            retries_left
            and chance > 0.0
            and uniform(self._seed, _FAILURE, call.attempts, *call.identity) < chance
        )

    def _on_retry(self, event: Call) -> None:
        self._queue(event.argument)

    def _on_gap_done(self, event: Call) -> None:
        self.open_gaps -= 1
        self._on_done(event.argument)
