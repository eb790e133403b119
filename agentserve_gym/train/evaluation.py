"""Judging policies: every policy meets the same held-out workloads, and differences are paired."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agentserve_gym.baselines import NamedPolicy, run_policy
from agentserve_gym.report.statistics import PairedDifference, paired_difference
from agentserve_gym.sim import Scenario, Simulation
from agentserve_gym.train.seeds import check_not_trained_on

Report = Callable[[str, int, int], None]


Metric = Literal["jct", "slowdown", "slo"]
METRICS: dict[Metric, str] = {
    "jct": "s of mean JCT",
    "slowdown": "mean slowdown against an idle cluster",
    "slo": "share of turns that miss their objective",
}
"""What policies are compared by, smaller being better, and its unit."""


@dataclass(frozen=True, slots=True)
class Scores:
    """One policy's figures per seed, in the order of the seeds.

    Attributes:
        policy: its name.
        figures: by metric; ``jct`` in seconds. Programs that the horizon cut off count with their
            time up to it.
        programs, unfinished_programs, answers, invalid_answers: over all seeds.
        first_invalid: the first invalid answer in words, if there is one.
    """

    policy: str
    figures: dict[Metric, list[float]]
    programs: int
    unfinished_programs: int
    answers: int
    invalid_answers: int
    first_invalid: str | None

    def mean(self, metric: Metric) -> float:
        """Over seeds."""
        values = self.figures[metric]
        return sum(values) / len(values)

    def as_row(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "policy": self.policy,
            **{f"mean_{metric}": self.mean(metric) for metric in METRICS},
            "unfinished_programs": self.unfinished_programs,
            "invalid_answers": self.invalid_answers,
            "first_invalid": self.first_invalid,
            "by_seed": self.figures,
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A policy against others.

    Attributes:
        scenario, seeds: where. ``metric``: by what.
        policy: the scores of the policy that is judged. ``others``: of those it is judged by.
        differences: its metric minus theirs, paired by seed; negative is better.
    """

    scenario: str
    seeds: list[int]
    metric: Metric
    policy: Scores
    others: list[Scores]
    differences: list[PairedDifference]

    @property
    def unit(self) -> str:
        """Of the metric."""
        return METRICS[self.metric]

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        others = [
            {**scores.as_row(), "difference": difference.as_dict()}
            for scores, difference in zip(self.others, self.differences, strict=True)
        ]
        return {
            "scenario": self.scenario,
            "seeds": self.seeds,
            "metric": self.metric,
            "unit": self.unit,
            "policies": [self.policy.as_row(), *others],
        }


def evaluate(
    policy: NamedPolicy,
    others: Sequence[NamedPolicy],
    scenario: Scenario,
    seeds: Sequence[int],
    metric: Metric,
    report: Report,
) -> Evaluation:
    """Judge a policy by others on evaluation seeds.

    Raises:
        ValueError: if a seed is one that training or selection may have used.
    """
    check_not_trained_on(seeds)
    scores = score(policy, scenario, seeds, report)
    other_scores = [score(other, scenario, seeds, report) for other in others]
    return Evaluation(
        scenario.name,
        list(seeds),
        metric,
        scores,
        other_scores,
        [
            paired_difference(scores.figures[metric], other.figures[metric])
            for other in other_scores
        ],
    )


def score(policy: NamedPolicy, scenario: Scenario, seeds: Sequence[int], report: Report) -> Scores:
    """Run a policy on every seed.

    Raises:
        ValueError: if every answer to a run is invalid.
    """
    figures: dict[Metric, list[float]] = {metric: [] for metric in METRICS}
    programs, unfinished, answers, invalid = 0, 0, 0, 0
    first_invalid: str | None = None
    for number, seed in enumerate(seeds):
        report(f"{policy.name}: seeds", number, len(seeds))
        simulation = Simulation(scenario, seed)
        outcome = run_policy(simulation, policy)
        total_s, weighted = simulation.unfinished_time()
        planned = len(simulation.workload)
        figures["jct"].append(total_s / planned)
        figures["slowdown"].append(weighted / planned)
        figures["slo"].append(1.0 - float(outcome["slo_goodput"]))
        programs += planned
        unfinished += int(outcome["unfinished_programs"])
        answers += int(outcome["answers"])
        invalid += int(outcome["invalid_answers"])
        first_invalid = first_invalid or outcome["first_invalid"]
    return Scores(policy.name, figures, programs, unfinished, answers, invalid, first_invalid)
