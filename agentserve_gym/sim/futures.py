"""Futures for whoever plans ahead: copies of a simulation whose hidden part was drawn anew.

A policy may simulate what could happen next, but not what will. ``Futures`` is what it gets for
that: it keeps the true simulation to itself and hands out copies in which everything that no live
system could know is replaced by draws:

- outputs of present turns, longer than what they have emitted;
- what programs do after their present turn, from donors of their class (``Donors``);
- the rest of gaps that are on, longer than they have lasted;
- which programs arrive and when, at the rate at which programs have arrived so far;
- the seed of tool hosts, for whatever they draw later.

What only follows from the past stays: batches, queues, pools, pins, transfers, statistics. Two
simulations with the same past therefore give the same futures for the same random numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from agentserve_gym.sim.construction import fitting_workload
from agentserve_gym.sim.donors import Donors, known_gap, lengthened
from agentserve_gym.sim.instances import list_instances
from agentserve_gym.sim.kernel.programs import TOOL_GAP, ProgramState
from agentserve_gym.sim.simulation import Simulation
from agentserve_gym.workloads import GeneratedWorkload, Program, Workload
from agentserve_gym.workloads.spec import ClosedLoopArrivals

Companion = TypeVar("Companion")

_DRAWN_DONORS = 256
_DONOR_SEED = 0x5EED_D0_0D
"""No episode's seed: donors are other programs than those that arrive."""
_ROUNDS = 4
"""In a closed loop, how often a sampled future can replace every program."""


