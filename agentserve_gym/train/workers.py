"""The environments that a run learns from, side by side in one process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agentserve_gym.envs import (
    AgentServeBase,
    AgentServeEnv,
    AgentServeOffloadEnv,
    AgentServeRoutingEnv,
)
from agentserve_gym.envs.batch import make_batch
from agentserve_gym.train.seeds import training_seed
from agentserve_gym.train.settings import TrainSettings
from agentserve_gym.train.vec_env import AgentServeVecEnv

_ENVIRONMENTS: dict[str, type[AgentServeBase]] = {
    "AgentServe-v0": AgentServeEnv,
    "AgentServeRouting-v0": AgentServeRoutingEnv,
    "AgentServeOffload-v0": AgentServeOffloadEnv,
}


@dataclass(slots=True)
class TrainingWorkloads:
    """Every episode of a worker is its next training workload, whatever seed is passed.

    Which workloads a worker meets depends on the run's seed and the worker's number alone, so
    nothing is drawn that a policy is judged on, and two runs with one seed learn from the same.
    """

    run_seed: int
    begun: dict[int, int] = field(default_factory=dict)
    """Episodes that each worker has begun."""

    def __call__(self, worker: int) -> dict[str, Any]:
        """Options for the worker's next reset."""
        episode = self.begun.get(worker, 0)
        self.begun[worker] = episode + 1
        return {"workload_seed": training_seed(self.run_seed, worker, episode)}


def make_env(settings: TrainSettings) -> AgentServeBase:
    """One bare environment of a run."""
    return _ENVIRONMENTS[settings.env](**settings.env_options)


def make_workers(settings: TrainSettings) -> AgentServeVecEnv:
    """The environments of a run, one after the other in this process: a step takes about as long
    as sending an observation to another process would."""
    batch = make_batch(_ENVIRONMENTS[settings.env], settings.workers, **settings.env_options)
    return AgentServeVecEnv(batch, TrainingWorkloads(settings.seed))
