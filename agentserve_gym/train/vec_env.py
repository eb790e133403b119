"""The native batch of environments as a ``VecEnv`` of Stable-Baselines3."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from agentserve_gym.envs import AgentServeBase, AgentServeVectorEnv, EnvBatch

NextOptions = Callable[[int], dict[str, Any]]
"""Options for the reset that starts an environment's next episode, by the environment's number."""

Indices = int | Iterable[int] | None


class AgentServeVecEnv(VecEnv):
    """What SB3 and sb3-contrib learn from; in place of ``DummyVecEnv`` over monitored environments.

    .. code-block:: python

        envs = gym.make_vec("agentserve_gym:AgentServe-v0", num_envs=8, scenario="default")
        model = MaskablePPO("MlpPolicy", AgentServeVecEnv(envs))

    Equal seeds and actions give the same observations, rewards, ends and masks as ``DummyVecEnv``.
    Episodes follow each other within a step, whatever the vector environment's autoreset mode.

    Infos, one dictionary per environment: ``elapsed_s`` and ``TimeLimit.truncated`` at each step
    (masks come from ``action_masks``). At the end of an episode also what the environment says
    then, ``terminal_observation``, and ``episode`` with the return ``r``, length ``l`` and wall
    time ``t``, as ``Monitor`` gives it.
    """

    actions: Any

    def __init__(
        self,
        envs: gym.vector.VectorEnv[Any, Any, Any] | EnvBatch,
        next_options: NextOptions | None = None,
    ) -> None:
        """Take over a native vector environment or a batch; nobody else may step it from now on.

        Args:
            envs: native environments.
            next_options: says with what options each episode starts; seeds are not passed on then.

        Raises:
            ValueError: if ``envs`` is another vector environment.
        """
        self.batch = _batch_of(envs)
        self._next_options = next_options
        number = len(self.batch.envs)
        self._returns = [0.0] * number
        self._started = time.time()
        first = self.batch.envs[0]
        super().__init__(number, first.observation_space, first.action_space)
        self.metadata = first.metadata

    # --- stepping --------------------------------------------------------------------------------

    def reset(self) -> NDArray[np.float32]:
        """Start an episode in every environment, with the seeds and options set before."""
        for number in range(self.num_envs):
            self._begin(number, self._seeds[number], self._options[number] or None)
        self._reset_seeds()
        self._reset_options()
        return self.batch.observe()

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take the actions for the step."""
        self.actions = actions

    def step_wait(
        self,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Step; environments whose episode ends show the first observation of the next one."""
        batch, returns = self.batch, self._returns
        rewards, dones, infos = [], [], []
        for number, action in enumerate(batch.read_actions(self.actions)):
            reward, elapsed_s, terminated, truncated = batch.proceed(number, action)
            returns[number] += reward
            info: dict[str, Any] = {
                "elapsed_s": elapsed_s,
                "TimeLimit.truncated": truncated and not terminated,
            }
            done = terminated or truncated
            if done:
                info |= self._last_info(number, elapsed_s)
                self._begin(number, None, None)
            rewards.append(reward)
            dones.append(done)
            infos.append(info)
        return (
            batch.observe(),
            np.array(rewards, np.float32),
            np.array(dones, np.bool_),
            infos,
        )

    def action_masks(self) -> NDArray[np.bool_]:
        """Masks of possible actions, ``(N, k)``."""
        return self.batch.masks().astype(np.bool_)

    def _begin(self, number: int, seed: int | None, options: dict[str, Any] | None) -> None:
        if self._next_options is not None:
            seed, options = None, self._next_options(number)
        self._returns[number] = 0.0
        self.reset_infos[number] = self.batch.begin(number, seed, options)

    def _last_info(self, number: int, elapsed_s: float) -> dict[str, Any]:
        """What comes with the end of an episode."""
        episode = {
            "r": round(self._returns[number], 6),
            "l": self.batch.lengths[number],
            "t": round(time.time() - self._started, 6),
        }
        return {
            **self.batch.info(number, elapsed_s),
            "terminal_observation": self.batch.observe_one(number),
            "episode": episode,
        }

    # --- checkpoints -----------------------------------------------------------------------------

    def progress(self) -> dict[str, Any]:
        """The state in the middle of episodes; to be pickled or copied at once."""
        return {
            "batch": self.batch,
            "returns": self._returns,
            "next_options": self._next_options,
        }

    def resume(self, progress: dict[str, Any]) -> None:
        """Go on from a state."""
        self.batch = progress["batch"]
        self._returns = progress["returns"]
        self._next_options = progress["next_options"]

    # --- the rest of SB3's interface -------------------------------------------------------------

    @property
    def envs(self) -> list[AgentServeBase]:
        """The environments; read them only."""
        return self.batch.envs

    def close(self) -> None:
        """Close the environments."""
        for env in self.batch.envs:
            env.close()

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """An attribute of environments."""
        return [getattr(env, attr_name) for env in self._chosen(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Set an attribute of environments."""
        for env in self._chosen(indices):
            setattr(env, attr_name, value)

    def env_method(
        self, method_name: str, *arguments: Any, indices: Indices = None, **keywords: Any
    ) -> list[Any]:
        """Call a method of environments."""
        if method_name == "action_masks" and indices is None:
            return list(self.action_masks())
        return [getattr(env, method_name)(*arguments, **keywords) for env in self._chosen(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Indices = None
    ) -> list[bool]:
        """Whether environments are wrapped: by nothing, but what ``Monitor`` does is done."""
        return [wrapper_class is Monitor for _ in self._chosen(indices)]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Each environment's picture, for ``render``."""
        return [env.render() for env in self.batch.envs]  # type: ignore[misc]

    def _chosen(self, indices: Indices) -> list[AgentServeBase]:
        return [self.batch.envs[number] for number in self._get_indices(indices)]


def _batch_of(envs: gym.vector.VectorEnv[Any, Any, Any] | EnvBatch) -> EnvBatch:
    if isinstance(envs, EnvBatch):
        return envs
    if not isinstance(envs, AgentServeVectorEnv):
        raise ValueError(
            f"envs is {envs!r}; a native vector environment is needed, without wrappers: "
            'gym.make_vec(..., vectorization_mode="vector_entry_point")'
        )
    return envs.batch
