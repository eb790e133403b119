"""Eight simulations in one process: one array of observations, one array of masks.

``vectorization_mode="vector_entry_point"`` asks for the native vector environment; it is also what
``gym.make_vec`` takes when no mode is given.
"""

import gymnasium as gym
import numpy as np

envs = gym.make_vec(
    "agentserve_gym:AgentServeRouting-v0",
    num_envs=8,
    vectorization_mode="vector_entry_point",
    scenario="default",
    baseline="affinity+dram",
)
observations, infos = envs.reset(seed=0)
rng = np.random.default_rng(0)

mean_jct_s: list[float] = []
while len(mean_jct_s) < 8:
    masks = infos["action_mask"]
    actions = (rng.random(masks.shape) * masks).argmax(axis=1)  # a possible one for each
    observations, rewards, terminations, truncations, infos = envs.step(actions)
    if "metrics" in infos:  # some episode ended; its environment starts anew at the next step
        ended = infos["_metrics"]
        mean_jct_s += infos["metrics"]["jct_s/mean"][ended].tolist()
envs.close()
print(
    f"observations {observations.shape}, mean JCT of {len(mean_jct_s)} episodes: "
    f"{np.mean(mean_jct_s):.1f} s"
)
