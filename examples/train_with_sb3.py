"""MaskablePPO from sb3-contrib on the environment as it is (needs the ``train`` extra).

A few thousand steps show that everything fits together; they do not make a good policy.
``agentserve train`` has a recipe that does. What random actions and a strong heuristic reach on the
same workloads stands beside the result.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from agentserve_gym.baselines import parse_policy

try:
    from sb3_contrib import MaskablePPO
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is not installed; in a checkout: pip install '.[train]'")

# The best of those that ``agentserve train`` chooses its teacher from.
HEURISTIC = "lmetric+write_through+shortest_prefill"

Choose = Callable[[Any, np.ndarray], Any]
"""From the environment and its observation to an action."""


def random_action(env: Any, _: np.ndarray) -> np.ndarray:
    """A uniform choice among the possible routes, and among the possible placements."""
    routes = env.action_space.nvec[0]
    mask = env.action_masks()
    route, placement = np.flatnonzero(mask[:routes]), np.flatnonzero(mask[routes:])
    return np.array([env.np_random.choice(route), env.np_random.choice(placement)])


def heuristic() -> Choose:
    """A published heuristic, through the environment's actions."""
    policy = parse_policy(HEURISTIC)

    def choose(env: Any, _: np.ndarray) -> np.ndarray:
        return env.encode(policy.decide(env.pending))

    return choose


def mean_jct_s(env: Any, workloads: int, make: Callable[[], Choose]) -> float:
    """Mean JCT over all programs of the workloads, each played with a policy of its own."""
    found = []
    for workload in range(workloads):
        observation, _ = env.reset(seed=workload)
        choose, done = make(), False
        while not done:
            observation, _, terminated, truncated, info = env.step(choose(env, observation))
            done = terminated or truncated
        found.append(info["metrics"]["mean_jct_s/all"])
    return float(np.mean(found))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=2048)
    parser.add_argument("--workloads", type=int, default=3)
    arguments = parser.parse_args()
    steps, workloads = arguments.steps, arguments.workloads

    env = gym.make("agentserve_gym:AgentServe-v0", scenario="default")
    model = MaskablePPO("MlpPolicy", env, n_steps=256, batch_size=64, seed=0, device="cpu")
    model.learn(steps)

    def learned(env: Any, observation: np.ndarray) -> np.ndarray:
        return model.predict(observation, action_masks=env.action_masks(), deterministic=True)[0]

    players = {
        f"after {steps} steps": lambda: learned,
        "random actions": lambda: random_action,
        HEURISTIC: heuristic,
    }
    for name, make in players.items():
        jct_s = mean_jct_s(env.unwrapped, workloads, make)
        print(f"{name}: mean JCT {jct_s:.1f} s over {workloads} workloads")


if __name__ == "__main__":
    main()
