"""Policies from outside: Stable-Baselines3 models that learned in our environments, and functions.

They see the observations and masks of an environment and answer with its actions, and drive a
simulation like any heuristic. An action that the mask rules out falls back to a safe one and is
counted (``invalid_answers`` of the report).
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from sb3_contrib import ARS, QRDQN, TRPO, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from agentserve_gym import ENV_IDS
from agentserve_gym.baselines import parse_policy
from agentserve_gym.envs import AgentServeBase, ObservationLayout
from agentserve_gym.envs.actions import Mask
from agentserve_gym.sim import Answer, Decision, Scenario, Simulation
from agentserve_gym.train.learned import find_model

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {
    "a2c": A2C,
    "ars": ARS,
    "dqn": DQN,
    "maskable-ppo": MaskablePPO,
    "ppo": PPO,
    "qrdqn": QRDQN,
    "recurrent-ppo": RecurrentPPO,
    "trpo": TRPO,
}
"""Of Stable-Baselines3 and sb3-contrib, those for discrete actions."""

_MOST_ROWS = 1024

Actor = Callable[[NDArray[np.float32], Mask], Any]
"""From an observation, float32 of shape (features,), and a mask, int8 of shape (entries,), to an
action of the environment."""


class EnvironmentPolicy:
    """Answers the decisions that an environment asks by an actor, and the others by a baseline."""

    def __init__(
        self,
        name: str,
        make_actor: Callable[[], Actor],
        env: str,
        baseline: str,
        check: Callable[[AgentServeBase], None] | None = None,
        rows: Callable[[Scenario], int | None] | None = None,
    ) -> None:
        """Prepare; the environment is made for each simulation's scenario.

        Args:
            name: how results name it.
            make_actor: a fresh actor for every simulation.
            env: id of the environment. ``baseline``: takes the decisions that it does not ask.
            check: refuses an environment that the actor does not fit.
            rows: the environment's ``max_instances`` for a scenario; default: its own.

        Raises:
            ValueError: for an unknown environment or baseline.
        """
        if env not in ENV_IDS:
            raise ValueError(f"env is {env!r}; allowed: {', '.join(ENV_IDS)}")
        self._name = name
        self._make_actor = make_actor
        self.env_id = env
        self.baseline = parse_policy(baseline)
        self._check = check
        self._rows = rows
        self._counts = {"asked": 0, "delegated": 0}

    @property
    def name(self) -> str:
        """How results name it."""
        return self._name

    @property
    def is_oracle(self) -> bool:
        """Whether its baseline is one: it sees no more than that."""
        return self.baseline.is_oracle

    def bind(self, simulation: Simulation) -> None:
        """Fit observations and actions to the simulation's cluster.

        Raises:
            ValueError: if the actor does not fit the scenario.
        """
        scenario = simulation.scenario
        rows = self._rows(scenario) if self._rows is not None else None
        made = gym.make(
            f"agentserve_gym:{self.env_id}", scenario=scenario, max_instances=rows
        ).unwrapped
        assert isinstance(made, AgentServeBase)
        if self._check is not None:
            self._check(made)
        made.builder.attach(simulation.cluster)
        self._env = made
        self._actor = self._make_actor()
        self.baseline.bind(simulation)

    def decide(self, decision: Decision) -> Answer:
        """Answer one decision.

        Raises:
            ValueError: for an action of the wrong shape.
        """
        env = self._env
        if not env.asks(decision):
            self._counts["delegated"] += 1
            return env.unasked_answer(decision, self.baseline)
        self._counts["asked"] += 1
        try:
            action = self._actor(env.builder.write(decision), env.mask_at(decision))
            return env.answer(decision, action)
        except ValueError as error:
            raise ValueError(f"policy {self._name!r}: {error}") from error

    def counters(self) -> dict[str, int]:
        """Decisions that were asked, and those left to the baseline."""
        return {f"actor.{kind}": count for kind, count in self._counts.items()}

    def reset(self) -> None:
        """Forget the run so far."""
        self.baseline.reset()
        self._counts = dict.fromkeys(self._counts, 0)


def load_function(
    text: str, env: str = "AgentServe-v0", baseline: str = "affinity+lru"
) -> EnvironmentPolicy:
    """``module:function``, called as ``function(observation, action_mask)``, as a policy.

    A class is built anew for every simulation, and its object called, so it may remember.

    Raises:
        ValueError: if it cannot be imported or called.
    """
    module_name, _, name = text.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"model {text!r}: cannot import {module_name!r}: {error}") from error
    found: Any = getattr(module, name, None)
    if not callable(found):
        raise ValueError(f"model {text!r}: {module_name!r} has no function {name!r}")
    make_actor = found if isinstance(found, type) else lambda: found
    return EnvironmentPolicy(text, make_actor, env, baseline)


def load_sb3(
    path: str | Path,
    algorithm: str,
    env: str = "AgentServe-v0",
    baseline: str = "affinity+lru",
    vecnormalize: str | Path | None = None,
) -> EnvironmentPolicy:
    """A model that Stable-Baselines3 or sb3-contrib saved, as a policy; it acts deterministically.

    Loading executes code that is pickled in the files: load only files that you trust.

    Also a policy by name: ``--policy "agentserve_gym.train:load_sb3(path=m.zip,algorithm=ppo)"``.

    Args:
        path: of the model. ``algorithm``: one of ``ALGORITHMS``.
        env: id of the environment in which it learned. ``baseline``: as there.
        vecnormalize: file of the ``VecNormalize`` statistics with which it learned, if it did.

    Raises:
        ValueError: for an unknown name, or a file that is not what it should be.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm is {algorithm!r}; allowed: {', '.join(ALGORITHMS)}")
    file = find_model(path)
    try:
        model = ALGORITHMS[algorithm].load(file, device="cpu")
    except Exception as error:  # whatever unpickling or fitting weights raises
        raise ValueError(f"{file} cannot be loaded as a model of {algorithm}: {error}") from error
    statistics = None if vecnormalize is None else _load_statistics(Path(vecnormalize))
    return EnvironmentPolicy(
        f"{algorithm}({file.stem})",
        lambda: _Sb3Actor(model, statistics, masked=algorithm == "maskable-ppo"),
        env,
        baseline,
        lambda made: _check_fit(file, model, made),
        lambda scenario: _rows_of(model, scenario),
    )


