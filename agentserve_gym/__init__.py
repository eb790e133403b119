"""agentserve-gym: a fast, validated simulator of LLM agent serving, as Gymnasium environments.

    import gymnasium as gym
    env = gym.make("agentserve_gym:AgentServe-v0", scenario="default")

Importing this package registers its environments and lets the compiled kernel be found, and nothing
else: each room is imported when it is used.
"""

from __future__ import annotations

from gymnasium.envs.registration import register

from agentserve_gym import compiled

__version__ = "0.1.0"

compiled.install()

ENV_IDS = ("AgentServe-v0", "AgentServeRouting-v0", "AgentServeOffload-v0")
"""The registered environments; pass them to ``gym.make`` as ``agentserve_gym:<id>``, which also
works in worker processes that have not imported this package."""

for _id, _name in zip(ENV_IDS, ("", "Routing", "Offload"), strict=True):
    register(
        id=_id,
        entry_point=f"agentserve_gym.envs:AgentServe{_name}Env",
        vector_entry_point=f"agentserve_gym.envs:AgentServe{_name}VectorEnv",
    )

__all__ = ["ENV_IDS", "__version__"]
