"""``agentserve train --recipe``: train the parts of a learned policy."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from functools import partial
from math import expm1
from pathlib import Path
from typing import Any

from agentserve_gym.cli.figures import Figures
from agentserve_gym.cli.output import console, note, plain_warnings, print_json
from agentserve_gym.cli.progress import reporting
from agentserve_gym.cli.seeds import seed_folder, train_side_by_side
from agentserve_gym.cli.stopping import resumable
from agentserve_gym.cli.workers import Opening
from agentserve_gym.tracking import LogTo


def is_recipe_run(folder: Path) -> bool:
    """Whether a folder holds a training by a recipe."""
    from agentserve_gym.learning.history import RECIPE

    return (folder / RECIPE).is_file()


def train_recipe_seeds(
    recipe: str,
    changes: dict[str, Any],
    number: int,
    out: Path | None,
    opening: Opening,
    services: tuple[str, ...],
    *,
    json: bool,
) -> None:
    """Train with several seeds, and say what each gave."""
    from agentserve_gym.learning import load_recipe
    from agentserve_gym.learning.runs import WEIGHTS, SeedRun, finish_recipe

    made = load_recipe(recipe, changes)
    folder = out or Path("runs") / made.name_without_seed
    log = LogTo(services, group=folder.name)
    runs = {
        seed: SeedRun(made.model_copy(update={"seed": seed}), seed_folder(folder, seed), log)
        for seed in range(made.seed, made.seed + number)
    }
    trained = train_side_by_side(finish_recipe, runs, opening)
    if json:
        kept = [
            {"seed": seed, "weights": str(runs[seed].run / WEIGHTS), **asdict(each.kept)}
            for seed, each in trained.items()
        ]
        print_json({"run": str(folder), "seeds": kept})
        return
    title = f"{made.name}: change of cost on the selection seeds"
    table = Figures(title, ["seed", "kept update", "change"])
    for seed, each in trained.items():
        update, change = each.kept.update, each.kept.change
        table.rows.append([str(seed), f"{update} of {made.updates}", f"{expm1(change):+.1%}"])
    table.print(console())
    note(f"weights: {seed_folder(folder, made.seed) / WEIGHTS}, and so on")


def train_by_recipe(
    recipe: str | None,
    changes: dict[str, Any],
    out: Path | None,
    run: Path | None,
    opening: Opening,
    where: list[str],
    services: tuple[str, ...],
    *,
    json: bool,
) -> Path:
    """Begin a training, or go on with the one in the folder ``run``, and say what it gave.

    Args:
        where: the arguments that say so. ``services``: that a new training is logged to.

    Returns:
        The folder.
    """
    from agentserve_gym.learning import load_recipe, resume_recipe, train_recipe
    from agentserve_gym.learning.runs import WEIGHTS, Trained

    def command(folder: Path) -> str:
        return shlex.join(["agentserve", "train", "--resume", str(folder), *where])

    if run is not None:
        folder, begin = run, partial(resume_recipe, run)
    else:
        assert recipe is not None
        made = load_recipe(recipe, changes)
        folder = out or Path("runs") / made.run_name
        begin = partial(train_recipe, made, folder, log=LogTo(services))
    said = resumable(command(folder))
    with said, plain_warnings(), opening as workers, reporting() as report:
        trained: Trained = begin(workers=workers, report=report)
    weights = folder / WEIGHTS
    if json:
        kept = asdict(trained.kept)
        print_json({"run": str(folder), "weights": str(weights), "wall_s": trained.wall_s, **kept})
        return folder
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
    return folder
