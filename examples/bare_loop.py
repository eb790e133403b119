"""The environment without any library: random actions among those that are possible."""

import gymnasium as gym
import numpy as np

env = gym.make("agentserve_gym:AgentServe-v0", scenario="default")
observation, info = env.reset(seed=0)
rng = np.random.default_rng(0)
routes = env.action_space.nvec[0]

episode_return, steps, done = 0.0, 0, False
while not done:
    mask = info["action_mask"]
    action = np.array(
        [
            rng.choice(np.flatnonzero(mask[:routes])),
            rng.choice(np.flatnonzero(mask[routes:])),
        ]
    )
    observation, reward, terminated, truncated, info = env.step(action)
    episode_return += reward
    steps += 1
    done = terminated or truncated

print(f"{steps} decisions, return {episode_return:.3f}")
print(f"mean JCT {info['metrics']['mean_jct_s/all']:.1f} s")
