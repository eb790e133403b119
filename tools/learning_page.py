"""docs/learning.md: what learned policies are worth, from the outcomes of ``learning_studies``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import expm1

from agentserve_gym.baselines.learned.weights import about_weights, packaged_weights
from agentserve_gym.bench.headroom import HeadroomFigures
from agentserve_gym.bench.study import CellResult, Study
from agentserve_gym.cli.driving import run_policies
from agentserve_gym.cli.explain import explain
from agentserve_gym.plots import Difference, Differences, draw_comparison, draw_differences
from agentserve_gym.report.markdown import change, code, plural, table, text_table
from agentserve_gym.report.page import current_commit, joined, opening
from agentserve_gym.report.statistics import Estimate, pooled_ratio, ratio
from tools.learning_ingredients import ingredients_section
from tools.learning_limits import (
    HAPPENED,
    HAPPENED_READING,
    ahead_section,
    happened,
    left_section,
    losses_section,
    over_cells,
)
from tools.learning_studies import GENERAL, SPECIALIST, UNTRAINED, part_policies

PICTURES = {
    "standard": "learning/standard.png",
    "unseen": "learning/unseen.png",
    "episode": "learning/episode.png",
}
COLUMNS = ("jct_mean_s", "jct_p99_s", "slowdown")
_CHANGING = ("gamma", "diurnal", "staged")
_CLOSE = 0.01

_INTRODUCTION = """Policies whose weights were trained here
([training.md](training.md#learned-parts)) against policies that a live system could run, on seeds
that neither training nor the choice among weights has seen. Changes are of the learned policy
against the other: geometric means over paired seeds, and over cells where there are several, with
95 % intervals (Student's in one cell, resampled seeds within each cell over several); negative is
better, **bold** excludes no difference. The best of the others is picked on the very seeds that it
is judged by, which flatters it.
"""


@dataclass(frozen=True, slots=True)
class Judged:
    """A learned policy in the cells of a study, against all others that ran there."""

    label: str
    cells: list[CellResult]
    others: list[str]

    def over_cells(self, other: Callable[[CellResult], str], column: str = COLUMNS[0]) -> Estimate:
        """Against a policy of each cell, over all cells."""
        return pooled_ratio(
            [cell.values(self.label, column) for cell in self.cells],
            [cell.values(other(cell), column) for cell in self.cells],
        )

    def against(self, other: str, column: str = COLUMNS[0]) -> Estimate:
        """Against one policy over all cells."""
        return self.over_cells(lambda _: other, column)

    @property
    def best_single(self) -> str:
        """Of the others: the smallest geometric mean of JCT over the cells."""
        return max(self.others, key=lambda other: self.against(other).value)

    def best_of(self, cell: CellResult) -> str:
        """Of the others: the smallest geometric mean of JCT in a cell."""
        return max(self.others, key=lambda other: cell.against(self.label, other).value)

    def only(self, cells: list[CellResult]) -> Judged:
        """In some of the cells."""
        return Judged(self.label, cells, self.others)

    @property
    def lost(self) -> dict[str, str]:
        """Cell -> its best other policy, where that is better and the interval says so."""
        best = {cell: self.best_of(cell) for cell in self.cells}
        return {
            cell.name: other
            for cell, other in best.items()
            if cell.against(self.label, other).low > 1.0
        }

    @property
    def changing(self) -> list[CellResult]:
        """Cells whose load changes within an episode."""
        return [cell for cell in self.cells if cell.scenario.arrivals.kind in _CHANGING]


def judged(study: Study, label: str) -> Judged:
    """In all cells but the light ones."""
    cells = [cell for cell in study.cells if cell.cell.load != "light"]
    compared = set(cells[0].compared) - set(study.labels("learned"))
    return Judged(label, cells, [other for other in study.ranked_labels if other in compared])


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the page is written from.

    Attributes:
        studies: of ``learning_results.SUITES``, by their folders.
        retrained: of ``learning_results.EVERYWHERE``, with the weights of other trainings.
        ingredients: the general policy without one thing that it counts.
        lost: cells where the general policy loses, under it, the best other policy, and mixtures
            of their parts; each with that policy.
        ahead: the general policy beside the look-ahead.
        left: what looking ahead gains over the specialist.
    """

    studies: Mapping[str, Study]
    retrained: Mapping[str, Study]
    ingredients: Study
    lost: Sequence[tuple[str, Study]]
    ahead: Study
    left: HeadroomFigures


def page(evidence: Evidence) -> str:
    """The page as Markdown."""
    studies, retrained = evidence.studies, evidence.retrained
    specialist = judged(studies["default"], SPECIALIST)
    return joined(
        [
            opening("Learned policies", "make learning-results", current_commit()),
            _INTRODUCTION,
            _weights(),
            _general(judged(studies["standard"], GENERAL)),
            _parts(judged(studies["general-parts"], GENERAL)),
            ingredients_section(evidence.ingredients),
            _unseen(judged(studies["unseen"], GENERAL)),
            losses_section(evidence.lost),
            _trainings(retrained["standard"], retrained["unseen"]),
            ahead_section(evidence.ahead),
            _specialist(specialist),
            _differently(specialist),
            _parts(judged(studies["parts"], SPECIALIST)),
            left_section(evidence.left),
        ]
    )


def pictures(studies: Mapping[str, Study]) -> dict[str, bytes]:
    """By path from the page."""
    return {
        PICTURES["episode"]: _episode(judged(studies["default"], SPECIALIST)),
        PICTURES["standard"]: _picture(judged(studies["standard"], GENERAL)),
        PICTURES["unseen"]: _picture(judged(studies["unseen"], GENERAL)),
    }


def _weights() -> str:
    """What comes with the package, and how it was trained."""
    rows = []
    for name in packaged_weights():
        about = about_weights(name)
        kept = about["selection"]
        recipe = code(f"agentserve train --recipe {about['recipe']}")
        cells = about["cells"]
        trained_on = cells[0] if len(cells) == 1 else plural(len(cells), "cell")
        update, cost = str(kept["update"]), f"{expm1(kept['change']):+.1%}"
        rows.append((code(name), recipe, trained_on, update, cost))
    heading = ("weights", "trained by", "on", "kept after update", "cost on selection seeds")
    return (
        "## Weights of the package\n\n*Cost*: mean JCT, and the share of p99 that the recipe "
        "names, against the weights that training began with, which make the parts heuristics, on "
        f"the seeds that the weights were chosen by.\n\n{text_table(heading, rows)}"
    )


def _general(standard: Judged) -> str:
    return (
        f"## One policy for every cluster: the standard suite\n\n{code(GENERAL)} in "
        f"{plural(len(standard.cells), 'cell')} of the [standard suite](benchmark.md), on "
        f"{_seeds(standard)} that are not the suite's own, against the policies that are strong "
        "somewhere in it.\n\n"
        f"{_verdict(standard)}\n{_cells_table(standard)}\n![cells]({PICTURES['standard']})\n\n"
        f"{_others_table(standard)}"
    )


def _differently(specialist: Judged) -> str:
    """What happened under both policies."""
    (cell,) = specialist.cells
    policies = (specialist.label, specialist.best_single)
    rows = [(code(policy), *happened(cell, policy)) for policy in policies]
    return (
        f"### What it does differently\n\n{HAPPENED_READING}\n\n"
        f"{table(('policy', *HAPPENED), rows)}\n"
        f"One episode under both:\n\n![episode]({PICTURES['episode']})\n"
    )


def _episode(specialist: Judged) -> bytes:
    """Both policies in one episode."""
    (cell,) = specialist.cells
    labels = (specialist.best_single, SPECIALIST)
    policies = [cell.suite.entry(label).policy for label in labels]
    runs = [
        replace(run, record=replace(run.record, policy=label))
        for label, run in zip(
            labels, run_policies(cell.scenario, policies, cell.seeds[0], recorded=True), strict=True
        )
    ]
    headline, *_ = explain(runs)
    return draw_comparison([run.record for run in runs], headline, cell.scenario.description)


def _unseen(unseen: Judged) -> str:
    return (
        "## The same weights where nobody trained or tuned\n\n"
        f"The suite `unseen`: {plural(len(unseen.cells), 'cell')} with other GPUs, models, numbers "
        "of instances, mixes, rates and rhythms than the standard suite's, one of them with late "
        f"signals; {_seeds(unseen)}. [Two](suites.md#the-suite-unseen) of them led to cells that "
        "are trained on.\n\n"
        f"{_verdict(unseen)}\n{_cells_table(unseen)}\n![cells]({PICTURES['unseen']})\n\n"
        f"{_others_table(unseen)}"
    )


def _trainings(standard: Study, unseen: Study) -> str:
    """How much of the result is the training's luck."""
    labels = [GENERAL, *(other for other in standard.labels("learned") if other not in _OF_PACKAGE)]
    inside = [judged(standard, label) for label in labels]
    outside = [judged(unseen, label) for label in labels]
    rows = []
    for number, (here, there) in enumerate(zip(inside, outside, strict=True)):
        against = (here.against(here.best_single, column) for column in COLUMNS[:2])
        best = change(here.over_cells(here.best_of))
        rows.append((str(number), *map(change, against), best, change(_against_single(there))))
    spreads = [
        f"{min(values):+.1%} to {max(values):+.1%}"
        for values in (
            [_against_single(one).value - 1 for one in some] for some in (inside, outside)
        )
    ]
    heading = (
        "training seed", "standard, against the best single", "p99", "against the best of each",
        "unseen, against the best single",
    )  # fmt: skip
    return (
        f"## The same recipe with other seeds\n\n{len(labels)} trainings by `agentserve train "
        f"--recipe general --seed N`, of which the package has that of seed 0, on the first "
        f"{_seeds(inside[0])} of those above. Against the best single policy they change mean "
        f"JCT by {spreads[0]} in the standard suite, and by {spreads[1]} in the unseen cells.\n\n"
        f"{table(heading, rows)}"
    )


def _against_single(some: Judged) -> Estimate:
    return some.against(some.best_single)


_OF_PACKAGE = (UNTRAINED, GENERAL, SPECIALIST)


def _seeds(some: Judged) -> str:
    return plural(min(len(cell.seeds) for cell in some.cells), "seed")


def _verdict(some: Judged) -> str:
    """What the tables say, as a list."""
    single = some.best_single
    mean, tail, slowdown = (change(some.against(single, column)) for column in COLUMNS)
    of_cells = {cell.name: cell.against(some.label, some.best_of(cell)) for cell in some.cells}
    singles = [cell.against(some.label, single) for cell in some.cells]
    worst = max(of_cells, key=lambda name: of_cells[name].value)
    close = sum(estimate.value <= 1 + _CLOSE for estimate in of_cells.values())
    lines = [
        f"Against the best single one, {code(single)}: mean JCT {mean}, p99 {tail}, slowdown "
        f"{slowdown}; {_won_and_lost(singles)}.",
        f"Against the best of each cell: {change(some.over_cells(some.best_of))}; "
        f"{_won_and_lost(list(of_cells.values()))}; no more than {_CLOSE:.0%} worse in {close}; "
        f"worst in {code(worst)}, {change(of_cells[worst])}.",
        f"Against the rules that recipes start from, {code(UNTRAINED)}, of which the recipe's "
        f"`[begin]` changes some before training: "
        f"{change(some.against(UNTRAINED))}.",
    ]
    if some.changing:
        changing = some.only(some.changing)
        names = ", ".join(code(cell.name) for cell in changing.cells)
        lines.append(
            f"Where load changes within an episode ({names}), against {code(single)}: "
            f"{change(changing.against(single))}."
        )
    return "".join(f"- {line}\n" for line in lines)


def _won_and_lost(estimates: Sequence[Estimate]) -> str:
    """In how many cells the interval excludes no difference, either way."""
    won = sum(estimate.high < 1.0 for estimate in estimates)
    lost = sum(estimate.low > 1.0 for estimate in estimates)
    return f"better in {won} of {plural(len(estimates), 'cell')}, worse in {lost}"


def _cells_table(some: Judged) -> str:
    single = some.best_single
    rows = []
    for cell in some.cells:
        best = some.best_of(cell)
        changes = (change(_in_cell(cell, some.label, single, column)) for column in COLUMNS)
        own = f"{cell.mean(some.label):.1f}"
        rows.append(
            (code(cell.name), own, *changes, change(cell.against(some.label, best)), code(best))
        )
    heading = (
        "cell", "mean JCT, s", f"against {code(single)}", "p99", "slowdown",
        "against the best of the cell", "which is",
    )  # fmt: skip
    return table(heading, rows)


def _others_table(some: Judged) -> str:
    rows = []
    for other in sorted(some.others, key=lambda other: -some.against(other).value):
        changes = (change(some.against(other, column)) for column in COLUMNS)
        won = _won_and_lost([cell.against(some.label, other) for cell in some.cells])
        rows.append((code(other), *changes, won))
    return table(("against", "mean JCT", "p99", "slowdown", "cells"), rows)


def _in_cell(cell: CellResult, label: str, other: str, column: str) -> Estimate:
    return ratio(cell.values(label, column), cell.values(other, column))


def _picture(some: Judged) -> bytes:
    """Every cell against the best single policy, and against the best of the cell."""
    single = some.best_single
    return draw_differences(
        [
            Differences(
                f"Mean JCT of {some.label} against {single}",
                [_row(cell.name, cell.against(some.label, single)) for cell in some.cells],
            ),
            Differences(
                f"Mean JCT of {some.label} against the best of each cell",
                [
                    _row(cell.name, cell.against(some.label, some.best_of(cell)))
                    for cell in some.cells
                ],
            ),
        ]
    )


def _row(name: str, estimate: Estimate) -> Difference:
    return Difference(name, estimate.value - 1, estimate.low - 1, estimate.high - 1)


def _parts(parts: Judged) -> str:
    """Parts taken away and added, against nothing learned."""
    policies, nothing = part_policies(parts.label), UNTRAINED
    rows = []
    for other, learned in {**policies, parts.label: "everything"}.items():
        from_start = change(over_cells(parts.cells, other, nothing)) if other != nothing else ""
        rows.append((learned, code(other), from_start))
    return (
        f"### What each part of {code(parts.label)} is worth\n\n"
        f"On {_seeds(parts)}, with the trained weights of some parts, and the rules that recipes "
        "start from for the others.\n\n"
        f"{text_table(('learned', 'policy', 'mean JCT against nothing learned'), rows)}"
    )


def _specialist(specialist: Judged) -> str:
    (cell,) = specialist.cells
    best = specialist.best_of(cell)
    against = change(cell.against(SPECIALIST, best))
    won = int((cell.values(SPECIALIST) < cell.values(best)).sum())
    rows = []
    for other in sorted(specialist.others, key=cell.mean):
        changes = (change(_in_cell(cell, SPECIALIST, other, column)) for column in COLUMNS)
        rows.append((code(other), f"{cell.mean(other):.1f}", *changes))
    heading = ("against", "mean JCT, s", "mean JCT", "p99", "slowdown")
    return (
        f"## The specialist for the preset `default`\n\n{code(SPECIALIST)}: mean JCT "
        f"{cell.mean(SPECIALIST):.1f} s over {plural(len(cell.seeds), 'seed')}. Against the best "
        f"of {len(specialist.others)} others on these very seeds, {code(best)}: {against}, {won} "
        f"of {len(cell.seeds)} seeds won. Against the rules that training began with, "
        f"{code(UNTRAINED)}: {change(cell.against(SPECIALIST, UNTRAINED))}.\n\n"
        f"{table(heading, rows)}"
    )
