"""What a training by a recipe has noted so far."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import expm1
from pathlib import Path
from typing import Any

import numpy as np

from agentserve_gym.learning.episodes import Episodes
from agentserve_gym.learning.recipe import Recipe, make_recipe
from agentserve_gym.tables import read_table

RECIPE, UPDATES = "recipe.json", "updates.jsonl"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Present weights against those of the start, on the selection episodes.

    Attributes:
        update: after how many. ``change``: of the mean cost, about that of log mean JCT.
        by_cell: the same, cell by cell.
    """

    update: int
    change: float
    by_cell: dict[str, float]


def read_recipe(run: Path) -> Recipe:
    """The recipe of a run's folder.

    Raises:
        ValueError: if the folder holds no such run.
    """
    saved = run / RECIPE
    if not saved.is_file():
        raise ValueError(f"{run} holds no run ({RECIPE} is missing)")
    return make_recipe(read_table(saved), str(saved))


def read_comparisons(run: Path, traces: Path | None = None) -> list[Comparison]:
    """Those that a run has noted, in order, the start's first; one that goes on meanwhile is not
    disturbed.

    Raises:
        ValueError: if the folder holds no such run, or one that has measured nothing yet.
    """
    names = Episodes(read_recipe(run), traces).names
    lines = list(noted_lines(run))
    if not lines:
        raise ValueError(f"{run} has measured nothing yet")
    start = lines[0]["start"]
    return [
        compared(0, start, start, names),
        *(
            compared(line["update"], line["selection"], start, names)
            for line in lines[1:]
            if "selection" in line
        ),
    ]


def compared(
    update: int, costs: Sequence[float], start: Sequence[float], names: Sequence[str]
) -> Comparison:
    """Costs of the selection episodes after an update against those at the start."""
    differences = np.array(costs) - np.array(start)
    by_cell = differences.reshape(len(names), -1).mean(1)
    return Comparison(
        update,
        float(differences.mean()),
        {name: float(value) for name, value in zip(names, by_cell, strict=True)},
    )


def measured(
    line: dict[str, Any], start: Sequence[float], names: Sequence[str]
) -> dict[str, float]:
    """The figures of an update for a curve: the mean cost of its episodes, the time that it took,
    and, where weights were compared, by which share JCT changed, in all and cell by cell."""
    metrics: dict[str, float] = {}
    if "costs" in line:
        metrics["update/mean_cost"] = float(np.mean(line["costs"]))
        metrics["update/wall_s"] = line["wall_s"]
    if "selection" in line:
        found = compared(line["update"], line["selection"], start, names)
        metrics["selection/change"] = expm1(found.change)
        for name, change in found.by_cell.items():
            metrics[f"selection/{name}/change"] = expm1(change)
    return metrics


def noted_lines(run: Path) -> Iterator[dict[str, Any]]:
    """What was noted so far; a last line that was cut off counts as not noted."""
    path = run / UPDATES
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    for line in text[: text.rfind("\n") + 1].splitlines():
        yield json.loads(line)
