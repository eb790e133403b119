"""The environments that a run learns from, side by side in one process."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from agentserve_gym.envs import (
    AgentServeBase,
    AgentServeEnv,
    AgentServeOffloadEnv,
    AgentServeRoutingEnv,
)
from agentserve_gym.train.seeds import training_seed
from agentserve_gym.train.settings import TrainSettings

_ENVIRONMENTS: dict[str, type[AgentServeBase]] = {
    "AgentServe-v0": AgentServeEnv,
    "AgentServeRouting-v0": AgentServeRoutingEnv,
    "AgentServeOffload-v0": AgentServeOffloadEnv,
}


class TrainingEpisodes(gym.Wrapper[NDArray[Any], Any, NDArray[Any], Any]):
    """Every reset starts the worker's next training workload, whatever seed is passed.

    Which workloads a worker meets depends on the run's seed and the worker's number alone, so
    nothing is drawn that a policy is judged on, and two runs with one seed learn from the same.
    """

    def __init__(self, env: gym.Env[NDArray[Any], Any], seed: int, worker: int) -> None:
        super().__init__(env)
        self.run_seed = seed
        self.worker = worker
        self.episode = -1

    def reset(
        self,
        *,
        seed: int | None = None,  # noqa: ARG002
        options: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start the next training workload."""
        self.episode += 1
        workload = training_seed(self.run_seed, self.worker, self.episode)
        return self.env.reset(options={"workload_seed": workload})

    def action_masks(self) -> NDArray[Any]:
        """The environment's masks, for sb3-contrib."""
        env = self.unwrapped
        assert isinstance(env, AgentServeBase)
        return env.action_masks()


def make_env(settings: TrainSettings) -> AgentServeBase:
    """One bare environment of a run."""
    return _ENVIRONMENTS[settings.env](**settings.env_options)


def make_workers(settings: TrainSettings) -> DummyVecEnv:
    """The environments of a run, one after the other in this process: a step takes about as long
    as sending an observation to another process would."""
    return DummyVecEnv([partial(_worker, settings, number) for number in range(settings.workers)])


def _worker(settings: TrainSettings, number: int) -> gym.Env[Any, Any]:
    return Monitor(TrainingEpisodes(make_env(settings), settings.seed, number))
