"""What a tuning trains, and how a training is judged."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from agentserve_gym.baselines.learned.parts import learned_policy
from agentserve_gym.baselines.learned.weights import load_weights
from agentserve_gym.learning import Recipe, train_recipe
from agentserve_gym.learning.episodes import Episodes, episode_cost
from agentserve_gym.learning.recipe import make_recipe
from agentserve_gym.learning.runs import WEIGHTS
from agentserve_gym.messages import shown
from agentserve_gym.scale import InThisProcess
from agentserve_gym.sim import load_scenario
from agentserve_gym.sim.scenario import StrictModel
from agentserve_gym.tables import set_key
from agentserve_gym.tuning.space import Space, Value

TUNING_SEEDS = range(600_000, 600_100)
"""Workloads that trials are judged on: neither trained on, nor those that weights of a run are
chosen by, nor those of any evaluation."""

Changes = Mapping[str, Value]
"""Settings by name, such as ``ppo.gamma``."""


class Plan(StrictModel):
    """Everything that is set of a tuning.

    Attributes:
        trains: ``settings``, through the environments, or a ``recipe``.
        base: all of its settings, of which ``space`` changes some.
    """

    trains: Literal["settings", "recipe"]
    base: dict[str, Any]
    space: Space

    @property
    def measures(self) -> str:
        """What a trial's value is, in words."""
        if self.trains == "recipe":
            return "mean cost of an episode, about log mean JCT"
        from agentserve_gym.train.evaluation import METRICS

        return METRICS[self.base["reward"]]

    def changed(self, changes: Changes) -> dict[str, Any]:
        """All settings of a trial.

        Raises:
            ValueError: naming what the training refuses.
        """
        values = deepcopy(self.base)
        for name, value in changes.items():
            set_key(values, name, value)
        if self.trains == "settings":
            from agentserve_gym.train import make_settings

            return make_settings(values).model_dump(mode="json")
        if "pairs" in changes and "updates" not in changes:
            episodes = self.base["pairs"] * self.base["updates"]
            values["updates"] = max(round(episodes / values["pairs"]), 1)
        return make_recipe(values, "recipe").model_dump(mode="json")

    def stock(self) -> dict[str, Value]:
        """What the base has for the parameters of the space.

        Raises:
            ValueError: naming one that the base lacks, or has outside of what is tried: what is
                found is compared with the base, which is the first trial.
        """
        found = {}
        for name, tried in self.space.parameters.items():
            value: Any = self.base
            for part in name.split("."):
                if not isinstance(value, dict) or part not in value:
                    raise ValueError(f"parameters: {shown(name)} is no setting of the training")
                value = value[part]
            if not tried.holds(value):
                raise ValueError(
                    f"parameters.{name}: {shown(value)}, as it is set, is not among what is tried, "
                    "but is tried first; widen the space, or set another value with --set"
                )
            found[name] = value
        return found


def plan_training(settings: Mapping[str, Any], space: Space) -> Plan:
    """Tune settings of ``agentserve train``.

    Raises:
        ValueError: naming each unknown setting or bad value, of the space too.
    """
    from agentserve_gym.train import make_settings

    base = make_settings(dict(settings)).model_dump(mode="json")
    return _checked(Plan(trains="settings", base=base, space=space))


def plan_recipe(recipe: Recipe, space: Space) -> Plan:
    """Tune a recipe.

    Raises:
        ValueError: for a parameter that is no setting of recipes, or a cell that is unknown.
    """
    Episodes(recipe)
    return _checked(Plan(trains="recipe", base=recipe.model_dump(mode="json"), space=space))


def _checked(plan: Plan) -> Plan:
    plan.stock()
    for name, tried in plan.space.parameters.items():
        for value in tried.ends():
            plan.changed({name: value})
    return plan


@dataclass(frozen=True, slots=True)
class Trial:
    """A training with some settings changed, as a worker gets it."""

    plan: Plan
    changes: Changes


def trial_value(trial: Trial) -> float:
    """Train, and judge on the tuning workloads: smaller is better. What was trained is not kept.

    Returns:
        Of settings the mean of the metric that ``reward`` names over the workloads; of a recipe the
        mean cost of its episodes, about log mean JCT.
    """
    values = trial.plan.changed(trial.changes)
    seeds = TUNING_SEEDS[: trial.plan.space.seeds]
    with TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        if trial.plan.trains == "settings":
            return _settings_value(values, run, seeds)
        return _recipe_value(values, run, seeds)


def _settings_value(values: dict[str, Any], run: Path, seeds: range) -> float:
    from agentserve_gym.train import load_policy, make_settings, score
    from agentserve_gym.train.runs import learn, silent

    settings = make_settings(values)
    learn(settings, run, silent)
    policy = load_policy(run, settings.baseline)
    return score(policy, load_scenario(settings.scenario), seeds, silent).mean(settings.reward)


def _recipe_value(values: dict[str, Any], run: Path, seeds: range) -> float:
    recipe = make_recipe(values, "recipe")
    train_recipe(recipe, run, InThisProcess(), lambda *_: None)
    policy = learned_policy(load_weights(str(run / WEIGHTS)))
    episodes = Episodes(recipe).on_seeds(seeds)
    return sum(episode_cost(episode, policy, recipe.tail) for episode in episodes) / len(episodes)