class _Sb3Actor:
    """A model's most probable (or most valuable) action; recurrent ones remember the run so far."""

    def __init__(
        self, model: BaseAlgorithm, statistics: VecNormalize | None, *, masked: bool
    ) -> None:
        self._model = model
        self._statistics = statistics
        self._masked = masked
        self._state: Any = None
        self._begins = np.ones(1, dtype=np.bool_)

    def __call__(self, observation: NDArray[np.float32], mask: Mask) -> Any:
        seen: Any = observation
        if self._statistics is not None:
            seen = self._statistics.normalize_obs(observation)
        masks = {"action_masks": mask.astype(np.bool_)} if self._masked else {}
        action, self._state = self._model.predict(
            seen, self._state, self._begins, deterministic=True, **masks
        )
        self._begins = np.zeros(1, dtype=np.bool_)
        return action


def _load_statistics(file: Path) -> VecNormalize:
    try:
        statistics = pickle.loads(file.read_bytes())
    except OSError as error:
        raise ValueError(f"vecnormalize is {str(file)!r}: {error.strerror}") from error
    except Exception as error:  # whatever unpickling raises
        raise ValueError(f"{file} cannot be loaded as VecNormalize statistics: {error}") from error
    if not isinstance(statistics, VecNormalize):
        kind = type(statistics).__name__
        raise ValueError(f"{file} holds {kind}; allowed: what VecNormalize.save wrote")
    return statistics


def _rows_of(model: BaseAlgorithm, scenario: Scenario) -> int | None:
    """The ``max_instances`` with which an observation has as many features as the model takes."""
    for rows in range(1, _MOST_ROWS + 1):
        layout = ObservationLayout(rows, scenario.pin_ttls_s, scenario.cluster.tier_names)
        if (layout.size,) == model.observation_space.shape:
            return rows
    return None


def _check_fit(file: Path, model: BaseAlgorithm, env: AgentServeBase) -> None:
    for what, learned, given in (
        ("observations", model.observation_space.shape, env.observation_space.shape),
        ("actions", model.action_space, env.action_space),
    ):
        if learned != given:
            raise ValueError(
                f"{file} was trained with {what} {learned}, but those of this environment in "
                f"scenario {env.scenario.name!r} are {given}; name its environment with --env, and "
                "a scenario with as many pin_ttls_s and tiers and no more instances"
            )
