"""Episodes of a heuristic as a Minari dataset, infos included, for offline learning.

Needs minari with its HDF5 storage: pip install "minari[create,hdf5]"
"""

import os
import sys
from tempfile import TemporaryDirectory

import gymnasium as gym

from agentserve_gym.baselines import parse_policy
from agentserve_gym.envs import metric_names

try:
    from minari import DataCollector
except ImportError as error:
    sys.exit(f'{error}: pip install "minari[create,hdf5]"')

EPISODES = 3


def main() -> None:
    env = gym.make("agentserve_gym:AgentServe-v0", scenario="default")
    collector = DataCollector(env, record_infos=True)
    for seed in range(EPISODES):
        collector.reset(seed=seed)
        policy = parse_policy("lmetric+dram")
        policy.bind(env.unwrapped.simulation)
        done = False
        while not done:
            action = env.unwrapped.encode(policy.decide(env.unwrapped.pending))
            *_, terminated, truncated, _ = collector.step(action)
            done = terminated or truncated
    dataset = collector.create_dataset(
        "agentserve/lmetric-dram-v0",
        algorithm_name="lmetric+dram",
        author="you",
        author_email="you@example.org",
        code_permalink="https://example.org",
    )
    print(f"{dataset.total_episodes} episodes, {dataset.total_steps} steps")

    mean_jct = metric_names().index("mean_jct_s/all")
    for episode in dataset.iterate_episodes():
        jct_s = episode.infos["metrics"][-1, mean_jct]  # known in the last info alone
        print(f"episode {episode.id}: {len(episode.rewards)} steps, mean JCT {jct_s:.1f} s")
    again = dataset.recover_environment()
    print(f"the environment of the dataset: {again.spec.id}, {again.observation_space}")


if __name__ == "__main__":
    with TemporaryDirectory() as folder:  # without this line, in ~/.minari
        os.environ["MINARI_DATASETS_PATH"] = folder
        main()
