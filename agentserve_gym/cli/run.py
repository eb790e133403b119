"""``agentserve run``: one scenario under one or more policies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentserve_gym.cli import pictures, tables, timelines
from agentserve_gym.cli.driving import run_policies
from agentserve_gym.cli.output import JsonOption, console, note, print_json
from agentserve_gym.sim import load_scenario


def run(
    scenario: Annotated[
        str, typer.Option(help="A preset, a cell of the benchmark, or a .toml or .json file.")
    ] = "default",
    policy: Annotated[
        list[str] | None,
        typer.Option(help="A policy such as lru or sglang+continuum; repeat it to compare."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of programs, arrivals and tools.")] = 0,
    picture: Annotated[
        Path | None, typer.Option(help="Draw a timeline of the runs to this PNG file.")
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            help="Write what happened to this .pftrace file, for ui.perfetto.dev, or .json file, "
            "also for chrome://tracing."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Run one scenario under one or more policies and compare them."""
    if picture is not None:
        pictures.require_drawable(picture)
    names = policy or ["lru"]
    if trace is not None:
        timelines.require_traceable(trace, names)
    loaded = load_scenario(scenario)
    title = f"{loaded.name}, seed {seed}"
    recorded = picture is not None or trace is not None
    runs = run_policies(loaded, names, seed, recorded=recorded)
    if picture is not None:
        pictures.draw(picture, runs, title, loaded.description)
        note(f"picture: {picture}")
    if trace is not None:
        timelines.write_trace(trace, runs[0], f"{title}, policy {names[0]}")
        note(f"trace: {trace}")
    if json:
        print_json({"scenario": loaded.name, "runs": [run.as_dict() for run in runs]})
    else:
        tables.comparison(runs, title).print(console())
    for warning in tables.warnings(runs):
        note(warning)
