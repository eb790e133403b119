"""Command line: ``python -m benchmarks.speed [ROW ...]``, without rows all; the kernel that runs.

Results are printed, and kept beside earlier ones for the page, which `benchmarks.both` writes.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable

from agentserve_gym.compiled import running
from benchmarks.catalogue import ROWS
from benchmarks.control import Control
from benchmarks.files import SPEED_FILES, SpeedFile, read, write
from benchmarks.machine import Machine
from benchmarks.measure import Bench, Result, spread
from benchmarks.progress import progress_bar
from benchmarks.sizes import FULL, QUICK, Sizes

_HELP = "Measure speed. Rows: " + "; ".join(f"{row.name}: {row.help}" for row in ROWS.values())


def main(
    rows: Annotated[list[str] | None, typer.Argument(help="Rows; none means all.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny sizes, for a first look.")] = False,
    turns: Annotated[
        int | None, typer.Option(help="Length of the longest run, in turns.", min=1_000)
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Result file; by default that of the kernel that runs.")
    ] = None,
) -> None:
    """Measure rows, print them, keep them."""
    names = rows or list(ROWS)
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is no row; rows: {', '.join(ROWS)}")
    sizes = QUICK if quick else FULL
    if turns is not None:
        shorter = [size for size in sizes.turns if size < turns]
        sizes = replace(sizes, turns=(*shorter, turns))
    measured = measure(names, sizes)
    _print(measured)
    file = results or SPEED_FILES["interpreted" if running() is None else "compiled"]
    write(_merged(read(SpeedFile, file), measured) if rows else measured, file)


def measure(names: list[str], sizes: Sizes) -> SpeedFile:
    """Measure rows in order, each beside the controls."""
    control = Control(sizes.control_events)
    started = time.perf_counter()
    found: list[Result] = []
    with progress_bar() as progress:
        overall = progress.add_task("rows", total=len(names))
        part = progress.add_task("", total=None)

        def report(what: str, done: int, total: int) -> None:
            progress.update(part, description=what, completed=done, total=total)

        bench = Bench(sizes, control, report)
        for name in names:
            progress.update(overall, description=name)
            progress.reset(part, description="", total=None)
            control.all()
            row_started = time.perf_counter()
            results = ROWS[name].measure(bench)
            taken = time.perf_counter() - row_started
            found += [result.model_copy(update={"wall_s": taken}) for result in results]
            progress.advance(overall)
        control.all()
    return SpeedFile(
        machine=Machine.here(),
        controls={name: spread(values) for name, values in control.seconds.items()},
        results=found,
        wall_s=time.perf_counter() - started,
    )


def _merged(before: SpeedFile | None, now: SpeedFile) -> SpeedFile:
    """Rows measured now, and those of earlier runs on an equal machine in their places."""
    if before is None or before.machine != now.machine:
        return now
    fresh = {result.row for result in now.results}
    results = [*now.results, *(result for result in before.results if result.row not in fresh)]
    order = [*ROWS, "memory"]
    return now.model_copy(
        update={"results": sorted(results, key=lambda result: order.index(result.row))}
    )


def _print(measured: SpeedFile) -> None:
    out = Console(highlight=False, markup=False)
    table = RichTable(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("row", "measured", "range", "unit", "target", "", "bare events"):
        table.add_column(heading)
    for result in measured.results:
        value = result.measured
        if value is None:
            table.add_row(result.row, result.missing or "see below")
            continue
        table.add_row(
            result.row,
            f"{value.median:,.4g}",
            f"{value.low:,.4g} to {value.high:,.4g}",
            result.unit,
            result.target.text if result.target else "",
            "" if result.met is None else "met" if result.met else "MISSED",
            f"{result.in_events.median:,.0f} a {result.per}" if result.in_events else "",
        )
    out.print(table)
    for result in measured.results:
        for detail in result.tables:
            shown = RichTable(
                title=detail.title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False
            )
            for number, heading in enumerate(detail.heading):
                shown.add_column(heading, justify="right" if number else "left")
            for cells in detail.rows:
                shown.add_row(*cells)
            out.print(shown)
    for name, seconds in measured.controls.items():
        out.print(f"control: {name}: {1e-3 / seconds.median:,.0f} thousand events/s")
    out.print(f"measured in {measured.wall_s:.0f} s")


if __name__ == "__main__":
    main_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    main_app.command(help=_HELP)(main)
    main_app()
