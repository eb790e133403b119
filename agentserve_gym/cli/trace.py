"""``agentserve trace``: look into a workload file, or convert it (to our format or Mooncake's)."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from agentserve_gym.cli.figures import Figures
from agentserve_gym.cli.output import JsonOption, console, note, print_json
from agentserve_gym.files import is_regular, is_standard_output
from agentserve_gym.workloads import (
    describe,
    detect_format,
    read_programs,
    rereadable,
    write_mooncake,
    write_programs,
)


class Target(StrEnum):
    """Formats that can be written."""

    AGENTSERVE = "agentserve"
    MOONCAKE = "mooncake"


_WRITERS = {Target.AGENTSERVE: write_programs, Target.MOONCAKE: write_mooncake}
_COLUMNS = ("mean", "p10", "p50", "p90", "p99", "max")


def trace(
    file: Annotated[
        Path,
        typer.Argument(
            help="A workload file, plain or gzip, or a folder of JSON files; - is standard input."
        ),
    ],
    format: Annotated[  # noqa: A002
        str, typer.Option(help="Its format; auto looks at the first record.")
    ] = "auto",
    to: Annotated[
        Path | None,
        typer.Option(
            help="Also write the programs here, as JSON lines (.gz packs); - for standard "
            "output, then instead of the summary."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Let --to replace a file that exists.")
    ] = False,
    to_format: Annotated[
        Target, typer.Option(help="What --to writes; mooncake has sessions and delays.")
    ] = Target.AGENTSERVE,
    json: JsonOption = False,
) -> None:
    """Show what is in a workload file, and convert it with --to."""
    if to is not None:
        to = Path("/dev/stdout") if str(to) == "-" else to
        _require_free(to, file, force=force)
    with rereadable(file) as source:
        name = detect_format(source) if format == "auto" else format
        programs = read_programs(source, name)
    if to is not None:
        _WRITERS[to_format](programs, to)
        note(f"wrote {len(programs)} programs to {to}")
        if is_standard_output(to):
            return
    summary = {"file": str(file), "format": name, **describe(programs)}
    if json:
        print_json(summary)
    else:
        _print(summary)


def _require_free(to: Path, file: Path, *, force: bool) -> None:
    """Refuse to write over the input, and without ``force`` over any file."""
    if not is_regular(to):
        return
    source = Path("/dev/stdin") if str(file) == "-" else file
    if source.exists() and to.samefile(source):
        raise ValueError(f"to is {str(to)!r}, which is the input itself; name another file")
    if not force:
        raise ValueError(f"to is {str(to)!r}, which exists; replace it with --force")


def _print(summary: dict[str, Any]) -> None:
    out = console()
    out.print(
        f"[bold]{summary['file']}[/bold] ({summary['format']}): {summary['programs']:,} programs, "
        f"{summary['turns']:,} turns, {summary['sub_agents']:,} sub-agents, "
        f"{summary['compactions']:,} compactions"
    )
    out.print(f"agent classes: {_counts(summary['agent_classes'])}")
    if summary["labels"]:
        out.print(f"labels: {_counts(summary['labels'])}")
    out.print(f"prompt tokens that a cache without end would hold: {summary['reusable_share']:.1%}")
    out.print(_arrivals(summary["arrivals"]))
    spreads = {key: value for key, value in summary.items() if _is_spread(value)}
    spreads["shared_prefix_tokens"] = summary["shared_prefixes"]["tokens"]
    _table("programs", spreads).print(out)
    if summary["tools"]:
        durations = {
            f"{kind} x {tool['calls']:,}": tool["duration_s"]
            for kind, tool in summary["tools"].items()
        }
        _table("tool durations, s", durations).print(out)


def _table(title: str, rows: dict[str, dict[str, float]]) -> Figures:
    return Figures(
        title,
        ["", *_COLUMNS],
        [[label, *(_number(row[name]) for name in _COLUMNS)] for label, row in rows.items()],
    )


def _is_spread(value: Any) -> bool:
    return isinstance(value, dict) and all(name in value for name in _COLUMNS)


def _arrivals(arrivals: dict[str, float] | None) -> str:
    if arrivals is None:
        return "arrival times: none"
    return (
        f"arrivals: {arrivals['rate_per_s']:.3g} programs/s over {arrivals['span_s']:,.0f} s, "
        f"coefficient of variation {arrivals['cv']:.2f}"
    )


def _number(value: float) -> str:
    if value >= 100_000:
        return f"{value / 1000:,.0f}k"
    if value == int(value) or value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.001 else f"{value:.1g}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
