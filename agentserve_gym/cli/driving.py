"""Runs scenarios under policies, with progress and a wall clock."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agentserve_gym.baselines import NamedPolicy, drive, parse_policy, require_valid_answers
from agentserve_gym.cli.progress import Report, reporting
from agentserve_gym.plots import RunRecord
from agentserve_gym.sim import Answer, Scenario, Simulation
from agentserve_gym.sim.recording import RecordedSimulation

# Looking at the clock and drawing a bar at every answer would cost more than deciding.
_ANSWERS_PER_REPORT = 500


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run.

    Attributes:
        record: its figures. ``counters``: how often the policy's mechanisms fired.
        wall_s: how long it took.
        answers: that the policy gave. ``first_invalid``: the first invalid one in words, if any.
    """

    record: RunRecord
    counters: dict[str, int]
    wall_s: float
    answers: int
    first_invalid: str | None

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
            "answers": self.answers,
            "first_invalid": self.first_invalid,
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
    scenario: Scenario, names: Sequence[str], seed: int, *, recorded: bool = False
) -> list[Run]:
    """Run one scenario under each policy in turn; every policy meets the same programs.

    ``recorded`` runs keep their history.

    Raises:
        ValueError: for an unknown policy, a bad seed or a program that cannot fit, before the
            first run; for a policy whose every answer is invalid, after its run.
    """
    policies = parse_policies(names)
    runs = []
    with reporting() as report:
        for name, policy in zip(names, policies, strict=True):
            simulation = (RecordedSimulation if recorded else Simulation)(scenario, seed)
            start_s = time.perf_counter()
            count = count_answers(name, simulation, drive(simulation, policy), report)
            wall_s = time.perf_counter() - start_s
            history = simulation.history if isinstance(simulation, RecordedSimulation) else None
            record = RunRecord(name, simulation.report(), tuple(simulation.metrics.jct_s), history)
            invalid = simulation.metrics.first_invalid
            runs.append(Run(record, policy.counters(), wall_s, count, invalid))
    return runs


def count_answers(
    name: str, simulation: Simulation, given: Iterator[Answer], report: Report
) -> int:
    """Let a policy give all its answers, reporting programs done; how many answers there were.

    Raises:
        ValueError: if all of them were invalid.
    """
    count = 0
    for count, _ in enumerate(given, start=1):
        if count % _ANSWERS_PER_REPORT == 0:
            finished = len(simulation.metrics.jct_s)
            report(f"{name}: programs", finished, len(simulation.workload))
    require_valid_answers(simulation, name, count)
    return count
