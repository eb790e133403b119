"""Headroom: what one better answer at a time could gain over a heuristic, and how much is luck.

In each cell a base policy runs by itself, and on the same seeds

- with each lever's alternatives tried in the true future at a share of the decisions, the best one
  being taken (``clairvoyant``);
- as a *placebo*, with nothing tried but the same answer with a few more output tokens of one turn:
  as many changes of luck as there were alternatives. These systems are chaotic, so choosing the
  best of several lucky futures gains by itself; only what lies beyond it is headroom;
- with alternatives tried in sampled futures (``lookahead``), which a live system could do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

import agentserve_gym
from agentserve_gym.baselines import parse_policy
from agentserve_gym.bench.measure import Outcome
from agentserve_gym.bench.runner import plan_jobs
from agentserve_gym.bench.suite import Entry, Suite
from agentserve_gym.messages import unknown
from agentserve_gym.report.statistics import Array, Estimate, ratio

LEVERS = ("all", "routing", "admission", "order", "placement")
BASE = "base"
LOOKAHEAD = "lookahead"


@dataclass(frozen=True, slots=True)
class Headroom:
    """One lever of one cell; ratios of mean JCT over paired seeds, below 1 where it gains.

    Attributes:
        cell, lever: of which. ``seeds``: how many.
        base_s: mean JCT of the base.
        clairvoyant, placebo: against the base.
        net: clairvoyant against placebo.
    """

    cell: str
    lever: str
    seeds: int
    base_s: float
    clairvoyant: Estimate
    placebo: Estimate
    net: Estimate


@dataclass(frozen=True, slots=True)
class Deployable:
    """What the look-ahead that samples futures achieves against its base in a cell."""

    cell: str
    seeds: int
    base_s: float
    against_base: Estimate


@dataclass(frozen=True, slots=True)
class HeadroomFigures:
    """All that a headroom run measured.

    Attributes:
        suite, base: names of the suite and of the base policy.
        programs_share: of each cell's programs, how many were run.
        lookahead: the policy that samples futures, with its share of the decisions.
        version, codes: of the package, and of the simulation that the runs come from.
    """

    suite: str
    base: str
    programs_share: float
    lookahead: str
    version: str
    codes: tuple[str, ...]
    levers: tuple[Headroom, ...]
    deployable: tuple[Deployable, ...]


def headroom_suite(
    suite: Suite,
    base: str,
    share: float,
    levers: Sequence[str] = LEVERS,
    programs_share: float = 1.0,
) -> Suite:
    """The suite's cells and seeds under a base policy and everything that looks ahead from it.

    Args:
        base: as ``parse_policy`` reads it.
        share: of the decisions at which alternatives are tried; in the true future to the end of
            the run, so that each one taken improves that very run and chaos does not blur it.
        levers: of ``LEVERS``, those whose alternatives are tried.
        programs_share: of each cell's programs, how many are run. What a run costs grows with
            their square.

    Raises:
        ValueError: for a base that is no policy, or an oracle; an unknown lever; or a share that
            is not above 0 and at most 1.
    """
    for lever in levers:
        if lever not in LEVERS:
            raise ValueError(unknown("lever", lever, LEVERS))
    if not 0.0 < programs_share <= 1.0:
        raise ValueError(f"programs_share is {programs_share}; allowed: above 0, at most 1")
    name = parse_policy(base).name
    policies = {BASE: name, LOOKAHEAD: f"lookahead(base={name},share={share})"}
    for lever in levers:
        true_future = f"base={name},share={share},lever={lever}"
        policies[_label(lever, "clairvoyant")] = f"clairvoyant({true_future})"
        policies[_label(lever, "placebo")] = f"clairvoyant({true_future},placebo=true)"
    entries = []
    for label, policy in policies.items():
        oracle = parse_policy(policy).is_oracle
        entries.append(Entry(label=label, policy=policy, lever="oracle" if oracle else "mixed"))
    changes = {
        "name": f"{suite.name}, headroom",
        "policies": entries,
        "programs_share": programs_share,
    }
    return suite.model_copy(update=changes)


def _label(lever: str, what: str) -> str:
    return f"{what} {lever}"


class HeadroomStudy:
    """Outcomes of a headroom run, paired by seed."""

    def __init__(self, suite: Suite, outcomes: Iterable[Outcome]) -> None:
        self.suite = suite
        wanted = {(job.scenario.name, job.label, job.digest) for job in plan_jobs(suite)}
        self._jct_s: dict[tuple[str, str], dict[int, float]] = {}
        self._codes: set[str] = set()
        for run in outcomes:
            if (run.scenario, run.label, run.digest) in wanted:
                self._jct_s.setdefault((run.scenario, run.label), {})[run.seed] = run.jct_mean_s
                self._codes.add(run.code)

    def figures(self) -> HeadroomFigures:
        """Everything that is complete."""
        return HeadroomFigures(
            suite=self.suite.name,
            base=self.suite.entry(BASE).policy,
            programs_share=self.suite.programs_share,
            lookahead=self.suite.entry(LOOKAHEAD).policy,
            version=agentserve_gym.__version__,
            codes=tuple(sorted(self._codes)),
            levers=tuple(self.levers()),
            deployable=tuple(self.deployable()),
        )

    def levers(self) -> list[Headroom]:
        """What is complete of each cell and lever, on the seeds that all three runs have."""
        found = []
        for cell in self._cells():
            for lever in LEVERS:
                labels = (BASE, _label(lever, "clairvoyant"), _label(lever, "placebo"))
                seeds, (base_s, clairvoyant_s, placebo_s) = self._paired(cell, labels)
                if seeds:
                    found.append(
                        Headroom(
                            cell,
                            lever,
                            seeds,
                            float(base_s.mean()),
                            ratio(clairvoyant_s, base_s),
                            ratio(placebo_s, base_s),
                            ratio(clairvoyant_s, placebo_s),
                        )
                    )
        return found

    def deployable(self) -> list[Deployable]:
        """The sampling look-ahead in each cell."""
        found = []
        for cell in self._cells():
            seeds, (base_s, ahead_s) = self._paired(cell, (BASE, LOOKAHEAD))
            if seeds:
                against = ratio(ahead_s, base_s)
                found.append(Deployable(cell, seeds, float(base_s.mean()), against))
        return found

    def _cells(self) -> list[str]:
        return list(dict.fromkeys(cell for cell, _ in self._jct_s))

    def _paired(self, cell: str, labels: tuple[str, ...]) -> tuple[int, list[Array]]:
        runs = [self._jct_s.get((cell, label), {}) for label in labels]
        seeds = sorted(set.intersection(*(set(run) for run in runs)))
        return len(seeds), [np.array([run[seed] for seed in seeds]) for run in runs]
