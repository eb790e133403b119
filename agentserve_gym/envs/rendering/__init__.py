"""Pictures of a simulation: a scene (plain values), as text or as pixels."""

from agentserve_gym.envs.rendering.picture import draw
from agentserve_gym.envs.rendering.scene import Scene
from agentserve_gym.envs.rendering.text import describe

__all__ = ["Scene", "describe", "draw"]
