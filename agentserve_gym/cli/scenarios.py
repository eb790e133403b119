"""``agentserve scenarios``: what presets and cells there are, and what is in one."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.tree import Tree

from agentserve_gym.cli.output import JsonOption, console, print_json
from agentserve_gym.sim import Scenario, cell_names, load_scenario, preset_names
from agentserve_gym.sim.instances import step_limits


def scenarios(
    name: Annotated[
        str | None, typer.Argument(help="Show this preset, cell of the benchmark or file instead.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the preset scenarios, and name the benchmark's; or show one."""
    if name is not None:
        _show(load_scenario(name), json)
        return
    presets = {preset: load_scenario(preset) for preset in preset_names()}
    if json:
        print_json([_summary(preset, scenario) for preset, scenario in presets.items()])
        return
    table = Table("scenario", "GPUs", "description", show_lines=True)
    table.columns[0].no_wrap = True
    for preset, scenario in presets.items():
        row = _summary(preset, scenario)
        gpus = "\n".join(f"{count} x {name}" for name, count in row["gpus"].items())
        table.add_row(preset, gpus, row["description"])
    console().print(table)
    console().print(f"Cells of the benchmark, which go by name, too: {', '.join(cell_names())}")


def _show(scenario: Scenario, json: bool) -> None:
    if json:
        print_json(scenario.model_dump(mode="json"))
        return
    tree = Tree(f"[bold]{scenario.name}[/bold]")
    _grow(tree, scenario.model_dump(mode="json", exclude={"name"}))
    _grow_step_limits(tree.add("limits of a step"), scenario)
    console().print(tree)


def _grow_step_limits(tree: Tree, scenario: Scenario) -> None:
    """What the engine's limits come to on each accelerator."""
    for gpu in _gpus(scenario):
        limits = step_limits(scenario.engine, gpu)
        _grow(tree.add(gpu), limits._asdict())


def _grow(tree: Tree, content: dict[str, Any]) -> None:
    for key, value in content.items():
        if value is None or value in ({}, []):
            continue
        match value:
            case dict():
                _grow(tree.add(key), value)
            case [dict(), *_]:
                for position, item in enumerate(value):
                    _grow(tree.add(f"{key}\\[{position}]"), item)
            case _:
                tree.add(f"{key} = {value}")


def _summary(name: str, scenario: Scenario) -> dict[str, Any]:
    workload = scenario.workload
    programs = workload.programs
    return {
        "name": name,
        "model": ", ".join(scenario.cluster.models),
        "gpus": _gpus(scenario),
        "programs": len(programs) if isinstance(programs, tuple) else programs,
        "description": scenario.description,
    }


def _gpus(scenario: Scenario) -> dict[str, int]:
    """How many GPUs of each accelerator there are."""
    gpus: Counter[str] = Counter()
    for node in scenario.cluster.nodes:
        for spec in node.instances:
            gpus[spec.accelerator] += spec.num_instances * spec.tensor_parallel
    return dict(gpus)
