"""What choosing a policy for each cell is worth, against one policy for all of them.

A search makes the choice on seeds of its own, so the suite's seeds do not flatter it. The best
curated policy of a cell is chosen on the suite's seeds, for each seed on the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agentserve_gym.bench.origin import origin, seeds_apart
from agentserve_gym.bench.study import CellResult, Gain, Study
from agentserve_gym.bench.suite import curated_policies, found_labels, search_record
from agentserve_gym.report.markdown import change, code, plural, text_table
from agentserve_gym.report.statistics import Array, Estimate, held_out_choice, pooled_ratio, ratio


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search found for a cell; ratios of mean JCT over the suite's seeds, below 1 where it
    gains.

    Attributes:
        label: of the combination. ``tried``: among how many.
        on_its_seeds: its change against the stock policy, where the search measured it.
        against_stock, against_single: here, against the stock and the best single policy.
        against_curated: here, against the best curated policy of the cell, which ``label`` of the
            gain names.
    """

    cell: CellResult
    label: str
    tried: int
    on_its_seeds: float
    against_stock: Estimate
    against_single: Estimate
    against_curated: Gain


def best_single(study: Study) -> str | None:
    """The policy with the smallest geometric mean of JCT over the cells that rank, of those that
    nobody trained; ``None`` where fewer than two were compared."""
    left_out = {study.suite.reference, *study.labels("learned")}
    rows = [row for row in study.overall if row.label not in left_out]
    if len(rows) < 2:
        return None
    return min(rows, key=lambda row: row.against_stock.value).label


def searched(study: Study, single: str) -> list[Searched]:
    """What a search found, of the cells that rank and have run it, against the ``single`` policy
    as well."""
    labels, records = found_labels(), search_record().get("found", {})
    found = []
    for cell in study.ranking_cells:
        label = labels.get(cell.name)
        if label is None or label not in cell.ranked:
            continue
        curated, jct_s = _best_curated(cell)
        record = records[cell.name]
        found.append(
            Searched(
                cell,
                label,
                record["tried"],
                record["change"],
                cell.against(label, study.suite.stock),
                cell.against(label, single),
                Gain(curated, ratio(cell.values(label), jct_s)),
            )
        )
    return found


def _best_curated(cell: CellResult) -> tuple[str, Array]:
    """Of the ranked policies those that no search brought and nobody trained, or else all."""
    brought = set(found_labels().values()) - set(curated_policies())
    brought |= {entry.label for entry in cell.suite.policies if entry.lever == "learned"}
    labels = [label for label in cell.ranked if label not in brought] or cell.ranked
    return held_out_choice({label: cell.values(label) for label in labels})


def choice_sentences(study: Study) -> list[str]:
    """What is gained over the best single policy by the best curated policy of each cell, and by
    what a search found there; of cells with several seeds."""
    single = best_single(study)
    cells = [cell for cell in study.ranking_cells if len(cell.seeds) > 1]
    if single is None or not cells:
        return []
    curated = {cell.name: _best_curated(cell)[1] for cell in cells}
    singles = {cell.name: cell.values(single) for cell in cells}
    lines = [
        f"Against the best single policy, {code(single)} (smallest geometric mean of JCT over the "
        "cells), the best curated policy of each cell (held-out choice) changes mean JCT by "
        f"{_counted(curated, singles)}."
    ]
    for label in study.labels("learned"):
        if all(label in cell.ranked for cell in cells):
            learned = {cell.name: cell.values(label) for cell in cells}
            lines.append(
                f"Learned, {code(label)} changes it by {_counted(learned, singles)}; against the "
                f"best curated policy of each cell, by {_counted(learned, curated)}."
            )
    chosen = {
        item.cell.name: item.cell.values(item.label)
        for item in searched(study, single)
        if item.cell.name in curated
    }
    if chosen:
        lines.append(
            "Against the same policy, the combination that a search found for a cell, on seeds of "
            f"its own, changes mean JCT by {_counted(chosen, singles)}; against the best curated "
            f"policy of the cell, by {_counted(chosen, curated)}."
        )
    return lines


def _counted(chosen: Mapping[str, Array], others: Mapping[str, Array]) -> str:
    """A geometric mean over the cells of ``chosen``, and in how many of them it is no chance."""
    pairs = [(values, others[cell]) for cell, values in chosen.items()]
    ratios = [ratio(*pair) for pair in pairs]
    pooled = change(pooled_ratio(*zip(*pairs, strict=True)))
    gains = sum(estimate.high < 1.0 for estimate in ratios)
    losses = sum(estimate.low > 1.0 for estimate in ratios)
    text = f"{pooled} (a gain in {gains} of {plural(len(pairs), 'cell')}"
    return f"{text}, a loss in {losses})" if losses else f"{text})"


def search_section(study: Study) -> str:
    """What was found where, and what it is worth on other seeds; empty where nothing ran."""
    single = best_single(study)
    found = [] if single is None else searched(study, single)
    if single is None or not found:
        return ""
    record = search_record()
    heading = (
        "cell", "combination", "tried", "against stock, on the search's seeds",
        "against stock, here", "against the best curated of the cell", f"against {code(single)}",
    )  # fmt: skip
    rows = [
        (
            code(item.cell.name),
            code(item.label),
            str(item.tried),
            f"{item.on_its_seeds:+.1%}",
            change(item.against_stock),
            f"{change(item.against_curated.estimate)} {code(item.against_curated.label)}",
            change(item.against_single),
        )
        for item in found
    ]
    names = {item.cell.name for item in found}
    others = [code(cell.name) for cell in study.ranking_cells if cell.name not in names]
    left_out = f"\nNothing was found for, or has run in, {', '.join(others)}.\n" if others else ""
    return (
        "## What a search found in each cell\n\n`agentserve bench --search` "
        f"({origin(record['version'], record.get('code', ()), study)}) crossed routing, residency, "
        "admission and order, and kept in each cell the combination with the smallest geometric "
        f"mean of JCT on {seeds_apart(record['seeds'], study)}. Changes of mean JCT over paired "
        "seeds; the best curated policy is named over all seeds and measured with "
        f"held-out choice, {code(single)} is the single policy with the smallest geometric "
        "mean of JCT over all cells that rank. Every combination ran in every cell and is ranked "
        f"above like any policy.\n\n{text_table(heading, rows)}{left_out}"
    )
