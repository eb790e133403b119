"""Gymnasium environments: observation, action, reward, rendering.

Made by ``gym.make("agentserve_gym:AgentServe-v0")``, ``...:AgentServeRouting-v0`` and
``...:AgentServeOffload-v0``; many at once by ``gym.make_vec`` with the same names.
"""

from agentserve_gym.envs.base import FIRST_DRAWN_SEED, AgentServeBase
from agentserve_gym.envs.batch import EnvBatch
from agentserve_gym.envs.env import AgentServeEnv, AgentServeOffloadEnv, AgentServeRoutingEnv
from agentserve_gym.envs.episode import Snapshot
from agentserve_gym.envs.features import Feature, ObservationLayout, observation_table
from agentserve_gym.envs.metrics import EpisodeMetrics, metric_names
from agentserve_gym.envs.observation import ObservationBuilder
from agentserve_gym.envs.rewards import REWARDS, Reward
from agentserve_gym.envs.vector import (
    AgentServeOffloadVectorEnv,
    AgentServeRoutingVectorEnv,
    AgentServeVectorEnv,
)
from agentserve_gym.envs.wrappers import MaskInObservation

__all__ = [
    "FIRST_DRAWN_SEED",
    "REWARDS",
    "AgentServeBase",
    "AgentServeEnv",
    "AgentServeOffloadEnv",
    "AgentServeOffloadVectorEnv",
    "AgentServeRoutingEnv",
    "AgentServeRoutingVectorEnv",
    "AgentServeVectorEnv",
    "EnvBatch",
    "EpisodeMetrics",
    "Feature",
    "MaskInObservation",
    "ObservationBuilder",
    "ObservationLayout",
    "Reward",
    "Snapshot",
    "metric_names",
    "observation_table",
]
