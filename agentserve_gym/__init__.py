"""agentserve-gym: a fast, validated simulator of LLM agent serving, as Gymnasium environments.

    import gymnasium as gym
    env = gym.make("agentserve_gym:AgentServe-v0", scenario="default")

Importing this package registers its environments and nothing else: each room is imported when it is
used.
"""

from __future__ import annotations

from gymnasium.envs.registration import register

__version__ = "0.1.0"

ENV_IDS = ("AgentServe-v0", "AgentServeRouting-v0", "AgentServeOffload-v0")
"""The registered environments; pass them to ``gym.make`` as ``agentserve_gym:<id>``, which also
works in worker processes that have not imported this package."""

register(id="AgentServe-v0", entry_point="agentserve_gym.envs:AgentServeEnv")
register(id="AgentServeRouting-v0", entry_point="agentserve_gym.envs:AgentServeRoutingEnv")
register(id="AgentServeOffload-v0", entry_point="agentserve_gym.envs:AgentServeOffloadEnv")

__all__ = ["ENV_IDS", "__version__"]
