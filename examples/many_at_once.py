"""Eight simulations in one process: one array of observations, one array of masks.

``vectorization_mode="vector_entry_point"`` asks for the native vector environment; it is also what
``gym.make_vec`` takes when no mode is given.
"""

import gymnasium as gym
import numpy as np

from agentserve_gym.envs import metric_names

envs = gym.make_vec(
    "agentserve_gym:AgentServeRouting-v0",
    num_envs=8,
    vectorization_mode="vector_entry_point",
    scenario="default",
    baseline="affinity+dram",
)
observations, infos = envs.reset(seed=0)
rng = np.random.default_rng(0)

column = metric_names().index("mean_jct_s/all")
mean_jct_s: list[float] = []
while len(mean_jct_s) < 8:
    masks = infos["action_mask"]
    actions = (rng.random(masks.shape) * masks).argmax(axis=1)  # a possible one for each
    observations, rewards, terminations, truncations, infos = envs.step(actions)
    ended = terminations | truncations  # such an environment starts anew at the next step
    mean_jct_s += infos["metrics"][ended, column].tolist()
envs.close()
print(
    f"observations {observations.shape}, mean JCT of {len(mean_jct_s)} episodes: "
    f"{np.mean(mean_jct_s):.1f} s"
)
