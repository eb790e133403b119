"""``agentserve run``: one scenario under one or more policies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentserve_gym.cli import tables
from agentserve_gym.cli.driving import run_policies
from agentserve_gym.cli.output import JsonOption, console, note, print_json, replace_file
from agentserve_gym.plots import draw_comparison
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
    loaded = load_scenario(scenario)
    runs = run_policies(loaded, policy or ["lru"], seed, record_timeline=picture is not None)
    if picture is not None:
        records = [run.record for run in runs]
        title = f"{loaded.name}, seed {seed}"
        replace_file(picture, draw_comparison(records, title, loaded.description))
        note(f"picture: {picture}")
    if json:
        print_json({"scenario": loaded.name, "runs": [run.as_dict() for run in runs]})
        return
    console().print(tables.comparison(runs, f"{loaded.name}, seed {seed}"))
    for warning in tables.unfinished_warnings(runs):
        note(warning)
