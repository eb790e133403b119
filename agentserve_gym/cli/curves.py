"""``agentserve curves``: how trainings went, those that still run among them."""

from __future__ import annotations

from collections.abc import Sequence
from math import expm1
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from agentserve_gym.cli.figures import Figures
from agentserve_gym.cli.output import JsonOption, console, note, print_json
from agentserve_gym.cli.pictures import require_drawable
from agentserve_gym.cli.recipes import is_recipe_run
from agentserve_gym.files import write_file
from agentserve_gym.plots import Curve, CurvePanel, draw_curves
from agentserve_gym.tables import read_table

SELECTION_FILE = "selection.json"
_ALLOWED = f"a folder of agentserve train, which holds updates.jsonl or {SELECTION_FILE}"
_HEADING = ("training", "so far", "kept after", "measure", "at the start", "kept")


class Training(NamedTuple):
    """What a training has measured.

    Attributes:
        run: its folder. ``progress``: what counts how far it is.
        measure: what is measured on the selection workloads; a ``change`` is against the start.
        points: (progress, value), in order; the best one is ``kept``.
        parts: the same of every cell, where there are several.
    """

    run: str
    progress: str
    measure: str
    change: bool
    points: list[tuple[float, float]]
    parts: dict[str, list[tuple[float, float]]]

    @property
    def kept(self) -> int:
        """Of ``points``, whose weights are kept."""
        return min(range(len(self.points)), key=lambda place: self.points[place][1])


def training_curves(
    run: Annotated[list[Path], typer.Argument(help="Folders of agentserve train.")],
    picture: Annotated[Path | None, typer.Option(help="Draw the curves to this PNG file.")] = None,
    json: JsonOption = False,
) -> None:
    """Show how trainings went, or how far they are."""
    if picture is not None:
        require_drawable(picture)
    trainings = [read_training(path) for path in run]
    if picture is not None:
        draw_trainings(trainings, picture)
    if json:
        print_json({"trainings": [_as_dict(training) for training in trainings]})
        return
    table = Figures("trainings", _HEADING)
    for training in trainings:
        kept_at, kept = training.points[training.kept]
        shown = (_shown(training, value) for value in (training.points[0][1], kept))
        so_far = f"{training.points[-1][0]:,g} {training.progress}"
        table.rows.append((training.run, so_far, f"{kept_at:,g}", training.measure, *shown))
    table.print(console())


def draw_trainings(trainings: Sequence[Training], picture: Path) -> None:
    """Draw a panel for each measure, with the trainings that have it."""
    panels: dict[tuple[str, str], list[Curve]] = {}
    changes = {(each.measure, each.progress): each.change for each in trainings}
    for each in trainings:
        drawn = panels.setdefault((each.measure, each.progress), [])
        drawn += [Curve(name, points, faint=True) for name, points in each.parts.items()]
        drawn.append(Curve(each.run, each.points, each.kept))
    content = [
        CurvePanel(f"{measure}, on the selection workloads", progress, measure, drawn, changes[key])
        for key, drawn in panels.items()
        for measure, progress in [key]
    ]
    write_file(picture, draw_curves(content))
    note(f"picture: {picture}")


def read_training(run: Path) -> Training:
    """What a folder's training has measured so far.

    Raises:
        ValueError: naming the folder, if it holds no training or nothing was measured yet.
    """
    if is_recipe_run(run):
        return _of_recipe(run)
    if (run / SELECTION_FILE).is_file():
        return _of_steps(run)
    raise ValueError(f"run is {str(run)!r}, which holds no curve; allowed: {_ALLOWED}")


def _of_recipe(run: Path) -> Training:
    from agentserve_gym.learning.history import read_comparisons

    comparisons = read_comparisons(run)
    cells = list(comparisons[0].by_cell)
    return Training(
        str(run), "updates", "change of cost", True,
        [(each.update, expm1(each.change)) for each in comparisons],
        {
            cell: [(each.update, expm1(each.by_cell[cell])) for each in comparisons]
            for cell in cells
            if len(cells) > 1
        },
    )  # fmt: skip


def _of_steps(run: Path) -> Training:
    content = read_table(run / SELECTION_FILE)
    points = [(float(entry["step"]), float(entry["mean"])) for entry in content["history"]]
    return Training(str(run), "decisions", content["metric"], False, points, {})


def _shown(training: Training, value: float) -> str:
    return f"{value:+.1%}" if training.change else f"{value:,.2f}"


def _as_dict(training: Training) -> dict[str, Any]:
    return {
        "run": training.run,
        "progress": training.progress,
        "measure": training.measure,
        "points": training.points,
        "kept": training.points[training.kept][0],
        "cells": training.parts,
    }
