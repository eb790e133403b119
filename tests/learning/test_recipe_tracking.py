"""What a training by a recipe is logged as."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from math import expm1
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agentserve_gym.learning import Recipe, resume_recipe, train_recipe
from agentserve_gym.learning.history import UPDATES, read_comparisons
from agentserve_gym.scale import InThisProcess
from agentserve_gym.tracking import LogTo
from tests.tracking_recorder import recorder

HERE = InThisProcess()
SMALL: dict[str, Any] = {
    "name": "small", "description": "three updates on the toy", "cells": ["toy"], "updates": 3,
    "pairs": 2, "select_every": 2, "selection_seeds": 1,
}  # fmt: skip


class Killed(Exception):
    """Stands for the end of the process."""


def killed_at(update: int) -> Callable[[str, int, int], None]:
    def report(what: str, done: int, total: int) -> None:
        if what.startswith(f"update {update} "):
            raise Killed

    return report


def silent(what: str, done: int, total: int) -> None:
    pass


def points(values: Sequence[tuple[int, float]]) -> list[tuple[int, Any]]:
    return [(step, pytest.approx(value)) for step, value in values]


def test_costs_and_comparisons_are_logged_in_one_run_whatever_stopped_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recorder(monkeypatch)
    recipe, folder = Recipe(**SMALL), tmp_path / "run"
    with pytest.raises(Killed):
        train_recipe(recipe, folder, HERE, killed_at(2), log=LogTo(("recorder",), "group"))
    trained = resume_recipe(folder, HERE, silent)
    (run,) = made.runs
    assert run.ends == [True, False]
    described = run.described[0]
    assert (described.name, described.group) == ("recipe-small-0", "group")
    assert described.config["updates"] == 3

    noted = [json.loads(line) for line in (folder / UPDATES).read_text().splitlines()[1:]]
    costs = [(line["update"], float(np.mean(line["costs"]))) for line in noted]
    assert run.curves["update/mean_cost"] == points(costs)
    changes = [(each.update, expm1(each.change)) for each in read_comparisons(folder)]
    assert [update for update, _ in changes] == [0, 2, 3]
    assert run.curves["selection/change"] == points(changes)
    assert run.curves["selection/toy/change"] == points(changes)
    assert run.summary["kept/update"] == trained.kept.update
    assert run.summary["kept/change"] == expm1(trained.kept.change)

    resume_recipe(folder, HERE, silent)
    assert run.ends == [True, False]  # nothing was left to do
