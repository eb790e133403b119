"""Several environments of one kind, side by side in one process, observed together.

Each simulation runs as it does alone. What is saved is what an environment does besides: the
observations of all are scaled by one set of array operations, and no dictionary is made per step.
Vector environments (Gymnasium's here, Stable-Baselines3's in ``train``) add their conventions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete
from numpy.typing import NDArray

from agentserve_gym.envs.arguments import whole_number
from agentserve_gym.envs.base import AgentServeBase
from agentserve_gym.envs.metrics import EpisodeMetrics
from agentserve_gym.envs.rewards import Reward
from agentserve_gym.envs.scaling import Scaling
from agentserve_gym.sim import Decision, load_scenario

Progress = tuple[float, float, bool, bool]
"""What a step of one environment led to: its reward, simulated seconds since the last decision,
whether the episode terminated, whether it was truncated."""

MOST_ENVS = 10_000
MOST_ROWS = 100_000
"""Of the observations of all environments: ``num_envs`` x ``max_instances``. A few GiB in all."""


class EnvBatch:
    """``N`` environments with ``k`` mask entries and observations of one ``size``.

    Attributes:
        envs: the environments. Whoever steps or resets one of them alone must not go on with the
            batch before that one has begun anew.
        max_episode_steps: an episode is truncated after so many steps, or never.
        lengths: steps of each environment's episode so far.
    """

    def __init__(self, envs: list[AgentServeBase], max_episode_steps: int | None = None) -> None:
        """Put environments of one scenario and kind side by side.

        Raises:
            ValueError: for no environment, or a bad ``max_episode_steps``.
        """
        if not envs:
            raise ValueError("num_envs is 0; allowed: an integer of at least 1")
        if max_episode_steps is not None:
            max_episode_steps = whole_number("max_episode_steps", max_episode_steps, 1, "None")
        self.envs = envs
        self.max_episode_steps = max_episode_steps
        self.lengths = [0] * len(envs)
        self._scaling = Scaling(envs[0].builder.layout, envs[0].num_instances, (len(envs),))
        space = envs[0].action_space
        assert isinstance(space, (Discrete, MultiDiscrete))
        self._action_shape = (len(envs), *(space.shape or ()))
        self._action_sizes = np.asarray(space.n if isinstance(space, Discrete) else space.nvec)
        self._seeds = np.zeros(len(envs), np.int64)
        self._unknown_metrics = np.asarray(EpisodeMetrics.unknown())[np.newaxis]

    def begin(
        self, number: int, seed: int | None, options: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Start an episode of one environment, as its ``reset`` does; returns its information."""
        env = self.envs[number]
        info = env.begin(seed, options)
        self._scaling.write_static(number, env.builder.writer.static_values())
        self.lengths[number] = 0
        self._seeds[number] = info["seed"]
        self._note(number, env.simulation.pending)
        return info

    def proceed(self, number: int, action: Any) -> Progress:
        """Answer one environment's decision, as its ``step`` does, by one of ``read_actions``."""
        env = self.envs[number]
        reward, elapsed_s, decision = env.proceed(action)
        self._note(number, decision)
        self.lengths[number] = length = self.lengths[number] + 1
        cut = length == self.max_episode_steps
        if decision is not None:
            return reward, elapsed_s, False, cut
        horizon = env.simulation.truncated
        return reward, elapsed_s, not horizon, horizon or cut

    def masks(self) -> NDArray[np.int8]:
        """A new array ``(N, k)``: possible actions now."""
        return np.concatenate([env.mask for env in self.envs]).reshape(len(self.envs), -1)

    def observe(self) -> NDArray[np.float32]:
        """A new array ``(N, size)`` with the observations of all environments."""
        return self._scaling.observe()

    def observe_one(self, number: int) -> NDArray[np.float32]:
        """A new array ``(size,)`` with one environment's observation."""
        env = self.envs[number]
        return env.builder.write(env.simulation.pending)

    def info(self, number: int, elapsed_s: float) -> dict[str, Any]:
        """The information that an environment's step gives now."""
        return self.envs[number].info(elapsed_s)

    def infos(self) -> dict[str, NDArray[Any]]:
        """What ``info`` holds besides masks and elapsed times, for all environments: new arrays
        ``(N,)``, and metrics ``(N, names)``."""
        metrics = np.repeat(self._unknown_metrics, len(self.envs), axis=0)
        for number, env in enumerate(self.envs):
            if env.is_over:
                metrics[number] = env.metrics
        invalid = [env.simulation.metrics.invalid_answers for env in self.envs]
        again = [env.asked_again for env in self.envs]
        return {
            "seed": self._seeds.copy(),
            "steps": np.array(self.lengths),
            "invalid_actions": np.array(invalid),
            "asked_again": np.array(again),
            "metrics": metrics,
        }

    def read_actions(self, actions: Any) -> list[Any]:
        """Actions by environment.

        Raises:
            ValueError: unless there is an action of the action space for each environment.
        """
        array = _integers(actions)
        if array.shape != self._action_shape or array.dtype.kind not in "iu":
            raise ValueError(
                f"actions are {array.dtype} of shape {array.shape}; allowed: integers of shape "
                f"{self._action_shape}"
            )
        found: list[Any] = array.tolist()
        outside = (array < 0) | (array >= self._action_sizes)
        if outside.any():
            first = int(np.argwhere(outside)[0, 0])
            raise ValueError(
                f"action of environment {first} is {found[first]}; allowed: integers from 0 to "
                f"{(self._action_sizes - 1).tolist()}"
            )
        return found

    def _note(self, number: int, decision: Decision | None) -> None:
        """Write what an environment shows now into its row."""
        scaling = self._scaling
        writer = self.envs[number].builder.writer
        writer.write(decision, scaling.memory, number * scaling.row_bytes)


def _integers(actions: Any) -> NDArray[Any]:
    """Actions as an array; of objects unless they are numbers of one kind, in equal rows."""
    if isinstance(actions, np.ndarray):
        return actions
    try:
        array: NDArray[Any] = np.asarray(actions)
        items = np.asarray(actions, object).flat
    except ValueError:
        return np.array(None)
    mixed = any(isinstance(item, (bool, np.bool_)) for item in items)
    return array.astype(object) if mixed else array


def make_batch(
    make: Callable[..., AgentServeBase],
    num_envs: int,
    max_episode_steps: int | None = None,
    **options: Any,
) -> EnvBatch:
    """A batch of ``num_envs`` environments with equal options; the scenario is read once, and a
    reward object is copied for each.

    Raises:
        ValueError: for ``num_envs`` below 1 or too large for memory, or bad options.
    """
    whole_number("num_envs", num_envs, 1)
    options["scenario"] = load_scenario(options.get("scenario", "default"))
    reward: str | Reward = options.pop("reward", "jct")
    first = make(**options, reward=copy.deepcopy(reward))
    most = min(MOST_ENVS, MOST_ROWS // first.max_instances)
    if num_envs > most:
        raise ValueError(
            f"num_envs is {num_envs}; allowed with {first.max_instances} instances each: at most "
            f"{most}"
        )
    envs = [make(**options, reward=copy.deepcopy(reward)) for _ in range(num_envs - 1)]
    envs.insert(0, first)
    return EnvBatch(envs, max_episode_steps)
