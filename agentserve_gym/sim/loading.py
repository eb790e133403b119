"""Scenarios by name: presets, cells of the benchmark, files."""

from __future__ import annotations

import tomllib
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from agentserve_gym.datasets import data_folder
from agentserve_gym.messages import unknown, validated
from agentserve_gym.tables import read_table
from agentserve_gym.workloads.spec import TraceWorkload

from .scenario import Scenario


def load_scenario(scenario: str | Path | Scenario | dict[str, Any]) -> Scenario:
    """A scenario from the name of a preset or of a cell of the benchmark, a ``.toml`` or ``.json``
    file, a mapping, or itself. Traces of cells are looked for in the data folder.

    Raises:
        ValueError: naming the unknown name, key or value and what is allowed.
    """
    if isinstance(scenario, Scenario):
        return scenario
    if isinstance(scenario, dict):
        return validated(Scenario, scenario, "scenario")
    if not isinstance(scenario, (str, Path)):
        raise ValueError(
            f"scenario is {scenario!r}; allowed: the name of a preset or cell, a .toml or .json "
            "file, a mapping, or a Scenario"
        )
    path, name = Path(scenario), str(scenario)
    if path.suffix in (".toml", ".json"):
        return validated(Scenario, read_table(path), str(path))
    if name in preset_names():
        return _read(_PRESETS, name, f"preset {name!r}")
    if name in cell_names():
        return with_trace(load_cell(name))
    raise ValueError(
        f"{unknown('scenario', name, [*preset_names(), *cell_names()])}, or a file that ends in "
        ".toml or .json"
    )


def load_cell(name: str) -> Scenario:
    """A cell of the benchmark, with the path of its trace as it is written there.

    Args:
        name: of ``cell_names``.
    """
    return _read(_CELLS, name, f"cell {name!r}")


def preset_names() -> list[str]:
    """Names of the presets that ship with the package, sorted."""
    return _names(_PRESETS)


def cell_names() -> list[str]:
    """Names of the benchmark's scenarios, sorted."""
    return _names(_CELLS)


def with_trace(scenario: Scenario, traces: Path | None = None) -> Scenario:
    """The scenario with the full path of its trace, if it has one.

    Args:
        traces: where traces are looked for; default: those of the data folder.
    """
    workload = scenario.workload
    if not isinstance(workload, TraceWorkload) or Path(workload.path).exists():
        return scenario
    folder = traces if traces is not None else data_folder() / "traces"
    found = str(folder / workload.path)
    return scenario.model_copy(update={"workload": workload.model_copy(update={"path": found})})


_PRESETS, _CELLS = "presets", "cells"


def _read(kind: str, name: str, where: str) -> Scenario:
    text = (_folder(kind) / f"{name}.toml").read_text(encoding="utf-8")
    return validated(Scenario, tomllib.loads(text), where)


def _names(kind: str) -> list[str]:
    files = (entry.name for entry in _folder(kind).iterdir())
    return sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml"))


def _folder(kind: str) -> Traversable:
    return resources.files("agentserve_gym.sim") / kind
