"""Several environments in worker processes, started afresh (spawn).

The id carries the module, ``agentserve_gym:``, so that a new process can find it.
"""

import gymnasium as gym
import numpy as np

WORKERS = 2


def main() -> None:
    envs = gym.make_vec(
        "agentserve_gym:AgentServeOffload-v0",
        num_envs=WORKERS,
        vectorization_mode="async",
        vector_kwargs={"context": "spawn"},
        scenario="default",
        baseline="least_loaded+lru",
    )
    _, info = envs.reset(seed=0)
    rng = np.random.default_rng(0)
    rewards = np.zeros(WORKERS)
    for _ in range(50):
        actions = [rng.choice(np.flatnonzero(mask)) for mask in info["action_mask"]]
        _, reward, _, _, info = envs.step(np.array(actions))
        rewards += reward
    envs.close()
    print(f"rewards of {WORKERS} workers: {np.round(rewards, 4).tolist()}")


if __name__ == "__main__":
    main()
