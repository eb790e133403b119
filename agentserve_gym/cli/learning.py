"""What ``train`` and ``evaluate`` share: the table of results, and what to say beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentserve_gym.cli.figures import Figures

if TYPE_CHECKING:
    from agentserve_gym.train import Evaluation, PairedDifference

_HEADINGS = ("mean JCT, s", "slowdown", "SLO missed", "difference", "relative", "wins")


def evaluation_table(evaluation: Evaluation) -> Figures:
    """One row a policy: its figures, and how the judged policy differs from it."""
    policies = [evaluation.policy, *evaluation.others]
    cut_off = any(scores.unfinished_programs for scores in policies)
    invalid = any(scores.invalid_answers for scores in policies)
    heading = ["policy", *_HEADINGS]
    if cut_off:
        heading[1:4] = [f"{name}*" for name in heading[1:4]]
        heading.append("unfinished")
    if invalid:
        heading.append("invalid answers")
    table = Figures(f"{evaluation.scenario}, {len(evaluation.seeds)} held-out seeds", heading)
    differences = [("",) * 3, *map(difference_cells, evaluation.differences)]
    for scores, cells in zip(policies, differences, strict=True):
        row = [
            scores.policy,
            f"{scores.mean('jct'):,.2f}",
            f"{scores.mean('slowdown'):,.2f}",
            f"{scores.mean('slo'):.2%}",
            *cells,
        ]
        if cut_off:
            row.append(f"{scores.unfinished_programs:,}")
        if invalid:
            row.append(f"{scores.invalid_answers:,}")
        table.rows.append(row)
    table.remarks.append(
        f"difference: {evaluation.policy.policy} minus the row's policy, {evaluation.unit}, "
        "paired by seed, with its 95 % bootstrap interval; negative is better"
    )
    if cut_off:
        table.remarks.append(
            "* unfinished programs count in JCT and slowdown with their time up to the horizon, "
            "which is too little; SLO is of finished turns only"
        )
    return table


def warnings(evaluation: Evaluation) -> list[str]:
    """A line for each policy with unfinished programs, and for each with invalid answers."""
    policies = [evaluation.policy, *evaluation.others]
    unfinished = [
        f"{scores.policy}: the horizon ended runs with {scores.unfinished_programs:,} programs "
        f"unfinished (of {scores.programs:,}); its figures are not those of whole runs"
        for scores in policies
        if scores.unfinished_programs
    ]
    invalid = [
        f"{scores.policy}: {scores.invalid_answers:,} of {scores.answers:,} answers were invalid "
        f"and replaced by safe ones; the first is {scores.first_invalid}"
        for scores in policies
        if scores.invalid_answers
    ]
    return unfinished + invalid


def difference_cells(difference: PairedDifference) -> tuple[str, ...]:
    """The difference with its interval, as a share, and how often it is negative."""
    low, high = difference.bootstrap.low, difference.bootstrap.high
    return (
        f"{_signed(difference.mean)} [{_signed(low)}, {_signed(high)}]",
        f"{difference.relative:+.1%}",
        f"{difference.wins}/{difference.pairs}",
    )


def _signed(value: float) -> str:
    return f"{value:+,.0f}" if abs(value) >= 1000 else f"{value:+.3g}"
