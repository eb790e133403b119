"""Command line: ``python -m conformance``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from agentserve_gym.datasets import find_data_set
from agentserve_gym.report.page import write_page
from conformance import (
    cases,
    dynamo_router,
    golden,
    host_page,
    ours,
    radix_page,
    rust_routers,
    theirs,
)
from conformance.environment import installed_version, vllm_python
from conformance.page import Compared, Section, claim, render
from conformance.trace import Trace, first_difference

PARTS: tuple[Callable[..., Section | None], ...] = (
    host_page.compare,
    radix_page.compare,
    dynamo_router.compare,
    partial(rust_routers.compare, rust_routers.SGLANG),
    partial(rust_routers.compare, rust_routers.VLLM),
)
"""What else is compared; each returns nothing where it has no case of that name."""
PAGE = Path(__file__).parents[1] / "docs" / "conformance.md"
CHATS = "sharegpt-300-llama-tokenizer.jsonl.gz"


def main(
    only: Annotated[
        str, typer.Option(help="Only cases whose name contains this; nothing is written then.")
    ] = "",
    install: Annotated[
        bool, typer.Option(help="Install what is absent, each in an environment of its own.")
    ] = True,
    to: Annotated[Path, typer.Option(help="The page.")] = PAGE,
    traces: Annotated[Path, typer.Option(help="Folder of the steps that are kept.")] = (
        golden.FOLDER
    ),
) -> None:
    """Compare our engine with vLLM's scheduler, step by step, and tiers and routing rules with what
    they are named after.

    A difference ends with exit code 1, a package that is missing with a line that says so.
    """
    missing: list[str] = []
    found: dict[str, list[Compared]] = {}
    version = ""
    try:
        python = vllm_python(install=install)
        version = installed_version(python)
        found = _compare_schedulers(python, version, only, traces, missing)
        if found:
            sys.stdout.write(claim(found, version))
    except ValueError as error:
        missing.append(str(error))
    sections = []
    for part in PARTS:
        try:
            section = part(only, install=install)
        except ValueError as error:
            missing.append(str(error))
            continue
        if section is not None:
            sections.append(section)
            sys.stdout.write(section.claim)
    for why in dict.fromkeys(missing):
        sys.stdout.write(f"not compared: {why}\n")
    if found and not only:
        write_page(to, render(found, version, missing, sections), {})
        sys.stdout.write(f"wrote {to}\n")
    if any(case.difference for group in found.values() for case in group):
        sys.exit(1)
    if any(section.failed for section in sections):
        sys.exit(1)


def _compare_schedulers(
    python: Path, version: str, only: str, traces: Path, missing: list[str]
) -> dict[str, list[Compared]]:
    """Cases by group; why some are left out is added to ``missing``."""
    kept = {case.name for case in golden.golden_cases()}
    groups, left_out = _groups()
    missing += left_out
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
    return found


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
