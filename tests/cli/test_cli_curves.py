"""``agentserve curves``: how trainings went."""

from __future__ import annotations

import json
from math import expm1

import pytest

from agentserve_gym.cli import curves


def recipe_run(folder, cells=("toy", "default")):
    """A training by a recipe after two updates, the second of which was compared."""
    folder.mkdir()
    recipe = {
        "name": "small", "description": "by hand", "cells": list(cells), "pairs": 1,
        "selection_seeds": 2, "updates": 5,
    }  # fmt: skip
    (folder / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
    lines = [
        {"start": [5.0, 5.0, 6.0, 6.0], "made_by": {"version": "0", "commit": None}},
        {"update": 1, "costs": [[5.0, 5.5]], "wall_s": 1.0},
        {
            "update": 2, "costs": [[5.0, 5.2]], "wall_s": 1.0,
            "selection": [4.8, 4.8, 6.1, 6.1],
        },
    ]  # fmt: skip
    text = "".join(f"{json.dumps(line)}\n" for line in lines) + '{"update": 3, "co'
    (folder / "updates.jsonl").write_text(text, encoding="utf-8")
    return folder


def steps_run(folder):
    """A training with Stable-Baselines3."""
    folder.mkdir()
    history = [
        {"step": step, "mean": mean} for step, mean in ((0, 200.0), (64, 180.0), (96, 190.0))
    ]
    content = {"metric": "s of mean JCT", "best_step": 64, "history": history}
    (folder / "selection.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_trainings_of_both_kinds_are_shown(agentserve, tmp_path):
    recipe, steps = recipe_run(tmp_path / "evolved"), steps_run(tmp_path / "steps")
    outcome = agentserve("curves", recipe, steps, "--json")
    first, second = json.loads(outcome.stdout)["trainings"]
    assert first["points"] == [[0, 0.0], [2, pytest.approx(expm1(-0.05))]]
    assert first["cells"]["toy"][1][1] == pytest.approx(expm1(-0.2))
    assert first["kept"] == 2
    assert second["points"] == [[0.0, 200.0], [64.0, 180.0], [96.0, 190.0]]
    assert (second["kept"], second["progress"]) == (64.0, "decisions")
    table = agentserve("curves", recipe, steps).stdout
    assert "-4.9%" in table
    assert "180.00" in table


def test_each_measure_has_a_panel_in_the_picture(agentserve, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(curves, "draw_curves", lambda panels: drawn.extend(panels) or b"\x89PNG")
    runs = [recipe_run(tmp_path / "evolved"), steps_run(tmp_path / "a"), steps_run(tmp_path / "b")]
    assert agentserve("curves", *runs, "--picture", tmp_path / "c.png").code == 0
    of_recipe, of_steps = drawn
    assert [(curve.faint, curve.kept) for curve in of_recipe.curves] == [
        (True, None), (True, None), (False, 1),
    ]  # fmt: skip
    assert of_recipe.is_share
    assert [curve.kept for curve in of_steps.curves] == [1, 1]
    assert not of_steps.is_share


def test_pictures_are_drawn(agentserve, tmp_path):
    picture = tmp_path / "c.png"
    run = recipe_run(tmp_path / "evolved")
    assert agentserve("curves", run, "--picture", picture).code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_folders_without_a_training_are_refused(agentserve, tmp_path):
    outcome = agentserve("curves", tmp_path)
    assert outcome.code == 2
    assert "which holds no curve; allowed: a folder of agentserve train" in outcome.stderr
    begun = recipe_run(tmp_path / "begun")
    (begun / "updates.jsonl").unlink()
    assert "has measured nothing yet" in agentserve("curves", begun).stderr
