"""``agentserve trace``: look into a workload file, or convert it to our own format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from agentserve_gym.cli.output import JsonOption, console, note, print_json
from agentserve_gym.workloads import (
    Program,
    Turn,
    detect_format,
    read_programs,
    write_programs,
)

_QUANTILES = (10, 50, 90, 99)


def trace(
    file: Annotated[Path, typer.Argument(help="A workload file, plain or gzip.")],
    format: Annotated[  # noqa: A002
        str, typer.Option(help="Its format; auto looks at the first record.")
    ] = "auto",
    to: Annotated[
        Path | None, typer.Option(help="Also write the programs here, as JSON lines (.gz packs).")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show what is in a workload file, and convert it with --to."""
    name = detect_format(file) if format == "auto" else format
    programs = read_programs(file, name)
    if to is not None:
        write_programs(programs, to)
        note(f"wrote {len(programs)} programs to {to}")
    summary = {"file": str(file), "format": name, **summarize(programs)}
    if json:
        print_json(summary)
    else:
        _print(summary)


def summarize(programs: Sequence[Program]) -> dict[str, Any]:
    """Counts and quantiles of a list of programs."""
    turns = [turn for program in programs for turn in program.turns]
    children = [child for turn in turns for child in turn.children]
    gaps = {kind: [t.gap_s for t in turns if t.gap_kind == kind] for kind in ("tool", "user")}
    rows: dict[str, Iterable[float]] = {
        "turns_per_program": (len(program.turns) for program in programs),
        "prompt_tokens": (turn.input_tokens for turn in turns),
        "new_input_tokens": _new_tokens(programs),
        "output_tokens": (turn.output_tokens for turn in turns),
        "final_context_tokens": (_final_context(program.turns[-1]) for program in programs),
        "shared_prefix_tokens": (program.shared_prefix_tokens for program in programs),
        "tool_gap_s": gaps["tool"],
        "user_gap_s": gaps["user"],
        "tools_per_gap": (len(turn.tools) for turn in turns if turn.tools),
    }
    return {
        "programs": len(programs),
        "turns": len(turns),
        "subagents": len(children),
        "prompt_tokens": sum(turn.input_tokens for turn in turns),
        "output_tokens": sum(turn.output_tokens for turn in turns),
        "with_arrival_times": sum(program.arrival_s is not None for program in programs),
        "agent_classes": dict(Counter(program.agent_class for program in programs)),
        "labels": dict(Counter(label for program in programs for label in program.labels)),
        "quantiles": {key: found for key, values in rows.items() if (found := _quantiles(values))},
        "tool_duration_s": _tool_durations(turns),
    }


def _new_tokens(programs: Sequence[Program]) -> Iterator[int]:
    for program in programs:
        for turn in program.turns[1:]:
            yield turn.new_input_tokens


def _final_context(turn: Turn) -> int:
    return turn.input_tokens + turn.output_tokens


def _tool_durations(turns: Sequence[Turn]) -> dict[str, dict[str, float]]:
    """Quantiles of each kind's durations, the most frequent kind first."""
    durations: dict[str, list[float]] = {}
    for turn in turns:
        for tool in turn.tools:
            durations.setdefault(tool.kind, []).append(tool.duration_s)
    frequent = sorted(durations.items(), key=lambda item: (-len(item[1]), item[0]))
    return {kind: _quantiles(values) for kind, values in frequent}


def _quantiles(values: Iterable[float]) -> dict[str, float]:
    data = np.fromiter(values, dtype=np.float64)
    if not len(data):
        return {}
    points = np.percentile(data, _QUANTILES)
    return {
        "count": len(data),
        "mean": float(data.mean()),
        **{f"p{q}": float(point) for q, point in zip(_QUANTILES, points, strict=True)},
        "max": float(data.max()),
    }


def _print(summary: dict[str, Any]) -> None:
    out = console()
    out.print(
        f"[bold]{summary['file']}[/bold] ({summary['format']}): {summary['programs']:,} programs, "
        f"{summary['turns']:,} turns, {summary['subagents']:,} sub-agents, "
        f"{summary['prompt_tokens']:,} prompt and {summary['output_tokens']:,} output tokens"
    )
    out.print(f"agent classes: {_counts(summary['agent_classes'])}")
    if summary["labels"]:
        out.print(f"labels: {_counts(summary['labels'])}")
    out.print(f"programs with arrival times: {summary['with_arrival_times']:,}")
    out.print(_table("", summary["quantiles"]))
    if summary["tool_duration_s"]:
        out.print(_table("tool_duration_s", summary["tool_duration_s"]))


def _table(title: str, rows: dict[str, dict[str, float]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(title, no_wrap=True)
    for name in ("count", "mean", *(f"p{q}" for q in _QUANTILES), "max"):
        table.add_column(name, justify="right")
    for label, row in rows.items():
        table.add_row(label, *(_number(value) for value in row.values()))
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or value >= 1000 else f"{value:.3g}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
