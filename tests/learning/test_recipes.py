"""Recipes, evolution, and runs that go on where they were stopped."""

from __future__ import annotations

import json
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from agentserve_gym.baselines import parse_policy
from agentserve_gym.baselines.driving import run_policy
from agentserve_gym.baselines.learned.weights import SIZE, heuristic_weights, load_weights
from agentserve_gym.bench.suite import find_scenario, load_suite
from agentserve_gym.cli import app
from agentserve_gym.learning import (
    Recipe,
    episodes,
    load_recipe,
    recipe_names,
    resume_recipe,
    train_recipe,
)
from agentserve_gym.learning.episodes import (
    FIRST_SELECTION_SEED,
    FIRST_TRAINING_SEED,
    Episodes,
    episode_cost,
    varied,
)
from agentserve_gym.learning.evolution import Evolution
from agentserve_gym.learning.recipe import Variation
from agentserve_gym.learning.runs import UPDATES, WEIGHTS
from agentserve_gym.scale import InThisProcess
from agentserve_gym.sim import Simulation

SMALL: dict[str, Any] = {
    "name": "small", "description": "two updates on the toy", "cells": ["toy"], "updates": 2,
    "pairs": 2, "select_every": 1, "selection_seeds": 1,
}  # fmt: skip

HERE = InThisProcess()


def quiet(what: str, done: int, total: int) -> None:
    pass


# --- recipes --------------------------------------------------------------------------------------


def test_every_recipe_of_the_package_finds_its_cells() -> None:
    assert {"general", "default"} <= set(recipe_names())
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe.name == name
        assert len(recipe.scale_vector()) == SIZE
        assert Episodes(recipe).names


def test_scales_are_of_groups_or_of_single_weights() -> None:
    recipe = Recipe(**{**SMALL, "scales": {"queue": 0.5, "queue.ready": 0.0}})
    assert recipe.scale_vector().count(0.0) == 1
    assert recipe.scale_vector().count(0.5) == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"updats": 3}, "updats"),
        ({"updates": 0}, "updates"),
        ({"start": "nothing"}, "unknown weights 'nothing'"),
        ({"scales": {"que": 1.0}}, "unknown weight 'que'; did you mean 'queue'"),
        ({"variation": {"load": [2.0, 1.0]}}, "load is [2, 1]"),
    ],
)
def test_a_wrong_recipe_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        load_recipe("default", changes)
    assert message in str(error.value)


def test_an_unknown_recipe_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="unknown recipe 'genral'; did you mean 'general'"):
        load_recipe("genral")


# --- episodes -------------------------------------------------------------------------------------


def test_training_never_uses_the_seeds_that_policies_are_chosen_and_judged_by() -> None:
    episodes = Episodes(load_recipe("default", {"pairs": 40}))
    seeds = [episode.seed for update in (1, 2) for episode in episodes.training(update)]
    assert len(set(seeds)) == 80
    assert min(seeds) >= FIRST_TRAINING_SEED
    assert [e.seed for e in episodes.selection()][:2] == [
        FIRST_SELECTION_SEED,
        FIRST_SELECTION_SEED + 1,
    ]


def test_cells_take_turns() -> None:
    episodes = Episodes(Recipe(**{**SMALL, "cells": ["toy", "default"], "pairs": 6}))
    names = [episode.scenario.name for episode in episodes.training(1)]
    assert sorted(names) == ["default"] * 3 + ["toy"] * 3


@pytest.mark.parametrize("cell", [c.scenario for c in load_suite("standard").cells])
def test_varied_cells_are_scenarios_that_run(cell: str) -> None:
    scenario = find_scenario(cell)
    if scenario.workload.kind != "generated":
        pytest.skip("needs a trace")
    always = Variation(share=1.0, load=(0.5, 0.5), pool=(0.6, 0.6))
    other = varied(scenario, always, 1)
    assert other.arrivals != scenario.arrivals
    assert Simulation(other, 1).workload
    assert varied(scenario, Variation(share=0.0), 1) is scenario


def test_an_episode_costs_the_log_of_mean_and_tail() -> None:
    episode = Episodes(Recipe(**SMALL)).selection()[0]
    mean = episode_cost(episode, parse_policy("learned"), 0.0)
    assert mean == episode_cost(episode, parse_policy("learned"), 0.0)
    report = run_policy(Simulation(episode.scenario, episode.seed), parse_policy("learned"))
    assert mean == pytest.approx(log(report["jct_s"]["mean"]))
    tail = episode_cost(episode, parse_policy("learned"), 0.5) - mean
    assert tail == pytest.approx(0.5 * log(report["jct_s"]["p99"]), rel=1e-6)


