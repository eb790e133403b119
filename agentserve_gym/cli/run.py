"""``agentserve run``: one scenario under one or more policies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentserve_gym.cli import pictures, tables
from agentserve_gym.cli.driving import run_policies
from agentserve_gym.cli.output import JsonOption, console, note, print_json
from agentserve_gym.sim import load_scenario


def run(
    scenario: Annotated[
        str, typer.Option(help="A preset's name, or a .toml or .json file.")
    ] = "default",
    policy: Annotated[
        list[str] | None,
        typer.Option(help="A policy such as lru or sglang+continuum; repeat it to compare."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of programs, arrivals and tools.")] = 0,
    picture: Annotated[
        Path | None, typer.Option(help="Draw a timeline of the runs to this PNG file.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Run one scenario under one or more policies and compare them."""
    if picture is not None:
        pictures.require_drawable(picture)
    loaded = load_scenario(scenario)
    runs = run_policies(loaded, policy or ["lru"], seed, recorded=picture is not None)
    if picture is not None:
        pictures.draw(picture, runs, f"{loaded.name}, seed {seed}", loaded.description)
        note(f"picture: {picture}")
    if json:
        print_json({"scenario": loaded.name, "runs": [run.as_dict() for run in runs]})
    else:
        tables.comparison(runs, f"{loaded.name}, seed {seed}").print(console())
    for warning in tables.warnings(runs):
        note(warning)
