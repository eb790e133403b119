"""``agentserve train --recipe``: train the parts of a learned policy."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from math import expm1
from pathlib import Path
from typing import Any

from agentserve_gym.cli.figures import Figures
from agentserve_gym.cli.output import console, note, print_json
from agentserve_gym.cli.progress import reporting
from agentserve_gym.cli.stopping import resumable
from agentserve_gym.cli.workers import open_workers, ray_arguments


def is_recipe_run(folder: Path) -> bool:
    """Whether a folder holds a training by a recipe."""
    from agentserve_gym.learning.runs import RECIPE

    return (folder / RECIPE).is_file()


def train_by_recipe(
    recipe: str | None,
    changes: dict[str, Any],
    out: Path | None,
    run: Path | None,
    jobs: int,
    ray: str | None,
    *,
    json: bool,
) -> None:
    """Begin a training, or go on with the one in the folder ``run``, and say what it gave."""
    from agentserve_gym.learning import load_recipe, resume_recipe, train_recipe
    from agentserve_gym.learning.runs import WEIGHTS, Trained

    opening = open_workers(jobs, ray)

    def command(folder: Path) -> str:
        given = ["--resume", str(folder), "--jobs", str(jobs), *ray_arguments(ray)]
        return shlex.join(["agentserve", "train", *given])

    if run is not None:
        folder = run
        with opening as workers, resumable(command(folder)), reporting() as report:
            trained: Trained = resume_recipe(folder, workers, report)
    else:
        assert recipe is not None
        made = load_recipe(recipe, changes)
        folder = out or Path("runs") / f"recipe-{made.name}-{made.seed}"
        with opening as workers, resumable(command(folder)), reporting() as report:
            trained = train_recipe(made, folder, workers, report)
    weights = folder / WEIGHTS
    if json:
        kept = asdict(trained.kept)
        print_json({"run": str(folder), "weights": str(weights), "wall_s": trained.wall_s, **kept})
        return
    table = Figures(
        f"{trained.recipe.name}: change of cost on the selection seeds, after update "
        f"{trained.kept.update} of {trained.recipe.updates}",
        ["cell", "change"],
    )
    table.rows = [[cell, f"{expm1(change):+.1%}"] for cell, change in trained.kept.by_cell.items()]
    table.rows.append(["all", f"{expm1(trained.kept.change):+.1%}"])
    table.remarks.append(
        "against the weights that it started from; the best of several comparisons, so expect a "
        "little less on other seeds"
    )
    table.print(console())
    note(f"weights: {weights}; try: agentserve run --policy 'learned(weights={weights})'")
