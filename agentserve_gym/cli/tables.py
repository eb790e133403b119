"""Tables of results."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agentserve_gym.cli.driving import Run
from agentserve_gym.cli.figures import Figures

_MEAN_JCT = "JCT mean, s"
_ROWS: tuple[tuple[str, Callable[[Run], str]], ...] = (
    ("programs / turns", lambda run: f"{_of(run, 'programs'):,} / {_of(run, 'turns'):,}"),
    (_MEAN_JCT, lambda run: f"{run.record.report['jct_s']['mean']:,.1f}"),
    ("JCT p50, s", lambda run: f"{run.record.report['jct_s']['p50']:,.1f}"),
    ("JCT p99, s", lambda run: f"{run.record.report['jct_s']['p99']:,.1f}"),
    ("TTFT mean, s", lambda run: f"{run.record.report['ttft_s']['mean']:.3f}"),
    ("TTFT p50, s", lambda run: f"{run.record.report['ttft_s']['p50']:.3f}"),
    ("TTFT p99, s", lambda run: f"{run.record.report['ttft_s']['p99']:.3f}"),
)
_TIER = "hit rate {}"
_REST: tuple[tuple[str, Callable[[Run], str]], ...] = (
    ("recomputed tokens", lambda run: f"{_of(run, 'recomputed_tokens'):,}"),
    ("makespan, s", lambda run: f"{run.record.report['makespan_s']:,.1f}"),
    ("wall time, s", lambda run: f"{run.wall_s:.2f}"),
    ("turns simulated / s", lambda run: f"{run.turns_per_s:,.0f}"),
)


def comparison(runs: Sequence[Run], title: str) -> Figures:
    """One row a metric, one column a run."""
    table = Figures(title, ["", *(run.record.policy for run in runs)])
    cut_off = any(_of(run, "unfinished_programs") for run in runs)
    tiers = [(_TIER.format(name.upper()), _hit_rate(name)) for name in _tiers(runs)]
    for label, cell in (*_ROWS, *tiers, *_REST):
        mark = "*" if cut_off and label.startswith("JCT") else ""
        table.rows.append([label + mark, *(cell(run) for run in runs)])
        if mark and label == _MEAN_JCT:
            table.rows.append(
                [f"{label}, all programs", *(f"{_of_all_s(run):,.1f}" for run in runs)]
            )
    for label, key in (
        ("unfinished programs", "unfinished_programs"),
        ("invalid answers", "invalid_answers"),
    ):
        if any(_of(run, key) for run in runs):
            table.rows.append([label, *(f"{_of(run, key):,}" for run in runs)])
    if cut_off:
        table.remarks.append(
            "* finished programs only; of all programs, unfinished ones with their time so far, is "
            "what rewards pay"
        )
    return table


def warnings(runs: Sequence[Run]) -> list[str]:
    """A line for each run that the horizon ended before every program was done, and for each
    policy with invalid answers."""
    unfinished = [
        f"{run.record.policy}: the horizon ended the run with {count} programs unfinished; "
        f"JCT counts finished programs only, but its mean over all is {_of_all_s(run):,.1f} s"
        for run in runs
        if (count := _of(run, "unfinished_programs"))
    ]
    invalid = [
        f"{run.record.policy}: {count:,} of {run.answers:,} answers were invalid and replaced by "
        f"safe ones; the first is {run.first_invalid}"
        for run in runs
        if (count := _of(run, "invalid_answers"))
    ]
    return unfinished + invalid


def _tiers(runs: Sequence[Run]) -> list[str]:
    """Every memory tier that some run's cluster has, nearest first."""
    names: dict[str, None] = {}
    for run in runs:
        names.update(dict.fromkeys(run.record.report["hit_rate"]))
    return list(names)


def _hit_rate(tier: str) -> Callable[[Run], str]:
    def cell(run: Run) -> str:
        rates = run.record.report["hit_rate"]
        return f"{rates[tier]:.1%}" if tier in rates else ""

    return cell


def _of_all_s(run: Run) -> float:
    return float(run.record.report["mean_jct_s"]["all"])


def _of(run: Run, key: str) -> int:
    return int(run.record.report[key])
