"""Command line: ``python -m conformance``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from agentserve_gym.datasets import find_data_set
from agentserve_gym.report.page import write_page
from conformance import cases, golden, ours, theirs
from conformance.environment import installed_version, vllm_python
from conformance.page import Compared, claim, render
from conformance.trace import Trace, first_difference

PAGE = Path(__file__).parents[1] / "docs" / "conformance.md"
CHATS = "sharegpt-300-llama-tokenizer.jsonl.gz"


def main(
    only: Annotated[
        str, typer.Option(help="Only cases whose name contains this; nothing is written then.")
    ] = "",
    install: Annotated[
        bool, typer.Option(help="Install vLLM in an environment of its own if it is absent.")
    ] = True,
    to: Annotated[Path, typer.Option(help="The page.")] = PAGE,
    traces: Annotated[Path, typer.Option(help="Folder of the steps that are kept.")] = (
        golden.FOLDER
    ),
) -> None:
    """Compare our engine with vLLM's scheduler, step by step.

    A difference ends with exit code 1.
    """
    try:
        python = vllm_python(install=install)
    except ValueError as error:
        sys.exit(str(error))
    version = installed_version(python)
    kept = {case.name for case in golden.golden_cases()}
    groups, missing = _groups()
    found: dict[str, list[Compared]] = {}
    for group, every in groups.items():
        chosen = [case for case in every if only in case.name]
        if not chosen:
            continue
        found[group] = []
        for case, trace, compared in _compare(python, chosen):
            found[group].append(compared)
            if case.name in kept and not only:
                golden.write(case, trace.steps, version, traces)
        _print(group, found[group])
    sys.stdout.write(claim(found, version))
    for why in missing:
        sys.stdout.write(f"not compared: {why}\n")
    if not only:
        write_page(to, render(found, version, missing), {})
        sys.stdout.write(f"wrote {to}\n")
    if any(case.difference for group in found.values() for case in group):
        sys.exit(1)


def _groups() -> tuple[dict[str, list[cases.Case]], list[str]]:
    """Cases by group, and why which are left out."""
    groups = {name: make() for name, make in cases.GROUPS.items()}
    runs = find_data_set("vllm-runs")
    if runs is None:
        return groups, ["chats at once, for want of the data set vllm-runs"]
    groups["chats at once"] = cases.requests_at_once(runs / CHATS)
    return groups, []


def _compare(
    python: Path, chosen: Sequence[cases.Case]
) -> Iterator[tuple[cases.Case, Trace, Compared]]:
    runs = [ours.play(case) for case in chosen]
    pairs = [(case, run.times) for case, run in zip(chosen, runs, strict=True)]
    for case, mine, other in zip(chosen, runs, theirs.play(python, pairs), strict=True):
        difference = first_difference(mine.trace, other)
        yield case, other, Compared(
            case.name, len(other.steps), len(other.turns), other.preemptions, difference
        )  # fmt: skip


def _print(group: str, found: Sequence[Compared]) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in (group, "steps", "turns", "preemptions", ""):
        table.add_column(heading)
    for case in found:
        figures = (case.steps, case.turns, case.preemptions)
        table.add_row(case.name, *map(str, figures), case.difference or "equal")
    Console(highlight=False, markup=False).print(table)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
