"""Command line: ``python -m benchmarks.peers``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.files import PAGE, PEERS_FILE, ROOT, PeersFile, read_speeds, write
from benchmarks.page import write_page
from benchmarks.peers.compare import compare, write_trace
from benchmarks.progress import progress_bar

TRACE = ROOT / "runs" / "benchmarks" / "peer-programs.jsonl"


def main(
    programs: Annotated[int, typer.Option(help="Programs of 5 turns.", min=1)] = 200,
    repetitions: Annotated[int, typer.Option(help="Runs of each simulator.", min=1)] = 7,
    install: Annotated[
        bool, typer.Option(help="Install peers that are absent, each in its own environment.")
    ] = True,
    trace: Annotated[Path, typer.Option(help="The trace file, which is written.")] = TRACE,
    results: Annotated[Path, typer.Option(help="Result file.")] = PEERS_FILE,
    to: Annotated[Path, typer.Option(help="The page.")] = PAGE,
) -> None:
    """Compare our rate with other simulators' on one trace file, in one run.

    A peer that cannot be installed is named, with the reason; that is no error.
    """
    setting = write_trace(trace, programs)
    with progress_bar() as progress:
        task = progress.add_task("", total=repetitions)

        def report(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=total)

        found = compare(setting, repetitions, install=install, report=report)
    _print(found)
    if not any(peer.rate for peer in found.peers):
        return
    write(found, results)
    speeds = read_speeds()
    if speeds:
        write_page(speeds, found, to)
        typer.echo(f"wrote {to}")


def _print(found: PeersFile) -> None:
    out = Console(highlight=False, markup=False)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("simulator", "turns/s", "range", "TTFT, ms", "TPOT, ms", "cached"):
        table.add_column(heading)
    for run in (*found.ours, *found.peers):
        if run.rate is None:
            table.add_row(run.name, run.missing)
            continue
        table.add_row(
            run.name,
            f"{run.rate.median:,.0f}",
            f"{run.rate.low:,.0f} to {run.rate.high:,.0f}",
            f"{run.figures['ttft_ms']:.1f}",
            f"{run.figures['tpot_ms']:.2f}",
            f"{run.figures['cached_share']:.0%}",
        )
    out.print(table)
    for run in (*found.ours, *found.peers):
        out.print(f"{run.name}: {run.what}")
    for pair, ratio in found.ratios.items():
        out.print(f"{pair}: {ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})")
    for peer in found.peers:
        if peer.missing:
            out.print(f"not compared with {peer.name}: {peer.missing}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
