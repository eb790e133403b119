"""Mean logarithms of JCT over paired runs: what tuning and search rank candidates by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

import numpy as np

from agentserve_gym.bench.measure import Outcome
from agentserve_gym.bench.suite import find_scenario

Run = tuple[str, int]
"""The name of a cell's scenario, as outcomes have it, and a seed."""


def runs_of(scenarios: Iterable[str], seeds: Collection[int]) -> list[Run]:
    """Every run of cells, whose scenarios may be files that name themselves otherwise."""
    names = [find_scenario(scenario).name for scenario in scenarios]
    return [(name, seed) for name in names for seed in seeds]


class JctLogs:
    """Logarithms of mean JCT by candidate, cell and seed, of outcomes whose labels are the
    candidates."""

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        self._logs: dict[str, dict[Run, float]] = defaultdict(dict)
        self._codes: dict[str, dict[Run, str]] = defaultdict(dict)
        for outcome in outcomes:
            run = (outcome.scenario, outcome.seed)
            self._logs[outcome.label][run] = float(np.log(outcome.jct_mean_s))
            self._codes[outcome.label][run] = outcome.code

    def mean(self, candidate: str, runs: Collection[Run]) -> float:
        """The logarithm of a candidate's geometric mean.

        Raises:
            ValueError: if it has not run everywhere.
        """
        known = self._logs[candidate]
        missing = sum(run not in known for run in runs)
        if missing:
            raise ValueError(f"{candidate} has not run for {missing} of {len(runs)} outcomes")
        return float(np.mean([known[run] for run in sorted(runs)]))

    def codes(self, runs: Collection[Run]) -> list[str]:
        """Versions of the simulation (``Outcome.code``) that these runs come from."""
        return sorted(
            {codes[run] for codes in self._codes.values() for run in runs if run in codes}
        )

    def change(self, candidate: str, reference: str, runs: Collection[Run]) -> float:
        """A candidate's geometric mean relative to another's, less 1."""
        return float(np.exp(self.mean(candidate, runs) - self.mean(reference, runs))) - 1.0
