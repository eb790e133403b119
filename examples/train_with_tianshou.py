"""DQN of Tianshou on routing, with the mask of possible actions inside the observation.

Needs tianshou: pip install tianshou

A few thousand steps show that everything fits together; they do not make a good policy.
"""

import argparse
import sys

import gymnasium as gym

from agentserve_gym.envs import MaskInObservation

try:
    from tianshou.algorithm import DQN
    from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
    from tianshou.algorithm.optim import AdamOptimizerFactory
    from tianshou.data import Batch, Collector, VectorReplayBuffer
    from tianshou.env import DummyVectorEnv
    from tianshou.trainer import OffPolicyTrainerParams
    from tianshou.utils.net.common import Net
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is not installed: pip install tianshou")

ENVS = 4


def make_env() -> gym.Env:
    """The environment with the names that Tianshou's policies look for: ``obs`` and ``mask``."""
    env = MaskInObservation(gym.make("agentserve_gym:AgentServeRouting-v0", scenario="default"))
    parts = env.observation_space
    space = gym.spaces.Dict(obs=parts["observation"], mask=parts["action_mask"])
    return gym.wrappers.TransformObservation(
        env, lambda parts: {"obs": parts["observation"], "mask": parts["action_mask"]}, space
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=4_000)
    steps = parser.parse_args().steps

    env = make_env()
    train_envs = DummyVectorEnv([make_env] * ENVS)
    train_envs.seed(2**20)  # workloads that are not evaluated on
    policy = DiscreteQLearningPolicy(
        model=Net(
            state_shape=env.observation_space["obs"].shape,
            action_shape=env.action_space.n,
            hidden_sizes=[64, 64],
        ),
        action_space=env.action_space,
        observation_space=env.observation_space,
        eps_training=0.1,
    )
    algorithm = DQN(policy=policy, optim=AdamOptimizerFactory(lr=1e-3), target_update_freq=200)
    collector = Collector(algorithm, train_envs, VectorReplayBuffer(20_000, ENVS))
    collector.reset()
    algorithm.run_training(
        OffPolicyTrainerParams(
            training_collector=collector,
            max_epochs=1,
            epoch_num_steps=steps,
            collection_step_num_env_steps=min(steps, 200),
            update_step_num_gradient_steps_per_sample=0.1,
            show_progress=False,
            verbose=False,
        )
    )

    observation, info = env.reset(seed=1)
    done = False
    while not done:
        batch = Batch(obs=Batch.stack([Batch(observation)]), info=Batch())
        observation, _, terminated, truncated, info = env.step(int(policy(batch).act[0]))
        done = terminated or truncated
    print(
        f"after {steps} steps: mean JCT {info['metrics']['mean_jct_s/all']:.1f} s on workload 1, "
        f"{info['invalid_actions']} of {info['steps']} actions masked out"
    )


if __name__ == "__main__":
    main()
