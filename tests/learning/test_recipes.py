"""Recipes, evolution, and runs that go on where they were stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from agentserve_gym.baselines import parse_policy
from agentserve_gym.baselines.driving import run_policy
from agentserve_gym.baselines.learned.weights import LAYOUT, SIZE, heuristic_weights, load_weights
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
)
from agentserve_gym.learning.evolution import Evolution
from agentserve_gym.learning.features import CONSTANT, Scaled, pooled, scaled
from agentserve_gym.learning.history import UPDATES
from agentserve_gym.learning.runs import WEIGHTS, Task, task_cost, task_look
from agentserve_gym.learning.variation import Variation, varied
from agentserve_gym.scale import InThisProcess
from agentserve_gym.sim import Simulation
from agentserve_gym.workloads import StagedArrivals

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
    usual = Recipe(**SMALL).scale_vector()
    recipe = Recipe(**{**SMALL, "scales": {"queue": 0.7, "queue.ready": 0.0}})
    assert usual.count(0.0) == len(LAYOUT["place_keep"])
    assert recipe.scale_vector().count(0.0) == usual.count(0.0) + 1
    assert recipe.scale_vector().count(0.7) == usual.count(0.7) + 8
    route = Recipe(**{**SMALL, "scales": {"route": 0.9}}).scale_vector()
    assert route[: len(LAYOUT["route"])] == [0.9] * len(LAYOUT["route"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"updats": 3}, "updats"),
        ({"updates": 0}, "updates"),
        ({"start": "nothing"}, "unknown weights 'nothing'"),
        ({"scales": {"que": 1.0}}, "unknown weight 'que'; did you mean 'queue'"),
        ({"begin.queue.redy": 1.0}, "queue: unknown weight 'redy'; did you mean 'ready'"),
        ({"begin.que.ready": 1.0}, "unknown group 'que'; did you mean 'queue'"),
        ({"variation": {"load": [2.0, 1.0]}}, "load is [2, 1]"),
        ({"variation.instances": [2.0, 1.0]}, "instances is [2, 1]"),
        ({"updates.more": 3}, "updates"),
    ],
)
def test_a_wrong_recipe_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        load_recipe("default", changes)
    assert message in str(error.value)


def test_a_training_may_begin_at_other_weights_than_its_start() -> None:
    begun = Recipe(**{**SMALL, "begin": {"queue": {"ready": 0.5}}}).first_weights().as_dict()
    usual = Recipe(**SMALL).first_weights().as_dict()
    assert usual == heuristic_weights().as_dict()
    assert begun["queue"].pop("ready") == 0.5
    assert usual["queue"].pop("ready") != 0.5
    assert begun == usual


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


def test_as_many_programs_arrive_at_every_instance_however_many_there_are() -> None:
    scenario = find_scenario("surge-8b-4")
    same = {"share": 1.0, "load": (1.0, 1.0), "pool": (1.0, 1.0)}
    other = varied(scenario, Variation(**same, instances=(1.5, 1.5), gaps=(2.0, 2.0)), 1)
    assert [kind.count for node in other.cluster.nodes for kind in node.instances] == [6]
    assert isinstance(scenario.arrivals, StagedArrivals)
    assert isinstance(other.arrivals, StagedArrivals)
    for stage, before in zip(other.arrivals.stages, scenario.arrivals.stages, strict=True):
        assert stage.rate_per_s == pytest.approx(1.5 * before.rate_per_s)
    assert other.workload.kind == "generated"
    assert other.workload.gap_scale == 2.0
    single = varied(find_scenario("swe-70b-1"), Variation(**same, instances=(0.5, 0.5)), 1)
    assert single == find_scenario("swe-70b-1")


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


def look_of(**means: float) -> dict[str, tuple[list[float], list[float]]]:
    """A cell that gates: every feature of a turn there is 0 on average, but for those named."""
    mean = [1.0 if name == CONSTANT else means.get(name, 0.0) for name in LAYOUT["admit"]]
    return {"admit": (mean, [0.0 if name == CONSTANT else 0.01 for name in LAYOUT["admit"]])}


TWO_CELLS = [look_of(gap=-1.0), look_of(gap=1.0)]
"""Alike but for how long tools take."""


def evolved(recipe: Recipe, cost: Callable[[int, Any], float]) -> tuple[Any, Scaled]:
    """How far evolution goes along each direction; ``cost`` is of a cell's episode."""
    frame = scaled(TWO_CELLS, recipe.scale_vector())
    evolution = Evolution(recipe, [0.0] * SIZE, frame)
    cells = [0, 1] * (recipe.pairs // 2)
    for _ in range(recipe.updates):
        costs = [
            (cost(cell, one), cost(cell, other))
            for cell, (one, other) in zip(cells, evolution.pairs(), strict=True)
        ]
        evolution.update(cells, costs)
    return evolution.weights @ np.linalg.pinv(frame.units), frame


def score(weights: Any, cell: int) -> float:
    """What the gate's weights say in a cell, on average."""
    return float(np.dot(weights[ADMIT], TWO_CELLS[cell]["admit"][0]))


ADMIT_AT = sum(len(LAYOUT[group]) for group in list(LAYOUT)[: list(LAYOUT).index("admit")])
ADMIT = slice(ADMIT_AT, ADMIT_AT + len(LAYOUT["admit"]))
GAP_AT = ADMIT_AT + LAYOUT["admit"].index("gap")


def test_what_cells_want_in_common_is_followed() -> None:
    recipe = Recipe(**{**SMALL, "updates": 20, "pairs": 8})
    moved, _ = evolved(recipe, lambda cell, weights: (score(weights, cell) - 0.3) ** 2)
    constant = ADMIT_AT + LAYOUT["admit"].index(CONSTANT)
    assert moved[constant] > 1.0
    assert abs(moved[GAP_AT]) < 0.2 * moved[constant]


def test_what_tells_cells_apart_is_found_below_the_noise_of_their_mean() -> None:
    """One cell wants a tighter gate and the other a looser one, so their mean wants nothing."""
    draw = np.random.default_rng(0)
    recipe = Recipe(**{**SMALL, "updates": 20, "pairs": 8})

    def cost(cell: int, weights: Any) -> float:
        wanted = -1.0 if cell == 0 else 1.0
        return -wanted * score(weights, cell) + float(draw.normal(0.0, 0.02))

    moved, _ = evolved(recipe, cost)
    others = np.delete(np.abs(moved), GAP_AT)
    assert moved[GAP_AT] > 1.0
    assert others.max() < 0.5 * moved[GAP_AT]


def test_luck_moves_little() -> None:
    draw = np.random.default_rng(0)
    recipe = Recipe(**{**SMALL, "updates": 20, "pairs": 8})

    def lucky(cell: int, weights: Any) -> float:
        return float(draw.normal(0.0, 0.02))

    def steady(cell: int, weights: Any) -> float:
        return (0.3 if cell == 0 else -0.3) * score(weights, cell) + lucky(cell, weights)

    typical = float(np.sqrt(np.mean(evolved(recipe, lucky)[0] ** 2)))
    assert 0.0 < typical < 0.06 * evolved(recipe, steady)[0][GAP_AT]


def test_steps_become_narrow() -> None:
    recipe = Recipe(**{**SMALL, "updates": 30, "pairs": 2})
    evolution = Evolution(recipe, [0.0] * SIZE, scaled(TWO_CELLS, recipe.scale_vector()))
    widths = []
    for _ in range(30):
        pairs = evolution.pairs()
        widths.append(max(float(np.abs(one - other).max()) for one, other in pairs))
        evolution.update([0, 1], [(1.0, 1.0)] * 2)
    assert not evolution.weights.any()
    assert np.mean(widths[-3:]) < 0.4 * np.mean(widths[:10])


def test_weights_of_scale_0_stay() -> None:
    recipe = Recipe(**{**SMALL, "pairs": 8, "updates": 3, "scales": {"admit.gap": 0.0}})
    frame = scaled(TWO_CELLS, recipe.scale_vector())
    evolution = Evolution(recipe, [0.5] * SIZE, frame)
    for _ in range(3):
        pairs = evolution.pairs()
        costs = [(float(one[ADMIT].sum()), float(other[ADMIT].sum())) for one, other in pairs]
        evolution.update([0, 1] * 4, costs)
    still = np.array(recipe.scale_vector()) == 0.0
    assert still.sum() == 1 + len(LAYOUT["place_keep"])
    assert (evolution.weights[still] == 0.5).all()
    assert (evolution.weights[ADMIT] != 0.5).sum() == len(LAYOUT["admit"]) - 1


def test_a_step_along_a_feature_keeps_the_mean_score() -> None:
    looks = [look_of(gap=1.0, size=2.0), look_of(gap=3.0, size=-1.0)]
    frame = scaled(looks, Recipe(**SMALL).scale_vector())
    mean = np.array(pooled(looks)["admit"][0])
    for place, name in enumerate(LAYOUT["admit"], ADMIT_AT):
        shift = float(frame.units[place, ADMIT] @ mean)
        assert shift == pytest.approx(0.12 if name == CONSTANT else 0.0), name
    assert frame.units[GAP_AT, GAP_AT] == pytest.approx(0.12 / np.sqrt(1.0 + 0.01))


def test_what_decides_nothing_anywhere_stays() -> None:
    """No cell asks for a far place or an order of queues; prices of routes have no features."""
    draw = np.random.default_rng(0)
    recipe = Recipe(**{**SMALL, "updates": 5, "pairs": 8})
    moved, _ = evolved(recipe, lambda cell, weights: float(draw.normal(0.0, 0.1)))
    where = [group for group in LAYOUT for _ in LAYOUT[group]]
    changed = {group for group, step in zip(where, moved, strict=True) if step}
    assert changed == {"admit", "route", "pin", "rank"}


def test_looks_are_what_scores_saw() -> None:
    """On the toy."""
    (episode,) = Episodes(Recipe(**SMALL)).selection()
    task = Task(episode, np.array(heuristic_weights().vector()), 0.0)
    cost, look = task_look(task)
    assert cost == task_cost(task)
    assert set(look) >= {"admit", "queue", "place_keep"}
    for group, (mean, variance) in look.items():
        assert len(mean) == len(variance) == len(LAYOUT[group])
        if CONSTANT in LAYOUT[group]:
            at = LAYOUT[group].index(CONSTANT)
            assert (mean[at], variance[at]) == (1.0, 0.0)


def test_both_episodes_of_a_pair_lie_opposite_each_other() -> None:
    recipe = Recipe(**SMALL)
    frame = scaled(TWO_CELLS, recipe.scale_vector())
    evolution = Evolution(recipe, heuristic_weights().vector(), frame)
    for one, other in evolution.pairs():
        assert (one + other) / 2.0 == pytest.approx(evolution.weights)
    with pytest.raises(ValueError, match="costs of 1 pairs; allowed: 2"):
        evolution.update([0], [(1.0, 2.0)])


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
