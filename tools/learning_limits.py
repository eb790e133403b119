"""Of docs/learning.md: where learned policies lose, and what looking ahead could still gain."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agentserve_gym.bench.headroom import BASE, LOOKAHEAD, HeadroomFigures
from agentserve_gym.bench.study import CellResult, Study
from agentserve_gym.report.markdown import change, code, plural, table
from agentserve_gym.report.statistics import Estimate, pooled_ratio
from tools.learning_studies import (
    AHEAD_PROGRAMS_SHARE,
    FAMILIES,
    GENERAL,
    SPECIALIST,
    TRIED_SHARE,
    swapped,
)

HAPPENED: dict[str, tuple[str, Callable[[float], str]]] = {
    "hits": ("hit_hbm", lambda share: f"{share:.0%}"),
    "computed again": ("recomputed_tokens", lambda tokens: f"{tokens / 1e6:.1f}"),
    "holds": ("holds", lambda count: f"{count:,.0f}"),
    "copied down": ("offloaded_gb", lambda size_gb: f"{size_gb:,.0f}"),
    "loaded back": ("loaded_gb", lambda size_gb: f"{size_gb:,.0f}"),
}
"""Heading -> column of outcomes, and how it is shown."""
HAPPENED_READING = (
    "Means over seeds: prompt tokens found in HBM; tokens computed a second time, in millions; "
    "turns held at the router; GB copied to lower tiers and loaded back."
)


def happened(cell: CellResult, label: str) -> list[str]:
    """What happened in a cell under a policy, in the order of ``HAPPENED``."""
    return [shown(cell.mean(label, column)) for column, shown in HAPPENED.values()]


def losses_section(lost: Sequence[tuple[str, Study]]) -> str:
    """Cells where the general policy is worse than the best of the cell, and by which part.

    Args:
        lost: the best policy of each, and the cell under both and under mixtures of their parts.
    """
    changes, facts = [], []
    for best, study in lost:
        (cell,) = study.cells
        mixed = swapped(GENERAL, study.suite.entry(best).policy)
        by_family = (
            change(cell.against(mixed[family], GENERAL)) if family in mixed else ""
            for family in FAMILIES
        )
        changes.append((code(cell.name), change(cell.against(GENERAL, best)), *by_family))
        facts.append((code(cell.name), code(GENERAL), *happened(cell, GENERAL)))
        facts.append(("", code(best), *happened(cell, best)))
    if not lost:
        return ""
    heading = ("cell", "against the best of the cell", *(f"with its {name}" for name in FAMILIES))
    return (
        f"## Where it loses\n\nCells of both suites in which {code(GENERAL)} is worse than the "
        "best of the cell, the interval excluding no difference; and what taking over one part "
        "of that policy changes: the part whose column gains is where the loss comes from.\n\n"
        f"{table(heading, changes)}\n{HAPPENED_READING}\n\n"
        f"{table(('cell', 'policy', *HAPPENED), facts)}"
    )


def ahead_section(ahead: Study) -> str:
    """The general policy beside the look-ahead that a live system could run."""
    cells = [cell for cell in ahead.cells if cell.cell.load != "light"]
    pairs = ((LOOKAHEAD, BASE), (GENERAL, BASE), (GENERAL, LOOKAHEAD))
    rows = []
    for cell in cells:
        against = (change(cell.against(one, other)) for one, other in pairs)
        rows.append((code(cell.name), f"{cell.mean(BASE):.1f}", *against))
    whole = (change(over_cells(cells, one, other)) for one, other in pairs)
    rows.append(("all", "", *whole))
    seeds = plural(min(len(cell.seeds) for cell in cells), "seed")
    heading = (
        "cell", "base, s", "look-ahead against the base", "learned against the base",
        "learned against look-ahead",
    )  # fmt: skip
    return (
        f"## Beside looking ahead\n\n{code(ahead.suite.entry(LOOKAHEAD).policy)} tries other "
        "answers in futures that it [draws from what may be known](policies.md#looking-ahead); it "
        "is a policy that a live system could run, if it had the time. Its base is "
        f"{code(ahead.suite.entry(BASE).policy)}. Here cells have the first "
        f"{AHEAD_PROGRAMS_SHARE:.0%} of their programs; {seeds}.\n\n{table(heading, rows)}"
    )


def left_section(figures: HeadroomFigures) -> str:
    """What one better answer at a time would gain over the specialist."""
    (left,), (ahead,) = figures.levers, figures.deployable
    return (
        f"### What is left on {code(left.cell)}\n\nWith "
        f"{figures.programs_share:.0%} of its programs and on {plural(left.seeds, 'seed')}, "
        f"[alternatives](suites.md#headroom) to the answers of {code(SPECIALIST)}, tried at a "
        f"share of {TRIED_SHARE:.0%} of its decisions in the true future, change mean JCT by "
        f"{change(left.clairvoyant)}; as many changes of luck alone, by "
        f"{change(left.placebo)}; net of these, by {change(left.net)}. "
        f"In sampled futures, as {code('lookahead')} tries them: "
        f"{change(ahead.against_base)}.\n"
    )


def over_cells(cells: Sequence[CellResult], label: str, other: str) -> Estimate:
    """One policy against another over all cells."""
    return pooled_ratio(
        [cell.values(label) for cell in cells], [cell.values(other) for cell in cells]
    )