def test_a_run_that_holds_nearly_everything_is_cut_off_and_expensive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Few answers are allowed, so that every run is cut off early."""
    episode = Episodes(Recipe(**{**SMALL, "cells": ["default"]})).selection()[0]
    whole = episode_cost(episode, parse_policy("learned"), 0.0)
    monkeypatch.setattr(episodes, "_FEW_ANSWERS", 500)
    monkeypatch.setattr(episodes, "MOST_ANSWERS_A_TURN", 1)
    cut = episode_cost(episode, parse_policy("learned"), 0.0)
    assert cut != whole
    assert cut > 0.0


# --- evolution ------------------------------------------------------------------------------------


def test_evolution_descends() -> None:
    recipe = Recipe(**{**SMALL, "updates": 60, "pairs": 40, "rate": 0.2, "spread": 0.1})
    target = np.linspace(-1.0, 1.0, SIZE)
    evolution = Evolution(recipe, [0.0] * SIZE)

    def cost(weights: Any) -> float:
        return float(((weights - target) ** 2).mean())

    before = cost(evolution.weights)
    for _ in range(60):
        evolution.update([(cost(one), cost(other)) for one, other in evolution.pairs()])
    assert cost(evolution.weights) < 0.2 * before


def test_weights_of_scale_0_stay() -> None:
    recipe = Recipe(**{**SMALL, "scales": {"queue": 0.0}})
    evolution = Evolution(recipe, heuristic_weights().vector())
    evolution.update([(1.0, 2.0), (0.5, 0.1)])
    tables = zip(
        heuristic_weights().vector(), evolution.weights, recipe.scale_vector(), strict=True
    )
    for before, after, scale in tables:
        assert (before == after) == (scale == 0.0)


def test_both_episodes_of_a_pair_lie_opposite_each_other() -> None:
    evolution = Evolution(Recipe(**SMALL), heuristic_weights().vector())
    for one, other in evolution.pairs():
        assert (one + other) / 2.0 == pytest.approx(evolution.weights)
    with pytest.raises(ValueError, match="costs of 1 pairs; allowed: 2"):
        evolution.update([(1.0, 2.0)])


# --- runs -----------------------------------------------------------------------------------------


def test_a_run_that_was_stopped_ends_like_one_that_was_not(tmp_path: Path) -> None:
    recipe = Recipe(**SMALL)
    whole, halted = tmp_path / "whole", tmp_path / "halted"
    trained = train_recipe(recipe, whole, HERE, quiet)
    assert trained.kept.change <= 0.0
    train_recipe(recipe.model_copy(update={"updates": 1}), halted, HERE, quiet)
    saved = json.loads((halted / "recipe.json").read_text())
    (halted / "recipe.json").write_text(json.dumps({**saved, "updates": 2}))
    first, *_ = (whole / UPDATES).read_text().splitlines()
    log = halted / UPDATES
    # The rate falls towards the last update, so what was learned from the first one differs: only
    # its costs are noted, and a line that was cut off is dropped.
    log.write_text("\n".join((*log.read_text().splitlines(), '{"update": 2, "cos')))
    resume_recipe(halted, HERE, quiet)
    again = [json.loads(line) for line in log.read_text().splitlines()]
    once = [json.loads(line) for line in (whole / UPDATES).read_text().splitlines()]
    assert json.loads(first) == again[0]
    for line, other in zip(once, again, strict=True):
        assert line.get("costs") == other.get("costs")
        assert line.get("start") == other.get("start")
    assert load_weights(str(whole / WEIGHTS)) is not None
    with pytest.raises(ValueError, match="holds a run already"):
        train_recipe(recipe, whole, HERE, quiet)
    with pytest.raises(ValueError, match="holds no run"):
        resume_recipe(tmp_path / "elsewhere", HERE, quiet)


def test_the_command_trains_says_what_it_gained_and_goes_on(tmp_path: Path) -> None:
    recipe = tmp_path / "small.toml"
    lines = [f"{key} = {json.dumps(value)}" for key, value in SMALL.items()]
    recipe.write_text("\n".join(lines))
    run = tmp_path / "run"
    arguments = ["train", "--recipe", str(recipe), "--out", str(run), "--jobs", "1", "--json"]
    result = CliRunner().invoke(app, [*arguments, "--set", "updates=1"])
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert set(document["by_cell"]) == {"toy"}
    assert parse_policy(f"learned(weights={document['weights']})")
    resumed = CliRunner().invoke(app, ["train", "--resume", str(run), "--jobs", "1"])
    assert resumed.exit_code == 0, resumed.stderr
    assert "toy" in resumed.stdout
    refused = CliRunner().invoke(app, [*arguments, "--steps", "5"])
    assert refused.exit_code == 2
    assert "takes no steps" in refused.stderr


def test_seeds_of_a_recipe_are_trained_side_by_side(tmp_path: Path) -> None:
    recipe = tmp_path / "small.json"
    recipe.write_text(json.dumps({**SMALL, "updates": 1}))
    command = ["train", "--recipe", str(recipe), "--out", str(tmp_path / "runs"), "--jobs", "1"]
    result = CliRunner().invoke(app, [*command, "--seeds", "2", "--json"])
    assert result.exit_code == 0, result.stderr
    first, second = json.loads(result.stdout)["seeds"]
    assert (first["seed"], second["seed"]) == (0, 1)
    alone = train_recipe(load_recipe(str(recipe), {"seed": 1}), tmp_path / "alone", HERE, quiet)
    assert second["change"] == alone.kept.change
    again = CliRunner().invoke(app, [*command, "--seeds", "3", "--json"])
    assert json.loads(again.stdout)["seeds"][:2] == [first, second]
    other = CliRunner().invoke(app, [*command, "--seeds", "1", "--set", "rate=0.5"])
    assert other.exit_code == 2
    assert "holds a run of another recipe" in other.stderr
