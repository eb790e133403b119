"""Runs scenarios under policies, with a progress bar and a wall clock."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agentserve_gym.baselines import NamedPolicy, parse_policy
from agentserve_gym.cli.output import progress
from agentserve_gym.plots import RunRecord
from agentserve_gym.sim import Scenario, Simulation

# Looking at the clock and drawing a bar at every decision would cost more than deciding.
_DECISIONS_PER_UPDATE = 500


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: its record, how often the policy's mechanisms fired, and how long it took."""

    record: RunRecord
    counters: dict[str, int]
    wall_s: float

    @property
    def turns_per_s(self) -> float:
        """Simulated turns in a second of wall time."""
        return float(self.record.report["turns"]) / self.wall_s if self.wall_s else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The JSON form: everything but ``wall_s`` depends on scenario, policy and seed alone."""
        report = {key: value for key, value in self.record.report.items() if key != "scenario"}
        return {
            "policy": self.record.policy,
            **report,
            "counters": self.counters,
            "wall_s": self.wall_s,
        }


def parse_policies(names: Sequence[str]) -> list[NamedPolicy]:
    """The policies, where ``module:Class`` may also name a module of the working directory.

    Raises:
        ValueError: for the first name that is not a policy.
    """
    allow_local_modules()
    return [parse_policy(name) for name in names]


def allow_local_modules() -> None:
    """Let ``module:Class`` name a module of the working directory."""
    if "" not in sys.path:
        sys.path.append("")


def run_policies(
    scenario: Scenario, names: Sequence[str], seed: int, *, record_timeline: bool = False
) -> list[Run]:
    """Run one scenario under each policy in turn; every policy meets the same programs.

    Raises:
        ValueError: for an unknown policy, a bad seed or a program that cannot fit, before the
            first run.
    """
    policies = parse_policies(names)
    runs = []
    with progress() as bars:
        for name, policy in zip(names, policies, strict=True):
            simulation = Simulation(scenario, seed, record_timeline=record_timeline)
            policy.bind(simulation)
            bar = bars.add_task(f"{name}: programs done", total=len(simulation.workload))
            start_s = time.perf_counter()
            for finished_programs in _drive(simulation, policy):
                bars.update(bar, completed=finished_programs)
            wall_s = time.perf_counter() - start_s
            record = RunRecord(
                name, simulation.report(), tuple(simulation.metrics.jct_s), simulation.timeline
            )
            runs.append(Run(record, policy.counters(), wall_s))
    return runs


def _drive(simulation: Simulation, policy: NamedPolicy) -> Iterator[int]:
    """The simulation's loop; yields the number of finished programs every now and then."""
    decisions = 0
    decision = simulation.advance()
    while decision is not None:
        decision = simulation.advance(policy.decide(decision))
        decisions += 1
        if decisions % _DECISIONS_PER_UPDATE == 0:
            yield len(simulation.metrics.jct_s)
    yield len(simulation.metrics.jct_s)
