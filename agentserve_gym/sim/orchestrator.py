"""The program orchestrator: arrivals, turn after turn, tool gaps, sub-agents and their join.

Programs come open loop (the workload's arrival times) or closed loop (a fixed number at a time). A
program is made when it arrives, so memory holds live programs only. Turn t + 1 is released when the
tool gap after turn t is over and every sub-agent started in it is done.

A program is done at its last token. Where its class has people in it, the router cannot tell that
from a person who thinks: the session stays in its table for a while, as if there were a gap.
"""

from __future__ import annotations

from abc import abstractmethod
from array import array
from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.ideal import IdealTimes
from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.sim.kernel.events import Clock, Event
from agentserve_gym.sim.kernel.programs import (
    DONE,
    HELD,
    QUEUE,
    TOOL_GAP,
    ProgramState,
    TurnState,
)
from agentserve_gym.sim.kernel.randomness import mix
from agentserve_gym.sim.kernel.request import Request
from agentserve_gym.sim.metrics import Metrics
from agentserve_gym.sim.tools import ToolSimulator
from agentserve_gym.workloads.program import Program

if TYPE_CHECKING:
    from agentserve_gym.workloads.build import Workload


@mypyc_attr(allow_interpreted_subclasses=True)
class TurnSink(Copyable):
    """Where released turns and ended turns go: the router."""

    @abstractmethod
    def turn_ready(self, turn: TurnState, output_tokens: int) -> None:
        """A turn was released and needs an instance, to emit ``output_tokens`` there."""

    @abstractmethod
    def gap_began(self, program: ProgramState) -> None:
        """A gap began, or might have, and the program's KV needs a place."""

    @abstractmethod
    def session_forgotten(self, program: ProgramState) -> None:
        """Nobody waits any more for the person after the program's last turn."""


@mypyc_attr(allow_interpreted_subclasses=True)
class UnfinishedTime(Copyable):
    """The integral over time of unfinished root programs, plain and weighted by 1 / ideal JCT.

    Divided by the number of programs, the plain integral is mean JCT and the weighted one mean
    slowdown, once every program is done.
    """

    __slots__ = ("_since_s", "count", "plain_s", "weight", "weighted")

    def __init__(self) -> None:
        self.count = 0
        self.weight = 0.0
        self.plain_s = 0.0
        self.weighted = 0.0
        self._since_s = 0.0

    def advance(self, now_s: float) -> None:
        """Integrate up to ``now_s``."""
        elapsed = now_s - self._since_s
        self.plain_s += elapsed * self.count
        self.weighted += elapsed * self.weight
        self._since_s = now_s

    def change(self, now_s: float, count: int, weight: float) -> None:
        """Programs arrived (+1) or finished (-1)."""
        self.advance(now_s)
        self.count += count
        self.weight = self.weight + weight if self.count else 0.0


@mypyc_attr(allow_interpreted_subclasses=True)
class _Course(Copyable):
    """What the orchestrator keeps of a program: what it does, and how many (the tools together, and
    each sub-agent) its gap still waits for."""

    __slots__ = ("plan", "waits_for")

    def __init__(self, plan: Program) -> None:
        self.plan = plan
        self.waits_for = 0


