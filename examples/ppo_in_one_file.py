"""PPO in one file, as CleanRL writes it: the native vector environment, masks, one loop.

Needs torch (the ``train`` extra). A few thousand steps show that everything fits together; they do
not make a good policy.
"""

import argparse
import sys

import gymnasium as gym

try:
    import torch
    from torch import nn
    from torch.distributions import Categorical
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is not installed; in a checkout: pip install '.[train]'")

ENVS, ROLLOUT, EPOCHS, BATCH = 8, 64, 4, 128
LAMBDA, CLIP, ENTROPY, LEARNING_RATE = 0.95, 0.2, 0.01, 3e-4


class Agent(nn.Module):
    """Actor and critic; impossible actions have probability 0."""

    def __init__(self, size: int, actions: int) -> None:
        super().__init__()
        self.actor = self._network(size, actions)
        self.critic = self._network(size, 1)

    def choice(self, observations: torch.Tensor, masks: torch.Tensor) -> Categorical:
        return Categorical(logits=self.actor(observations).masked_fill(masks == 0, -1e9))

    def values(self, observations: torch.Tensor) -> torch.Tensor:
        return self.critic(observations).squeeze(-1)

    @staticmethod
    def _network(size: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(size, 64), nn.Tanh(), nn.Linear(64, outputs))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=4_096)
    updates = max(parser.parse_args().steps // (ENVS * ROLLOUT), 1)

    torch.manual_seed(0)
    # SameStep: the last step of an episode gives the first observation of the next one, so that
    # every step is one of a policy's.
    envs = gym.make_vec(
        "agentserve_gym:AgentServeRouting-v0",
        num_envs=ENVS,
        vectorization_mode="vector_entry_point",
        autoreset_mode="SameStep",
        scenario="default",
    )
    agent = Agent(envs.single_observation_space.shape[0], int(envs.single_action_space.n))
    optimizer = torch.optim.Adam(agent.parameters(), lr=LEARNING_RATE)
    observations, infos = envs.reset(seed=2**20)  # workloads that are not evaluated on
    for _ in range(updates):
        rollout, observations, infos = play(envs, agent, observations, infos)
        learn(agent, optimizer, rollout)
    envs.close()

    jct_s, invalid = judge(agent, workload=1)
    print(
        f"after {updates * ENVS * ROLLOUT} steps: mean JCT {jct_s:.1f} s on workload 1, "
        f"{invalid} actions masked out"
    )


def play(envs, agent, observations, infos):
    """A rollout of every environment, with its advantages; arrays of shape (ROLLOUT, ENVS, ...)."""
    steps, values, rewards, ends = [], [], [], []
    for _ in range(ROLLOUT):
        seen, masks = torch.from_numpy(observations), torch.from_numpy(infos["action_mask"])
        with torch.no_grad():
            choice = agent.choice(seen, masks)
            actions = choice.sample()
            values.append(agent.values(seen))
        steps.append((seen, masks, actions, choice.log_prob(actions)))
        observations, reward, terminations, truncations, infos = envs.step(actions.numpy())
        rewards.append(torch.from_numpy(reward).float())
        ends.append(torch.from_numpy(terminations | truncations))
    with torch.no_grad():
        values.append(agent.values(torch.from_numpy(observations)))
    # No discount: the return is minus mean JCT, whenever it is paid.
    advantages, advantage = [], torch.zeros(ENVS)
    for step in reversed(range(ROLLOUT)):
        later = torch.where(ends[step], 0.0, values[step + 1])
        error = rewards[step] + later - values[step]
        advantage = error + LAMBDA * torch.where(ends[step], 0.0, advantage)
        advantages.insert(0, advantage)
    columns = [torch.stack(column) for column in zip(*steps, strict=True)]
    rollout = [*columns, torch.stack(advantages), torch.stack(values[:-1])]
    return [column.flatten(0, 1) for column in rollout], observations, infos


def learn(agent, optimizer, rollout) -> None:
    """Some epochs of PPO on a rollout."""
    for _ in range(EPOCHS):
        for index in torch.randperm(ENVS * ROLLOUT).split(BATCH):
            seen, masks, actions, log_prob, advantage, value = (part[index] for part in rollout)
            choice = agent.choice(seen, masks)
            ratio = (choice.log_prob(actions) - log_prob).exp()
            gain = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
            policy_loss = -torch.min(ratio * gain, clipped * gain).mean()
            value_loss = (agent.values(seen) - advantage - value).square().mean()
            loss = policy_loss + 0.5 * value_loss - ENTROPY * choice.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()


def judge(agent, workload: int) -> tuple[float, int]:
    """Mean JCT of a workload with sampled actions, and how many were masked out. (The most likely
    action of a policy that has hardly learned is the same instance, always.)"""
    env = gym.make("agentserve_gym:AgentServeRouting-v0", scenario="default")
    observation, info = env.reset(seed=workload)
    done = False
    while not done:
        with torch.no_grad():
            choice = agent.choice(*map(torch.from_numpy, (observation, info["action_mask"])))
        observation, _, terminated, truncated, info = env.step(int(choice.sample()))
        done = terminated or truncated
    return info["metrics"]["mean_jct_s/all"], info["invalid_actions"]


if __name__ == "__main__":
    main()
