"""Spaces, proposals that do not depend on where trials run, and tunings that go on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentserve_gym.cli import app
from agentserve_gym.learning import Recipe, load_recipe
from agentserve_gym.learning.episodes import FIRST_SELECTION_SEED, FIRST_TRAINING_SEED
from agentserve_gym.scale import InThisProcess, processes
from agentserve_gym.tuning import (
    TUNING_SEEDS,
    Plan,
    Space,
    Tuned,
    load_space,
    plan_recipe,
    resume_tuning,
    space_names,
    tune,
)
from agentserve_gym.tuning.plans import Trial, trial_value
from agentserve_gym.tuning.study import BEST

pytest.importorskip("optuna")
pytestmark = pytest.mark.whole_cluster

RECIPE = Recipe(
    name="small", description="on the toy", cells=["toy"], updates=2, pairs=2, select_every=1,
    selection_seeds=1,
)  # fmt: skip
SPACE = Space.model_validate(
    {
        "trials": 6, "round": 3, "seeds": 2,
        "parameters": {
            "spread": {"low": 0.2, "high": 1.0}, "rate": {"low": 1.0, "high": 50.0, "log": True},
            "pairs": {"low": 1, "high": 4},
        },
    }
)  # fmt: skip
PLAN = plan_recipe(RECIPE, SPACE)


def quiet(what: str, done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tuned]:
    """A tuning in this process, from beginning to end, and its folder."""
    run = tmp_path_factory.mktemp("whole") / "run"
    return run, tune(PLAN, run, InThisProcess(), quiet)


class Backwards:
    """Workers whose last task ends first, and of which so many end before the run is stopped."""

    def __init__(self, left: int = 1000) -> None:
        self.left = left

    def run(
        self,
        function: Callable[[Any], Any],
        tasks: Sequence[Any],
        done: Callable[[int, Any], None],
        failed: Callable[[int, Exception], None],
    ) -> None:
        for number in reversed(range(len(tasks))):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            done(number, function(tasks[number]))


# --- spaces ---------------------------------------------------------------------------------------


def test_every_space_of_the_package_has_what_recipes_and_settings_have() -> None:
    assert space_names() == ["dqn", "ppo", "recipe"]
    for name in ("default", "general"):
        recipe = load_recipe(name)
        stock = plan_recipe(recipe, load_space("recipe")).stock()
        assert stock == {"spread": recipe.spread, "rate": recipe.rate, "pairs": recipe.pairs}


@pytest.mark.training
def test_spaces_of_settings_hold_the_defaults() -> None:
    pytest.importorskip("stable_baselines3")
    from agentserve_gym.tuning import plan_training

    ppo = plan_training({"scenario": "toy"}, load_space("ppo"))
    assert ppo.stock()["ppo.clip_range"] == 0.1
    assert ppo.changed({"ppo.clip_range": 0.2})["ppo"]["clip_range"] == 0.2
    assert ppo.base["ppo"]["clip_range"] == 0.1
    dqn = {"scenario": "toy", "algorithm": "dqn", "env": "AgentServeRouting-v0"}
    assert plan_training(dqn, load_space("dqn")).stock()["dqn.gamma"] == 0.999
    with pytest.raises(ValueError, match="batch_size is 256; it can be at most"):
        plan_training({"workers": 1, "ppo": {"rollout_steps": 512}}, load_space("ppo")).changed(
            {"ppo.rollout_steps": 128}
        )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "parameters"),
        ({"rate": {"low": 1.0, "high": 0.1}}, "low is 1.0 and high 0.1"),
        ({"rate": {"low": 0.0, "high": 0.1, "log": True}}, "low is 0.0; allowed with log: above 0"),
        ({"rate": {"low": 0.1, "high": 0.3, "step": 0.1, "log": True}}, "exclude each other"),
        ({"rate": {"choices": [0.1]}}, "choices"),
        ({"rat": {"low": 0.1, "high": 0.3}}, "'rat' is no setting of the training"),
        ({"rate.x": {"low": 0.1, "high": 0.3}}, "'rate.x' is no setting of the training"),
        ({"rate": {"low": 0.1, "high": 0.3}}, "parameters.rate: 10.0, as it is set, is not among"),
        ({"pairs": {"low": 1, "high": 4, "step": 2}}, "parameters.pairs: 2, as it is set"),
        ({"rate": {"low": -1.0, "high": 20.0}}, "rate is -1.0"),
    ],
)
def test_a_wrong_space_is_refused(parameters: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "space.json"
    file.write_text(json.dumps({"parameters": parameters}))
    with pytest.raises(ValueError) as error:
        plan_recipe(RECIPE, load_space(str(file)))
    assert message in str(error.value)


def test_more_pairs_are_fewer_updates() -> None:
    assert PLAN.changed({"pairs": 4})["updates"] == 1
    assert PLAN.changed({"pairs": 1})["updates"] == 4
    assert PLAN.changed({"pairs": 3, "updates": 7})["updates"] == 7


# --- trials ---------------------------------------------------------------------------------------


def test_tuning_has_workloads_of_its_own() -> None:
    assert TUNING_SEEDS[0] > FIRST_SELECTION_SEED + 100
    assert TUNING_SEEDS[-1] < FIRST_TRAINING_SEED


def test_proposals_follow_from_the_space_alone(whole: tuple[Path, Tuned], tmp_path: Path) -> None:
    run, here = whole
    backwards = tune(PLAN, tmp_path / "backwards", Backwards(), quiet)
    with processes(2) as workers:
        beside = tune(PLAN, tmp_path / "beside", workers, quiet)
    assert here == backwards == beside
    assert [trial.number for trial in here.trials] == list(range(6))
    assert here.trials[0].changes == PLAN.stock()
    assert len({str(trial.changes) for trial in here.trials}) == 6
    assert here.best.value == min(trial.value for trial in here.trials if trial.value is not None)
    assert here.best.value == trial_value(Trial(PLAN, here.best.changes))
    best = load_recipe(str(run / BEST))
    assert best.rate == here.best.changes["rate"]


@pytest.mark.parametrize("ended", [0, 1, 3, 4])
def test_a_tuning_that_was_stopped_goes_on_as_if_it_had_not(
    whole: tuple[Path, Tuned], tmp_path: Path, ended: int
) -> None:
    run = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        tune(PLAN, run, Backwards(ended), quiet)
    log = run / "trials.log"
    # Ended while it was writing.
    log.write_text(log.read_text() + '{"op_code": 4, "worker')
    assert resume_tuning(run, InThisProcess(), quiet) == whole[1]
    with pytest.raises(ValueError, match="holds a tuning already"):
        tune(PLAN, run, InThisProcess(), quiet)


def test_a_trial_that_fails_costs_only_itself(tmp_path: Path) -> None:
    space = SPACE.model_copy(update={"trials": 4, "round": 4})
    plan = plan_recipe(RECIPE.model_copy(update={"cells": []}), space)
    broken = Plan(trains="recipe", base={**plan.base, "cells": ["nothing"]}, space=space)
    with pytest.raises(ValueError, match=r"no trial has succeeded; the first: ValueError: .*nothi"):
        tune(broken, tmp_path / "broken", InThisProcess(), quiet)
    shutil.rmtree(tmp_path / "broken")
    with pytest.raises(ValueError, match="holds no tuning"):
        resume_tuning(tmp_path / "broken", InThisProcess(), quiet)


# --- the command ----------------------------------------------------------------------------------


def test_the_command_says_what_is_best_and_how_to_train_with_it(tmp_path: Path) -> None:
    recipe, space, run = (tmp_path / name for name in ("small.json", "space.json", "run"))
    recipe.write_text(RECIPE.model_dump_json())
    space.write_text(SPACE.model_dump_json(exclude_none=True))
    command = ["tune", "train", "--recipe", str(recipe), "--space", str(space), "--jobs", "1"]
    result = CliRunner().invoke(app, [*command, "--trials", "2", "--out", str(run)])
    assert result.exit_code == 0, result.stderr
    assert "best of 2 trials" in result.stdout
    assert f"agentserve train --recipe {run / BEST}" in result.stderr
    more = ["tune", "train", "--resume", str(run), "--trials", "4", "--jobs", "1", "--json"]
    result = CliRunner().invoke(app, more)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert [trial["number"] for trial in document["trials"]] == [0, 1, 2, 3]
    assert document["best"]["value"] == min(trial["value"] for trial in document["trials"])
    for wrong, message in (
        ([*more, "--space", "ppo"], "--resume goes on"),
        ([*command, "--steps", "5"], "--recipe takes settings by --set alone"),
        ([*command, "--set", "rat=1", "--out", "other"], "unknown key 'rat'"),
    ):
        refused = CliRunner().invoke(app, wrong)
        assert refused.exit_code == 2
        assert message in refused.stderr


@pytest.mark.training
def test_settings_are_tuned_too(tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3")
    space, run = tmp_path / "space.toml", tmp_path / "run"
    space.write_text(
        "trials = 2\nround = 2\nseeds = 2\n"
        '[parameters]\n"ppo.clip_range" = { choices = [0.1, 0.3] }'
    )
    changes = {"workers": 2, "ppo.rollout_steps": 64, "ppo.batch_size": 64, "imitate": "none",
               "evaluation.selection_seeds": 2}  # fmt: skip
    given = [f"--set={name}={json.dumps(value)}" for name, value in changes.items()]
    command = ["tune", "train", "--scenario", "toy", "--steps", "128", *given, "--jobs", "1"]
    result = CliRunner().invoke(app, [*command, "--space", str(space), "--out", str(run), "--json"])
    assert result.exit_code == 0, result.stderr
    values = [trial["value"] for trial in json.loads(result.stdout)["trials"]]
    assert all(value > 0.0 for value in values)
    assert f"agentserve train --settings {run / BEST}" in result.stderr
    assert json.loads((run / BEST).read_text())["steps"] == 128
