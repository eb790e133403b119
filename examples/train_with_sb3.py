"""MaskablePPO from sb3-contrib on the environment as it is (needs the ``train`` extra).

A few thousand steps show that everything fits together; they do not make a good policy.
``agentserve train`` has a recipe that does.
"""

import argparse

import gymnasium as gym
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=2048)
steps = parser.parse_args().steps

env = gym.make("agentserve_gym:AgentServe-v0", scenario="default")
model = MaskablePPO("MlpPolicy", env, n_steps=256, batch_size=64, seed=0, device="cpu")
model.learn(steps)

observation, info = env.reset(seed=1)
done = False
while not done:
    action, _ = model.predict(observation, action_masks=get_action_masks(env), deterministic=True)
    observation, _, terminated, truncated, info = env.step(action)
    done = terminated or truncated
print(f"after {steps} steps: mean JCT {info['metrics']['jct_s/mean']:.1f} s on workload 1")
