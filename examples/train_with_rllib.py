"""PPO of RLlib on routing, with the mask of possible actions inside the observation.

Needs RLlib: pip install "ray[rllib]" torch

RLlib pins the version of Gymnasium that it was released with: ray 2.60 asks for gymnasium 1.2.2, so
pip puts that in place of a newer one, and refuses to install both with this project's
constraints.txt (gymnasium 1.4.0). The environments need 1.0 at least; this script was tried with
ray 2.60.0 and either of the two.

A few thousand steps show that everything fits together; they do not make a good policy.
"""

import argparse
import sys

import gymnasium as gym
import numpy as np

from agentserve_gym.envs import MaskInObservation

try:
    import torch
    from ray import tune
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec
    from ray.rllib.examples.rl_modules.classes.action_masking_rlm import (
        ActionMaskingTorchRLModule,
    )
except ModuleNotFoundError as error:
    sys.exit(f'{error.name} is not installed: pip install "ray[rllib]" torch')


def make_env(_: object = None) -> gym.Env:
    """The environment with the names and types that RLlib's masking module looks for."""
    env = MaskInObservation(gym.make("agentserve_gym:AgentServeRouting-v0", scenario="default"))
    parts = env.observation_space
    mask = gym.spaces.Box(0.0, 1.0, parts["action_mask"].shape, np.float32)
    return gym.wrappers.TransformObservation(
        env,
        lambda parts: {
            "observations": parts["observation"],
            "action_mask": parts["action_mask"].astype(np.float32),
        },
        gym.spaces.Dict(observations=parts["observation"], action_mask=mask),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=4_000)
    steps = parser.parse_args().steps

    tune.register_env("agentserve-routing", make_env)
    config = (
        PPOConfig()
        .environment("agentserve-routing")
        .env_runners(num_env_runners=0)  # in this process; 2 for two workers
        .rl_module(rl_module_spec=RLModuleSpec(module_class=ActionMaskingTorchRLModule))
        .training(train_batch_size_per_learner=min(steps, 2_000), minibatch_size=100, gamma=1.0)
        .debugging(seed=2**20, log_level="ERROR")
    )
    algorithm = config.build_algo()
    done_steps = 0
    while done_steps < steps:
        done_steps = algorithm.train()["env_runners"]["num_env_steps_sampled_lifetime"]

    module = algorithm.get_module()
    env = make_env()
    observation, info = env.reset(seed=1)
    done = False
    while not done:
        batch = {name: torch.from_numpy(part[np.newaxis]) for name, part in observation.items()}
        logits = module.forward_inference({"obs": batch})["action_dist_inputs"]
        observation, _, terminated, truncated, info = env.step(int(logits.argmax()))
        done = terminated or truncated
    print(
        f"after {int(done_steps)} steps: mean JCT {info['metrics']['mean_jct_s/all']:.1f} s on "
        f"workload 1, {info['invalid_actions']} of {info['steps']} actions masked out"
    )
    algorithm.stop()


if __name__ == "__main__":
    main()
