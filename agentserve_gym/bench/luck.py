"""Luck: what an output token more here and there does to a run's mean JCT.

A serving cluster under pressure is chaotic: a turn that ends some milliseconds later may change
which turns share a batch, which context is evicted, and so on to the end of the run. Often one
token in one turn changes nothing, and then again mean JCT by a tenth. Two policies differ from
their first decisions on, so paired runs, too, differ by luck as much as by merit. How much is
measured by runs that differ in nothing but a token in one turn of some of their programs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from agentserve_gym.report.student_t import t_quantile
from agentserve_gym.workloads import Program, Workload
from agentserve_gym.workloads.build import ProgramSource

RESOLUTION = 0.03
"""The difference of mean JCT that a cell should be able to tell from luck."""
NUDGED_OF = 8
"""Of so many programs one is nudged."""


@dataclass(frozen=True)
class NudgedPrograms:
    """Programs as ``source`` has them, but that the first turn of every eighth emits a token more;
    the next prompt is as long as before, so that nothing else changes."""

    source: ProgramSource
    nudge: int

    def __len__(self) -> int:
        return len(self.source)

    def program(self, index: int) -> Program:
        program = self.source.program(index)
        if index % NUDGED_OF != self.nudge - 1:
            return program
        first, *others = program.turns
        chain = first.input_tokens + first.output_tokens
        longer = first._replace(output_tokens=first.output_tokens + 1)
        if others and others[0].reuse_tokens == chain and others[0].new_input_tokens > 1:
            new = others[0].new_input_tokens - 1
            others[0] = others[0]._replace(reuse_tokens=chain + 1, new_input_tokens=new)
        return replace(program, turns=(longer, *others))

    def classes_with_people(self) -> frozenset[str]:
        return self.source.classes_with_people()


def nudged_workload(workload: Workload, nudge: int) -> Workload:
    """The workload with one output token more in the first turn of every eighth program.

    Args:
        workload: of a scenario and a seed.
        nudge: which of every eight, from 1 on; 0 changes nothing.

    Raises:
        ValueError: for another nudge.
    """
    if not 0 <= nudge <= NUDGED_OF:
        raise ValueError(f"nudge is {nudge}; allowed: 0 to {NUDGED_OF}")
    if nudge == 0:
        return workload
    return replace(workload, source=NudgedPrograms(workload.source, nudge))


def luck(groups: Iterable[Sequence[float]]) -> float:
    """Standard deviation of the logarithm of mean JCT by luck alone.

    Args:
        groups: mean JCTs of runs that differ in a nudge alone, a group for each policy and seed.

    Raises:
        ValueError: if no group has two runs.
    """
    squares, freedom = 0.0, 0
    for group in groups:
        logs = np.log(np.asarray(group, dtype=float))
        squares += float(((logs - logs.mean()) ** 2).sum())
        freedom += len(logs) - 1
    if freedom < 1:
        raise ValueError("luck needs at least two runs that differ in a nudge alone")
    return math.sqrt(squares / freedom)


def smallest_difference(luck_of_a_run: float, seeds: int) -> float:
    """The smallest relative difference of two policies' mean JCT that luck does not hide: the half
    width of the 95 % interval of the mean over ``seeds`` of differences of two lucky runs.

    It is a lower bound: where two policies' merits differ from seed to seed, their interval is
    wider. Infinite for one seed.
    """
    if seeds < 2:
        return math.inf
    half = t_quantile(0.975, seeds - 1) * math.sqrt(2.0 / seeds) * luck_of_a_run
    return math.expm1(half)
