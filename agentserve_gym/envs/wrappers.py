"""Wrappers for libraries that want something else than what the environments give."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from agentserve_gym.envs.base import AgentServeBase, Observation


class MaskInObservation(
    gym.ObservationWrapper[dict[str, Any], Any, Observation], RecordConstructorArgs
):
    """The mask of possible actions as a part of the observation.

    .. code-block:: python

        env = MaskInObservation(gym.make("agentserve_gym:AgentServeRouting-v0"))
        envs = gym.make_vec(
            "agentserve_gym:AgentServeRouting-v0", num_envs=4, vectorization_mode="sync",
            wrappers=[MaskInObservation],
        )

    Observations are ``{"observation": ..., "action_mask": ...}``: that of the environment, and int8
    of shape ``(k,)``, the same as ``info["action_mask"]``.
    """

    def __init__(self, env: gym.Env[Observation, Any]) -> None:
        """Wrap an environment of this package.

        Raises:
            ValueError: for another one.
        """
        RecordConstructorArgs.__init__(self)
        gym.ObservationWrapper.__init__(self, env)
        base = env.unwrapped
        if not isinstance(base, AgentServeBase):
            raise ValueError(f"env is {env!r}; allowed: an environment of agentserve_gym")
        self._base = base
        self.observation_space = spaces.Dict(
            {
                "observation": env.observation_space,
                "action_mask": spaces.MultiBinary(base.mask.size),
            }
        )

    def observation(self, observation: Observation) -> dict[str, Any]:
        """The observation with the mask of now."""
        return {"observation": observation, "action_mask": self._base.mask.copy()}
