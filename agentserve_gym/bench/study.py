"""A study: a suite's outcomes as arrays per cell and policy, and what is computed from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from agentserve_gym.baselines import ComposedPolicy, parse_policy
from agentserve_gym.baselines.parser import DEFAULTS
from agentserve_gym.bench.luck import luck, smallest_difference
from agentserve_gym.bench.measure import Outcome
from agentserve_gym.bench.runner import digest
from agentserve_gym.bench.suite import Cell, Entry, Lever, Suite, has_lower_tier
from agentserve_gym.report.statistics import (
    Array,
    Estimate,
    held_out_choice,
    normalised_scores,
    pooled_ratio,
    probability_of_improvement,
    ratio,
    stratified_iqm,
)
from agentserve_gym.sim import Scenario

CONTROL_SPREAD = 0.01


class CellResult:
    """One cell: every policy's outcomes, in the order of the seeds.

    Attributes:
        outcomes: by label; ranked policies hold the same seeds, slow oracles the first of them.
        seeds: those for which every ranked policy has run.
        luck: by label, the standard deviation of log mean JCT that nudges alone make.
    """

    def __init__(self, cell: Cell, scenario: Scenario, suite: Suite, found: Sequence[Outcome]):
        """Keep the seeds that are complete.

        Raises:
            ValueError: if no seed is.
        """
        self.cell, self.scenario, self.suite = cell, scenario, suite
        table = {(outcome.label, outcome.seed): outcome for outcome in found if not outcome.nudge}
        everywhere = [entry.label for entry in suite.policies if _runs_fully(entry)]
        self.seeds = [
            seed
            for seed in suite.seed_numbers()
            if all((label, seed) in table for label in everywhere)
        ]
        if not self.seeds:
            raise ValueError(f"{cell.scenario}: no seed has run for all {len(everywhere)} policies")
        self.outcomes = {
            entry.label: kept
            for entry in suite.policies
            if (kept := [table[entry.label, s] for s in self.seeds if (entry.label, s) in table])
        }
        self.luck = _luck(found)

    @property
    def luck_of_a_run(self) -> float | None:
        """Root mean square over the nudged policies; ``None`` where none was nudged."""
        if not self.luck:
            return None
        return float(np.sqrt(np.mean(np.square(list(self.luck.values())))))

    @property
    def smallest_difference(self) -> float | None:
        """Of two policies' mean JCT, that luck does not hide over the cell's seeds; ``None`` where
        luck was not measured."""
        luck_of_a_run = self.luck_of_a_run
        if luck_of_a_run is None:
            return None
        return smallest_difference(luck_of_a_run, len(self.seeds))

    @property
    def name(self) -> str:
        return self.cell.scenario

    def values(self, label: str, column: str = "jct_mean_s") -> Array:
        """A column of a policy's outcomes, shape (seeds,)."""
        return np.array([getattr(outcome, column) for outcome in self.outcomes[label]], dtype=float)

    def mean(self, label: str, column: str = "jct_mean_s") -> float:
        """Over seeds."""
        return float(self.values(label, column).mean())

    @property
    def tier_names(self) -> str:
        """The memory tiers of the cell's cluster, HBM first."""
        return " / ".join(["HBM", *(name.upper() for name in self.scenario.cluster.tier_names)])

    def hits(self, label: str) -> str:
        """A policy's hit rates in each of these tiers, mean over seeds."""
        rates = [self.mean(label, "hit_hbm")]
        for number, _ in enumerate(self.scenario.cluster.tier_names):
            found = [
                float(outcome.hit_lower.split(";")[number].partition("=")[2])
                for outcome in self.outcomes[label]
            ]
            rates.append(sum(found) / len(found))
        return " / ".join(f"{rate:.0%}" for rate in rates)

    @cached_property
    def ranked(self) -> list[str]:
        """Labels that a live system could run, best mean JCT first."""
        labels = [e.label for e in self.suite.policies if e.lever != "oracle" and _runs_fully(e)]
        return sorted(labels, key=self.mean)

    @property
    def oracles(self) -> list[str]:
        """Labels of oracles that ran here."""
        return [
            e.label for e in self.suite.policies if e.lever == "oracle" and e.label in self.outcomes
        ]

    @property
    def compared(self) -> list[str]:
        """Ranked labels but for the reference, which only marks the zero."""
        return [label for label in self.ranked if label != self.suite.reference]

    @property
    def spread(self) -> float:
        """(worst - best) / best of mean JCT of the compared policies; 0 for fewer than two."""
        means = [self.mean(label) for label in self.compared]
        return max(means) / min(means) - 1.0 if means else 0.0

    @cached_property
    def has_room(self) -> bool:
        """Whether the reference is above the lower bound for every seed, so that scores exist."""
        reference = self.suite.reference
        return bool((self.values(reference) > self.values(reference, "ideal_s")).all())

    @property
    def is_control(self) -> bool:
        """Whether nothing is ranked here: policies were compared and do not separate, or the
        reference leaves no room."""
        separates = len(self.compared) < 2 or self.spread >= CONTROL_SPREAD
        return not (separates and self.has_room)

    def against(self, label: str, other: str, column: str = "jct_mean_s") -> Estimate:
        """Ratio of two policies over the seeds that both have."""
        count = min(len(self.outcomes[label]), len(self.outcomes[other]))
        return ratio(self.values(label, column)[:count], self.values(other, column)[:count])

    def scores(self, label: str) -> Array:
        """Normalised scores per seed."""
        reference = self.suite.reference
        return normalised_scores(
            self.values(label), self.values(reference), self.values(reference, "ideal_s")
        )

    def silent(self, label: str) -> list[str]:
        """Parts whose defining event fired for no seed."""
        parts = [set(outcome.silent.split()) for outcome in self.outcomes[label]]
        return sorted(set.intersection(*parts))

    def invalid_answers(self, label: str) -> int:
        """Of a policy, over the seeds."""
        return sum(outcome.invalid_answers for outcome in self.outcomes.get(label, ()))

    def tied_with_best(self) -> list[str]:
        """Ranked labels whose interval against the best mean includes no difference."""
        best = self.ranked[0]
        return [
            label for label in self.ranked if label == best or self.against(label, best).low <= 1.0
        ]