class Futures:
    """Sampled futures of one simulation, which is never handed out."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._donors = Donors()
        self._completed: set[int] = set()
        scenario = simulation.scenario
        self._generated = isinstance(scenario.workload, GeneratedWorkload)
        if self._generated:
            self._donors.add(_drawn(simulation))

    def sample(
        self, random: Random, span_s: float, companion: Companion
    ) -> tuple[Simulation, Companion] | None:
        """A copy with another future, and a copy of ``companion``, such as a policy, that belongs
        to it. ``None`` as long as there is no donor to draw from.

        Args:
            random: where all draws come from.
            span_s: how far ahead arrivals are drawn, seconds.
            companion: copied together with the simulation.
        """
        truth = self._simulation
        if not self._generated:
            self._learn_completed()
        if not len(self._donors):
            return None
        seed = random.getrandbits(48)
        drawn = Random(seed)
        world, mate = copied(truth, companion)
        emitted: dict[int, int] = {}
        for engine in world.engines:
            emitted.update(engine.emitted_tokens())
        plan_of, room_tokens = world.orchestrator.plan_of, _room_tokens(world)
        plans = {
            index: self._donors.continued(
                program,
                plan_of(program),
                emitted.get(index, 0),
                self._gap_s(world, program, drawn) if program.status is TOOL_GAP else 0.0,
                room_tokens,
                drawn,
            )
            for index, program in world.orchestrator.live.items()
        }
        self._redraw(world, plans, drawn, span_s)
        return world, mate

    def _redraw(
        self, world: Simulation, plans: dict[int, Program], drawn: Random, span_s: float
    ) -> None:
        live = world.orchestrator.live
        outputs = {
            index: plans[index].turns[program.turns_done].output_tokens
            for index, program in live.items()
            if program.status is not TOOL_GAP
        }
        for engine in world.engines:
            engine.redraw_outputs(outputs)
        world.router.redraw_outputs(outputs)
        arrivals_s = list(self._arrivals_s(world, drawn, span_s))
        arrived = world.orchestrator.arrived
        count = len(arrivals_s)
        concurrency = world.workload.concurrency
        if concurrency is not None:
            count += _ROUNDS * concurrency
        coming = tuple(self._donors.root(drawn) for _ in range(count))
        seed = drawn.getrandbits(48)
        world.workload = Workload(
            _Coming(world.workload, arrived, coming), world.workload.arrivals, seed
        )
        waiting = world.orchestrator.redraw(plans, world.workload, arrivals_s)
        ends = [(program, _gap_end_s(program, plans[program.index])) for program in waiting]
        world.tools.redraw(seed, ends)

    def _gap_s(self, world: Simulation, program: ProgramState, drawn: Random) -> float:
        """How long a gap that is on might last in all."""
        key = known_gap(program.gap_kind, program.gap_tool_kinds)
        seen = world.tools.statistics.kind(key[-1])
        recent = list(seen.recent) if seen is not None else []
        return self._donors.gap_beyond(key, world.now_s - program.gap_started_s, recent, drawn)

    @staticmethod
    def _arrivals_s(world: Simulation, drawn: Random, span_s: float) -> Iterator[float]:
        """Open loop: at the rate so far (of at least a span), without memory. Closed loop: the
        pauses that are on."""
        now_s, arrived = world.now_s, world.orchestrator.arrived
        arrivals = world.workload.arrivals
        if isinstance(arrivals, ClosedLoopArrivals):
            roots = sum(program.parent is None for program in world.orchestrator.live.values())
            paused = arrivals.concurrency - roots if arrivals.pause_s else 0
            for _ in range(paused):
                yield now_s + drawn.random() * arrivals.pause_s
        elif arrived > 1:
            rate_per_s = (arrived - 1) / max(now_s, span_s)
            time_s = now_s + drawn.expovariate(rate_per_s)
            while time_s < now_s + span_s:
                yield time_s
                time_s += drawn.expovariate(rate_per_s)

    def _learn_completed(self) -> None:
        """Programs that have arrived and are not live are done: their whole course was seen."""
        truth = self._simulation
        live = {program.program_id for program in truth.orchestrator.live.values()}
        fresh = []
        for number in range(truth.orchestrator.arrived):
            if number not in self._completed:
                program = truth.workload.program(number)
                if program.program_id not in live:
                    self._completed.add(number)
                    fresh.append(program)
        if fresh:
            self._donors.add(fresh)


@dataclass(frozen=True)
class _Coming:
    """Programs by number: those before ``first`` have arrived, as ``past`` has them."""

    past: Workload
    first: int
    programs: tuple[Program, ...]

    def __len__(self) -> int:
        return self.first + len(self.programs)

    def program(self, index: int) -> Program:
        if index < self.first:
            return self.past.program(index)
        return self.programs[index - self.first]

    def classes_with_people(self) -> frozenset[str]:
        return self.past.classes_with_people()


def copied(simulation: Simulation, companion: Companion) -> tuple[Simulation, Companion]:
    """Copies of a simulation and of what belongs to it, such as its policy, in one piece; turn
    records, which nobody who plans ahead reads, begin anew."""
    memo: dict[int, Any] = {id(part): part for part in (simulation.scenario, simulation.workload)}
    if simulation.metrics.records is not None:
        memo[id(simulation.metrics.records)] = []
    twin: tuple[Simulation, Companion] = copy.deepcopy((simulation, companion), memo)
    return twin


def add_luck(simulation: Simulation, tokens: int) -> None:
    """Let the present or next turn of the program that the pending decision is about emit a few
    tokens more: a change that nobody decided on. Changes the simulation itself, unless the program
    has no further turn or the longer context might not fit.

    Raises:
        ValueError: if no decision is pending.
    """
    pending = simulation.pending
    if pending is None:
        raise ValueError("no decision is pending")
    program, orchestrator = pending.program, simulation.orchestrator
    number = program.turns_done
    if program.index not in orchestrator.live:
        return
    plan = orchestrator.plan_of(program)
    if number == len(plan.turns):
        return
    plan = lengthened(plan, number, tokens)
    if plan.peak_context_tokens <= _room_tokens(simulation):
        orchestrator.change_plan(program, plan)
        simulation.router.redraw_outputs({program.index: plan.turns[number].output_tokens})


def _gap_end_s(program: ProgramState, plan: Program) -> float:
    return program.gap_started_s + plan.turns[program.turns_done - 1].gap_s


def _room_tokens(simulation: Simulation) -> int:
    """Context that fits every KV pool, with some blocks to spare for what a turn needs besides."""
    return min(
        engine.pool.capacity * engine.limits.block_size_tokens * 19 // 20
        for engine in simulation.engines
    )


def _drawn(simulation: Simulation) -> Iterator[Program]:
    """Programs of the scenario's generators, of a seed of their own."""
    scenario = simulation.scenario
    assert isinstance(scenario.workload, GeneratedWorkload)
    spec = scenario.workload.model_copy(update={"programs": _DRAWN_DONORS})
    other = scenario.model_copy(update={"workload": spec})
    instances = list_instances(scenario.cluster)
    workload = fitting_workload(other, instances, simulation.engines, _DONOR_SEED)
    for number in range(_DRAWN_DONORS):
        yield workload.program(number)