@mypyc_attr(allow_interpreted_subclasses=True)
class Orchestrator(Copyable):
    """Drives programs through their lives.

    Attributes:
        live: programs that have arrived and, for all that a router knows, are not done, by index.
        arrived, done: root programs so far. ``finished``: whether that is all of them.
        unfinished: their time integral.
        live_context_tokens: sum of ``context_tokens`` over ``live``.
    """

    def __init__(
        self,
        workload: Workload,
        clock: Clock,
        tools: ToolSimulator,
        metrics: Metrics,
        ideal: IdealTimes,
        block_size_tokens: int,
        default_model: str,
        session_timeout_s: float,
    ) -> None:
        self.live: dict[int, ProgramState] = {}
        self.arrived = 0
        self.done = 0
        self.finished = False
        self.live_context_tokens = 0
        self.unfinished = UnfinishedTime()
        self._workload = workload
        self._clock = clock
        self._tools = tools
        self._metrics = metrics
        self._ideal = ideal
        self._block_size = block_size_tokens
        self._default_model = default_model
        self._session_timeout_s = session_timeout_s
        self._with_people: frozenset[str] = workload.classes_with_people()
        self._left: dict[int, ProgramState] = {}
        self._created = 0
        self._planned = 0
        self._courses: dict[int, _Course] = {}
        self._ideal_s: dict[int, float] = {}
        self._arrivals = array("d", () if workload.concurrency else workload.arrival_times())
        self._sink: TurnSink

    def begin(self, sink: TurnSink) -> None:
        """Plan the first arrivals; released turns go to ``sink``."""
        self._sink = sink
        if self._workload.concurrency is None:
            self._plan_next_arrival()
        else:
            for _ in range(min(self._workload.concurrency, len(self._workload))):
                self._plan_arrival(0.0)

    def plan_of(self, program: ProgramState) -> Program:
        """All that a live program does, its future included. No policy that could be deployed
        knows it: this is for oracles and for whoever checks a run.

        Raises:
            KeyError: if the program is done.
        """
        return self._courses[program.index].plan

    def change_plan(self, program: ProgramState, plan: Program) -> None:
        """Let a live program do something else from its present turn on."""
        self._courses[program.index].plan = plan

    def redraw(
        self, plans: dict[int, Program], workload: Workload, arrivals_s: list[float]
    ) -> list[ProgramState]:
        """Replace what is to come.

        Args:
            plans: what each live program does, equal to before up to its present turn.
            workload: the programs that arrive from now on, by number.
            arrivals_s: when the next ones do; in a closed loop, those whose pause has begun.

        Returns:
            The programs whose gaps wait for tools. A gap with live sub-agents waits for these
            alone; sub-agents that have not started never do. Every person who is waited for comes
            back: who has left is not known. Slowdowns mean nothing from now on:
            they divide by a program's ideal time, which is part of its future.
        """
        self._clock.forget((_Arrival, _SessionTimeout, _Start))
        for index in self._left:
            self._ideal_s[index] = 1.0
            self.done -= 1
            self.unfinished.change(self._clock.time_s, 1, 1.0)
        self._left.clear()
        self._courses = {index: _Course(plans[index]) for index in self.live}
        waiting: list[ProgramState] = []
        for program in self.live.values():
            if program.parent is not None:
                self._courses[program.parent.index].waits_for += 1
        for program in self.live.values():
            course = self._courses[program.index]
            if program.status is TOOL_GAP and course.waits_for == 0:
                course.waits_for = 1
                waiting.append(program)
        self._ideal_s = dict.fromkeys(self._ideal_s, 1.0)
        self.unfinished.weight = float(self.unfinished.count)
        self._workload = workload
        self._planned = self.arrived
        if workload.concurrency is None:
            self._arrivals = array("d", [0.0] * self.arrived + arrivals_s)
            self._plan_next_arrival()
        else:
            for time_s in arrivals_s:
                self._plan_arrival(time_s)
        return waiting

    def turn_finished(self, request: Request) -> None:
        """A turn emitted its last token: the program goes into its gap, or is done."""
        now, program, generated_tokens = self._clock.time_s, request.program, request.generated
        context_tokens = request.turn.prompt_tokens + generated_tokens - 1
        self.live_context_tokens += context_tokens - program.context_tokens
        course = self._courses[program.index]
        number = request.turn.number
        last = number + 1 == len(course.plan.turns)
        hands_over = last and program.parent is None and program.agent_class in self._with_people
        status = DONE if last and not hands_over else TOOL_GAP
        program.end_turn(request.instance, generated_tokens, context_tokens, status, now)
        if hands_over:
            self._hand_over(program)
        elif last:
            self._forget(program)
            self._finish(program)
        else:
            self._begin_gap(program, course, number)

    def times_so_far(self) -> tuple[array[float], array[float]]:
        """Of root programs that are not done: seconds since arrival, and those over ideal JCT; 0
        for programs still to come."""
        now = self._clock.time_s
        to_come = [0.0] * (len(self._workload) - self.arrived)
        times_s = {index: now - self.live[index].arrival_s for index in self._ideal_s}
        slowdown = [time_s / self._ideal_s[index] for index, time_s in times_s.items()]
        return array("d", [*times_s.values(), *to_come]), array("d", slowdown + to_come)

    # --- arrivals ----------------------------------------------------------------------------

    def _plan_next_arrival(self) -> None:
        """Open loop: plan one arrival ahead."""
        if self._planned < len(self._workload):
            self._plan_arrival(self._arrivals[self._planned])

    def _plan_arrival(self, time_s: float) -> None:
        index = self._planned
        self._planned += 1
        self._clock.schedule(time_s, _Arrival(self, index))

    def program_arrives(self, number: int) -> None:
        """The workload's program ``number`` arrives."""
        plan = self._workload.program(number)
        program = self._create(plan, mix(number), None)
        self.arrived += 1
        ideal = self._ideal_s[program.index] = self._ideal.jct_s(plan)
        self.unfinished.change(self._clock.time_s, 1, 1.0 / ideal)
        if self._workload.concurrency is None:
            self._plan_next_arrival()
        self.start(program)

    def _create(self, plan: Program, stream: int, parent: ProgramState | None) -> ProgramState:
        program = ProgramState(
            plan, self._created, stream, self._block_size, parent, self._default_model
        )
        self._courses[self._created] = _Course(plan)
        self._created += 1
        return program

    def start(self, program: ProgramState) -> None:
        """A program's first turn is ready."""
        self.live[program.index] = program
        program.arrive(self._clock.time_s)
        self._release_turn(program, self._courses[program.index])

    def _release_turn(self, program: ProgramState, course: _Course) -> None:
        now = self._clock.time_s
        program.enter(QUEUE, HELD, now)
        plan = course.plan.turns[program.turns_done]
        self._sink.turn_ready(TurnState(program, plan, now, self._block_size), plan.output_tokens)

    # --- gaps --------------------------------------------------------------------------------

    def _begin_gap(self, program: ProgramState, course: _Course, number: int) -> None:
        """The gap after turn ``number`` begins."""
        now = self._clock.time_s
        plan = course.plan.turns[number]
        program.begin_gap(plan.gap_kind, tuple([call.kind for call in plan.tools]), now)
        course.waits_for = 1 + len(plan.children)
        for position, child_plan in enumerate(plan.children):
            stream = mix(program.stream, number, position)
            child = self._create(child_plan, stream, program)
            self._clock.schedule(now + (child_plan.arrival_s or 0.0), _Start(self, child))
        self._tools.start(program, plan, number)
        self._sink.gap_began(program)

    def tools_done(self, program: ProgramState) -> None:
        """The tool calls of the program's gap are over."""
        self._join(program)

    def _join(self, program: ProgramState) -> None:
        """One of those that the program's gap waits for is done; after the last the gap is over."""
        course = self._courses[program.index]
        course.waits_for -= 1
        if course.waits_for == 0:
            program.end_gap(self._clock.time_s)
            self._release_turn(program, course)

    def _hand_over(self, program: ProgramState) -> None:
        """A program ended towards a person: all but the router knows."""
        now = self._clock.time_s
        program.begin_gap("user", (), now)
        self._left[program.index] = program
        self._finish(program)
        if self.finished:
            for left in list(self._left.values()):
                self.forget_session(left)
            return
        self._metrics.last_turn_placements += 1
        self._clock.schedule(now + self._session_timeout_s, _SessionTimeout(self, program))
        self._sink.gap_began(program)

    def forget_session(self, program: ProgramState) -> None:
        """The person after the program's last turn is not waited for any more."""
        if self._left.pop(program.index, None) is not None:
            program.leave()
            self._forget(program)
            self._sink.session_forgotten(program)

    def _forget(self, program: ProgramState) -> None:
        del self.live[program.index], self._courses[program.index]
        self.live_context_tokens -= program.context_tokens

    def _finish(self, program: ProgramState) -> None:
        now = self._clock.time_s
        parent = program.parent
        if parent is not None:
            self._metrics.program_finished(program, now, 1.0)
            self._join(parent)
            return
        ideal = self._ideal_s.pop(program.index)
        self.done += 1
        self.finished = self.done == len(self._workload)
        self.unfinished.change(now, -1, -1.0 / ideal)
        self._metrics.program_finished(program, now, ideal)
        if self._workload.concurrency is not None and self._planned < len(self._workload):
            self._plan_arrival(now + self._workload.pause_before_s(self._planned))


@mypyc_attr(allow_interpreted_subclasses=True)
class _Arrival(Event):
    """A program of the workload arrives."""

    __slots__ = ("_number", "_orchestrator")

    def __init__(self, orchestrator: Orchestrator, number: int) -> None:
        self._orchestrator = orchestrator
        self._number = number

    def fire(self) -> None:
        self._orchestrator.program_arrives(self._number)


@mypyc_attr(allow_interpreted_subclasses=True)
class _SessionTimeout(Event):
    """Nobody came back after a program's last turn."""

    __slots__ = ("_orchestrator", "_program")

    def __init__(self, orchestrator: Orchestrator, program: ProgramState) -> None:
        self._orchestrator = orchestrator
        self._program = program

    def fire(self) -> None:
        self._orchestrator.forget_session(self._program)


@mypyc_attr(allow_interpreted_subclasses=True)
class _Start(Event):
    """A sub-agent starts."""

    __slots__ = ("_orchestrator", "_program")

    def __init__(self, orchestrator: Orchestrator, program: ProgramState) -> None:
        self._orchestrator = orchestrator
        self._program = program

    def fire(self) -> None:
        self._orchestrator.start(self._program)
