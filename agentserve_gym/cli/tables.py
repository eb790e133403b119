"""Tables of results."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.table import Table

from agentserve_gym.cli.driving import Run

_ROWS: tuple[tuple[str, Callable[[Run], str]], ...] = (
    ("programs / turns", lambda run: f"{_of(run, 'programs'):,} / {_of(run, 'turns'):,}"),
    ("JCT mean, s", lambda run: f"{run.record.report['jct_s']['mean']:,.1f}"),
    ("JCT p50, s", lambda run: f"{run.record.report['jct_s']['p50']:,.1f}"),
    ("JCT p99, s", lambda run: f"{run.record.report['jct_s']['p99']:,.1f}"),
    ("TTFT mean, s", lambda run: f"{run.record.report['ttft_s']['mean']:.3f}"),
    ("TTFT p50, s", lambda run: f"{run.record.report['ttft_s']['p50']:.3f}"),
    ("TTFT p99, s", lambda run: f"{run.record.report['ttft_s']['p99']:.3f}"),
    ("hit rate HBM", lambda run: f"{run.record.report['hit_rate']['hbm']:.1%}"),
    ("hit rate DRAM", lambda run: f"{run.record.report['hit_rate']['dram']:.1%}"),
    ("hit rate CXL", lambda run: f"{run.record.report['hit_rate']['cxl']:.1%}"),
    ("recomputed tokens", lambda run: f"{_of(run, 'recomputed_tokens'):,}"),
    ("makespan, s", lambda run: f"{run.record.report['makespan_s']:,.1f}"),
    ("wall time, s", lambda run: f"{run.wall_s:.2f}"),
    ("turns simulated / s", lambda run: f"{run.turns_per_s:,.0f}"),
)


def comparison(runs: Sequence[Run], title: str) -> Table:
    """One row a metric, one column a run."""
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("")
    for run in runs:
        table.add_column(run.record.policy, justify="right", overflow="fold")
    for label, cell in _ROWS:
        table.add_row(label, *(cell(run) for run in runs))
    return table


def unfinished_warnings(runs: Sequence[Run]) -> list[str]:
    """A line for each run that the horizon ended before every program was done."""
    return [
        f"{run.record.policy}: the horizon ended the run with {unfinished} programs unfinished; "
        "JCT counts finished programs only"
        for run in runs
        if (unfinished := _of(run, "unfinished_programs"))
    ]


def _of(run: Run, key: str) -> int:
    return int(run.record.report[key])