@dataclass(frozen=True, slots=True)
class Overall:
    """A policy over all cells that rank: score, chance to beat the stock policy, and places."""

    label: str
    score: Estimate
    beats_stock: Estimate
    against_stock: Estimate
    best_in: int
    tied_in: int


@dataclass(frozen=True, slots=True)
class Gain:
    """What the best of a lever's policies is worth against the stock policy in a cell.

    ``label`` is the best over all seeds; ``estimate`` is the JCT ratio with the choice for each
    seed made on the other seeds.
    """

    label: str
    estimate: Estimate


class Study:
    """A suite with its outcomes.

    Attributes:
        cells: those with at least one complete seed. ``missing``: names of the others.
    """

    def __init__(self, suite: Suite, outcomes: Iterable[Outcome]) -> None:
        """Sort outcomes into cells, leaving out those of another suite or older scenarios.

        Raises:
            ValueError: if no cell has a complete seed.
        """
        self.suite = suite
        self.cells: list[CellResult] = []
        self.missing: list[str] = []
        everything = list(outcomes)
        for cell in suite.cells:
            scenario = suite.scenario_of(cell)
            nudges = range(suite.luck.nudges + 1)
            marks = {
                (entry.label, digest(scenario, entry.policy, nudge))
                for entry in suite.policies
                for nudge in nudges
            }
            found = [
                outcome
                for outcome in everything
                if outcome.scenario == scenario.name and (outcome.label, outcome.digest) in marks
            ]
            try:
                self.cells.append(CellResult(cell, scenario, suite, found))
            except ValueError:
                self.missing.append(cell.scenario)
        if not self.cells:
            raise ValueError("no cell has a seed that has run for every policy; finish the run")

    @property
    def ranking_cells(self) -> list[CellResult]:
        """Cells that are no controls."""
        return [cell for cell in self.cells if not cell.is_control]

    def cell(self, name: str) -> CellResult | None:
        """A cell by name, if it has run."""
        return next((cell for cell in self.cells if cell.name == name), None)

    @property
    def codes(self) -> list[str]:
        """Versions of the simulation that the outcomes come from."""
        return sorted(
            {run.code for cell in self.cells for runs in cell.outcomes.values() for run in runs}
        )

    @property
    def ranked_labels(self) -> list[str]:
        """Policies that are ranked, in the suite's order."""
        return [e.label for e in self.suite.policies if e.lever != "oracle" and _runs_fully(e)]

    def invalid_answers(self, label: str) -> int:
        """Of a policy, over all cells and seeds: its figures are partly the safe fallback's."""
        return sum(cell.invalid_answers(label) for cell in self.cells)

    def labels(self, *levers: Lever) -> list[str]:
        """Policies of some levers."""
        return [e.label for e in self.suite.policies if e.lever in levers]

    @cached_property
    def overall(self) -> list[Overall]:
        """Every ranked policy over the cells that rank, best score first; empty where none does."""
        cells = self.ranking_cells
        if not cells:
            return []
        stock = [cell.values(self.suite.stock) for cell in cells]
        places = {cell.name: (cell.ranked[0], set(cell.tied_with_best())) for cell in cells}
        rows = []
        for label in self.ranked_labels:
            jct = [cell.values(label) for cell in cells]
            rows.append(
                Overall(
                    label,
                    stratified_iqm([cell.scores(label) for cell in cells]),
                    probability_of_improvement(jct, stock),
                    pooled_ratio(jct, stock),
                    sum(best == label for best, _ in places.values()),
                    sum(label in tied for _, tied in places.values()),
                )
            )
        return sorted(rows, key=lambda row: -row.score.value)

    def gain(self, cell: CellResult, levers: Sequence[Lever]) -> Gain | None:
        """The best of some levers' ranked policies against the stock policy; ``None`` for none.

        Where there is no lower tier, policies of the lever ``tiers`` have nothing to move.
        """
        stock = self.suite.stock
        moved = [lever for lever in levers if lever != "tiers" or has_lower_tier(cell.scenario)]
        labels = [label for label in self.labels(*moved) if label in cell.ranked]
        if not labels:
            return None
        best, jct = held_out_choice({label: cell.values(label) for label in labels})
        return Gain(best, ratio(jct, cell.values(stock)))

    def retention(self, cell: CellResult) -> Gain | None:
        """The best of the ranked policies that pin contexts in HBM and bring a queue order, and
        move nothing else, against the best that moves the order alone; ``None`` for none.

        One that copied KV to a lower tier here moved that lever, too.
        """
        pins = [
            entry.label
            for entry in self.suite.policies
            if entry.label in cell.ranked
            and _pins(entry)
            and not cell.mean(entry.label, "offloaded_gb")
        ]
        orders = [label for label in self.labels("order") if label in cell.ranked]
        if not pins or not orders:
            return None
        best, jct = held_out_choice({label: cell.values(label) for label in pins})
        _, order = held_out_choice({label: cell.values(label) for label in orders})
        return Gain(best, ratio(jct, order))

    def headroom(self, cell: CellResult) -> tuple[str, Estimate] | None:
        """The best oracle against the best ranked policy, both choices held out."""
        count = len(cell.seeds)
        oracles = {
            label: cell.values(label) for label in cell.oracles if len(cell.values(label)) == count
        }
        if not oracles:
            return None
        best, jct = held_out_choice(oracles)
        _, ranked = held_out_choice({label: cell.values(label) for label in cell.ranked})
        return best, ratio(jct, ranked)


def _pins(entry: Entry) -> bool:
    """Whether a policy of several levers moves residency in HBM and the order alone."""
    policy = parse_policy(entry.policy)
    return (
        entry.lever == "mixed"
        and isinstance(policy, ComposedPolicy)
        and policy.routing.name == DEFAULTS["routing"]
        and policy.admission.name == DEFAULTS["admission"]
        and policy.residency.order == policy.scheduling.name != "fcfs"
    )


def _luck(found: Sequence[Outcome]) -> dict[str, float]:
    """Of each policy that was nudged."""
    groups: dict[str, dict[int, list[float]]] = {}
    for outcome in found:
        groups.setdefault(outcome.label, {}).setdefault(outcome.seed, []).append(outcome.jct_mean_s)
    return {
        label: luck(by_seed.values())
        for label, by_seed in groups.items()
        if any(len(runs) > 1 for runs in by_seed.values())
    }


def _runs_fully(entry: Entry) -> bool:
    return entry.seeds is None and entry.scenarios is None
