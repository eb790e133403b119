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
from numpy.typing import NDArray

from agentserve_gym.envs.base import AgentServeBase
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
            ValueError: for no environment, or ``max_episode_steps`` below 1.
        """
        if not envs:
            raise ValueError("num_envs is 0; at least 1 is needed")
        if max_episode_steps is not None and max_episode_steps < 1:
            raise ValueError(f"max_episode_steps is {max_episode_steps}; at least 1 is needed")
        self.envs = envs
        self.max_episode_steps = max_episode_steps
        self.lengths = [0] * len(envs)
        self._scaling = Scaling(envs[0].builder.layout, envs[0].num_instances, len(envs))
        self._action_shape = (len(envs), *(envs[0].action_space.shape or ()))

    def begin(
        self, number: int, seed: int | None, options: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Start an episode of one environment, as its ``reset`` does; returns its information."""
        env = self.envs[number]
        info = env.begin(seed, options)
        self._scaling.write_static(number, env.builder.writer.static_values())
        self.lengths[number] = 0
        self._note(number, env.simulation.pending)
        return info

    def proceed(self, number: int, action: Any) -> Progress:
        """Answer one environment's decision, as its ``step`` does."""
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

    def last_info(self, number: int, elapsed_s: float) -> dict[str, Any]:
        """The information that an environment's step gives when it ends the episode."""
        env = self.envs[number]
        info = {"action_mask": env.mask.copy(), "elapsed_s": elapsed_s}
        return info | env.last_info() if env.is_over else info

    def read_actions(self, actions: Any) -> list[Any]:
        """Actions by environment.

        Raises:
            ValueError: unless there are integers for each environment.
        """
        array = np.asarray(actions)
        if array.shape != self._action_shape or array.dtype.kind not in "iu":
            raise ValueError(
                f"actions are {array.dtype} of shape {array.shape}; integers of shape "
                f"{self._action_shape} are needed"
            )
        found: list[Any] = array.tolist()
        return found

    def _note(self, number: int, decision: Decision | None) -> None:
        """Write what an environment shows now into its row."""
        scaling = self._scaling
        writer = self.envs[number].builder.writer
        writer.write(decision, scaling.memory, number * scaling.row_bytes)


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
    if num_envs < 1:
        raise ValueError(f"num_envs is {num_envs}; at least 1 is needed")
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
