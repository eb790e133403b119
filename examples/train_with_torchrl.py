"""PPO of TorchRL on routing, with the mask of possible actions inside the observation.

Needs TorchRL: pip install torchrl

A few thousand steps show that everything fits together; they do not make a good policy.
"""

import argparse
import sys

import gymnasium as gym

from agentserve_gym.envs import MaskInObservation

try:
    import torch
    from tensordict.nn import TensorDictModule
    from torchrl.envs import DTypeCastTransform, EnvBase, GymWrapper, TransformedEnv
    from torchrl.envs.utils import ExplorationType, set_exploration_type
    from torchrl.modules import MLP, MaskedCategorical, ProbabilisticActor, ValueOperator
    from torchrl.objectives import ClipPPOLoss
    from torchrl.objectives.value import GAE
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is not installed: pip install torchrl")

ROLLOUT = 200


def make_env() -> EnvBase:
    """The environment with the entries ``observation`` and ``action_mask``, boolean."""
    env = MaskInObservation(gym.make("agentserve_gym:AgentServeRouting-v0", scenario="default"))
    as_boolean = DTypeCastTransform(torch.int8, torch.bool, in_keys=["action_mask"])
    return TransformedEnv(GymWrapper(env, categorical_action_encoding=True), as_boolean)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=4_000)
    steps = parser.parse_args().steps

    torch.manual_seed(0)
    env = make_env()
    env.set_seed(2**20)  # workloads that are not evaluated on
    size, actions = env.observation_spec["observation"].shape[-1], env.action_spec.n
    actor = ProbabilisticActor(
        TensorDictModule(
            MLP(size, actions, num_cells=[64, 64]), in_keys=["observation"], out_keys=["logits"]
        ),
        in_keys={"logits": "logits", "mask": "action_mask"},
        distribution_class=MaskedCategorical,
        return_log_prob=True,
    )
    critic = ValueOperator(MLP(size, 1, num_cells=[64, 64]), in_keys=["observation"])
    advantage = GAE(gamma=1.0, lmbda=0.95, value_network=critic)
    loss = ClipPPOLoss(actor, critic, entropy_coeff=0.01)
    optimizer = torch.optim.Adam(loss.parameters(), lr=3e-4)

    done_steps, state = 0, env.reset()
    while done_steps < steps:
        with torch.no_grad():
            batch = env.rollout(
                ROLLOUT, actor, break_when_any_done=False, auto_reset=False, tensordict=state
            )
            state = env.step_mdp(batch[-1])
            advantage(batch)
        for _ in range(4):
            for part in batch[torch.randperm(len(batch))].split(50):
                losses = loss(part)
                total = losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]
                optimizer.zero_grad()
                total.backward()
                optimizer.step()
        done_steps += len(batch)

    judged = make_env()
    with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):  # sampled
        judged.rollout(100_000, actor, auto_reset=False, tensordict=judged.reset(seed=1))
    report = judged.unwrapped.simulation.report()
    print(
        f"after {done_steps} steps: mean JCT {report['mean_jct_s']['all']:.1f} s on workload 1, "
        f"{report['invalid_answers']} actions masked out"
    )


if __name__ == "__main__":
    main()
