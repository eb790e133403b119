"""Rewards: what an episode's return measures. Each telescopes exactly to a figure of the report.

- ``jct``: return = - mean JCT / ``objective.jct_unit_s``. A step's reward is minus the integral of
  unfinished root programs over the time since the last one, over the number of programs. If the
  horizon cuts the episode, programs count with their time up to it.
- ``slowdown``: the same with each program weighted by 1 / its time on an idle cluster:
  return = - mean slowdown / ``objective.slowdown_unit``.
- ``slo``: return = - share of turns that miss their TTFT or TPOT objective; a turn that the horizon
  cuts off counts as a miss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from agentserve_gym.sim import Simulation
from agentserve_gym.workloads import Program, Workload


class Reward(Protocol):
    """Turns the progress of a simulation into rewards. Keeps no reference to the simulation."""

    def begin(self, simulation: Simulation) -> None:
        """A new episode starts at time 0."""
        ...

    def collect(self, simulation: Simulation) -> float:
        """The reward since the last call (or the start)."""
        ...


class JctReward:
    """Minus mean job completion time, in units of ``objective.jct_unit_s``."""

    def __init__(self) -> None:
        self._scale = 0.0
        self._paid = 0.0

    def begin(self, simulation: Simulation) -> None:
        unit_s = simulation.scenario.objective.jct_unit_s
        self._scale = 1.0 / (len(simulation.workload) * unit_s)
        self._paid = 0.0

    def collect(self, simulation: Simulation) -> float:
        total_s, _ = simulation.unfinished_time()
        reward = (self._paid - total_s) * self._scale
        self._paid = total_s
        return reward


class SlowdownReward:
    """Minus mean slowdown against an idle cluster, in units of ``objective.slowdown_unit``."""

    def __init__(self) -> None:
        self._scale = 0.0
        self._paid = 0.0

    def begin(self, simulation: Simulation) -> None:
        unit = simulation.scenario.objective.slowdown_unit
        self._scale = 1.0 / (len(simulation.workload) * unit)
        self._paid = 0.0

    def collect(self, simulation: Simulation) -> float:
        _, total = simulation.unfinished_time()
        reward = (self._paid - total) * self._scale
        self._paid = total
        return reward


class SloReward:
    """Minus the share of turns (sub-agents' included) that miss their objective."""

    def __init__(self) -> None:
        self._turns = 1
        self._paid = 0

    def begin(self, simulation: Simulation) -> None:
        self._turns = count_turns(simulation.workload)
        self._paid = 0

    def collect(self, simulation: Simulation) -> float:
        metrics = simulation.metrics
        missed = len(metrics.e2e_s) - metrics.slo_turns
        if simulation.truncated:
            missed = self._turns - metrics.slo_turns
        reward = (self._paid - missed) / self._turns
        self._paid = missed
        return reward


REWARDS: dict[str, Callable[[], Reward]] = {
    "jct": JctReward,
    "slowdown": SlowdownReward,
    "slo": SloReward,
}


def make_reward(reward: str | Reward) -> Reward:
    """A reward by name, or the given object itself.

    Raises:
        ValueError: for an unknown name, or an object without ``begin`` and ``collect``.
    """
    names = ", ".join(REWARDS)
    if isinstance(reward, str):
        if reward not in REWARDS:
            raise ValueError(f"reward is {reward!r}; the names are {names}")
        return REWARDS[reward]()
    methods = (getattr(reward, name, None) for name in ("begin", "collect"))
    if isinstance(reward, type) or not all(map(callable, methods)):
        raise ValueError(
            f"reward is {reward!r}; allowed: {names}, or an object with the methods "
            "begin(simulation) and collect(simulation)"
        )
    return reward


def count_turns(workload: Workload) -> int:
    """Turns of all programs and their sub-agents."""
    return sum(_turns(workload.program(number)) for number in range(len(workload)))


def _turns(program: Program) -> int:
    return len(program.turns) + sum(
        _turns(child) for turn in program.turns for child in turn.children
    )
