"""Starting from a heuristic: behaviour cloning of its decisions, regression on its returns.

Plain PPO from scratch spends its steps on finding out that a program should stay where its KV is.
A heuristic's decisions teach that in seconds. The teacher's answers are passed through the
environment's actions, so it is measured as what can be imitated: a promotion, for one, cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agentserve_gym.baselines import parse_policy
from agentserve_gym.envs import AgentServeBase
from agentserve_gym.sim import Answer
from agentserve_gym.train.network import ActorCritic, Scorer
from agentserve_gym.train.seeds import training_seed
from agentserve_gym.train.settings import ImitationSettings

TEACHER_WORKER = 2**32
"""A worker number that no worker has: the teacher's episodes are its own."""
_VALIDATION_SHARE = 0.1

Report = Callable[[str, int, int], None]
"""Told what is going on, how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class Demonstrations:
    """Decisions of one teacher, ``T`` in all.

    Attributes:
        teacher: its name.
        observations: float32 ``(T, features)``. ``masks``: bool ``(T, entries)``.
        actions: int64 ``(T, components)``.
        returns: float32 ``(T,)``, discounted sum of the rewards from each decision on.
        episode_returns: undiscounted, one per episode.
    """

    teacher: str
    observations: NDArray[np.float32]
    masks: NDArray[np.bool_]
    actions: NDArray[np.int64]
    returns: NDArray[np.float32]
    episode_returns: NDArray[np.float64]

    @property
    def mean_return(self) -> float:
        """Of an episode."""
        return float(self.episode_returns.mean())


@dataclass(frozen=True, slots=True)
class Imitation:
    """How well the teacher was learned, on episodes kept out of the regression.

    Attributes:
        teacher, decisions: who, and how many were learned from.
        measured: mean return of every candidate on the same training workloads.
        agreement: share of kept-out decisions in which the most probable action is the teacher's.
        value_explained: share of the variance of kept-out returns that the critic explains
            (none where there is no critic).
    """

    teacher: str
    decisions: int
    measured: dict[str, float]
    agreement: float
    value_explained: float | None


def demonstrate(
    env: AgentServeBase, teacher: str, workloads: Iterable[int], gamma: float, report: Report
) -> Demonstrations:
    """Let a heuristic act in an environment and note what it does.

    Raises:
        ValueError: if it gives something that is no answer.
    """
    observations, masks, actions, returns, totals = [], [], [], [], []
    seeds = list(workloads)
    for number, seed in enumerate(seeds):
        report(f"{teacher}: episodes", number, len(seeds))
        observation, _ = env.reset(options={"workload_seed": seed})
        policy = parse_policy(teacher)
        policy.bind(env.simulation)
        rewards: list[float] = []
        over = env.pending is None
        while not over:
            assert env.pending is not None
            answer = policy.decide(env.pending)
            if not isinstance(answer, Answer):
                raise ValueError(f"teacher {teacher!r} answers {answer!r}, no Route, Hold or Place")
            action = env.encode(answer)
            observations.append(observation)
            masks.append(env.action_masks())
            actions.append(np.atleast_1d(action))
            observation, reward, terminated, truncated, _ = env.step(action)
            rewards.append(reward)
            over = terminated or truncated
        returns.append(_discounted(rewards, gamma))
        totals.append(sum(rewards))
    return Demonstrations(
        teacher,
        np.array(observations, np.float32),
        np.array(masks, np.bool_),
        np.array(actions, np.int64),
        np.concatenate(returns).astype(np.float32),
        np.array(totals),
    )


def choose_teacher(
    env: AgentServeBase, settings: ImitationSettings, seed: int, report: Report
) -> tuple[str, dict[str, float]]:
    """The candidate with the highest mean return on training workloads, and all their returns."""
    workloads = [training_seed(seed, TEACHER_WORKER, n) for n in range(settings.measured_episodes)]
    measured = {
        name: demonstrate(env, name, workloads, 1.0, report).mean_return
        for name in settings.candidates
    }
    return max(measured, key=lambda name: measured[name]), measured


def imitate(
    scorer: Scorer,
    critic: ActorCritic | None,
    shown: Demonstrations,
    settings: ImitationSettings,
    sizes: list[int],
    seed: int,
    report: Report,
) -> tuple[float, float | None]:
    """Fit the scorer to a teacher's decisions and the critic to its returns.

    Args:
        scorer: the actor. ``critic``: the pair it belongs to, if there is a critic to fit.
        shown: what the teacher did; the last tenth of its decisions is kept out.
        settings: of the regression.
        sizes: actions of each component of the action space.
        seed: of the order of batches.
        report: progress.

    Returns:
        Agreement on the decisions kept out, and the share of variance that the critic explains.
    """
    trained = len(shown.actions) - max(1, int(_VALIDATION_SHARE * len(shown.actions)))
    device = next(scorer.parameters()).device
    data = tuple(
        torch.from_numpy(part).to(device)
        for part in (shown.observations, shown.masks, shown.actions, shown.returns)
    )
    learn = tuple(part[:trained] for part in data)
    parameters = list(scorer.parameters())
    if critic is not None:
        parameters += [*critic.critic_encoder.parameters(), *critic.critic.parameters()]
        _centre(critic, learn[3])
    optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate)
    batches = -(-trained // settings.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * batches)
    order = np.random.default_rng((seed, TEACHER_WORKER))
    for epoch in range(settings.epochs):
        report(f"imitating {shown.teacher}: epochs", epoch, settings.epochs)
        for chosen in np.array_split(order.permutation(trained), batches):
            observations, masks, actions, returns = (part[chosen] for part in learn)
            loss = _cross_entropy(scorer(observations), masks, actions, sizes)
            if critic is not None:
                values = critic.forward_critic(observations).squeeze(1)
                loss = loss + nn.functional.mse_loss(values, returns)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return _judge(scorer, critic, tuple(part[trained:] for part in data), sizes)


def _centre(critic: ActorCritic, returns: Tensor) -> None:
    """Start values at the mean return instead of 0."""
    last = critic.critic[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias.fill_(float(returns.mean()))


def _judge(
    scorer: Scorer, critic: ActorCritic | None, kept: tuple[Tensor, ...], sizes: list[int]
) -> tuple[float, float | None]:
    observations, masks, actions, returns = kept
    with torch.no_grad():
        same = torch.ones(len(actions), dtype=torch.bool)
        for component, logits in enumerate(_components(scorer(observations), masks, sizes)):
            same &= logits.argmax(1) == actions[:, component]
        agreement = float(same.float().mean())
        if critic is None:
            return agreement, None
        errors = returns - critic.forward_critic(observations).squeeze(1)
    spread = float(returns.var(correction=0))
    explained = 1.0 - float(errors.var(correction=0)) / spread if spread > 0.0 else 0.0
    return agreement, explained


def _cross_entropy(scores: Tensor, masks: Tensor, actions: Tensor, sizes: list[int]) -> Tensor:
    """Over the possible actions of each component, summed over components. A component with one
    possible action, which was not asked, adds nothing."""
    losses = [
        nn.functional.cross_entropy(logits, actions[:, component])
        for component, logits in enumerate(_components(scores, masks, sizes))
    ]
    return torch.stack(losses).sum()


def _components(scores: Tensor, masks: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
    return torch.split(scores.masked_fill(~masks, -1e8), sizes, dim=1)


def _discounted(rewards: list[float], gamma: float) -> NDArray[np.float64]:
    returns = np.zeros(len(rewards))
    following = 0.0
    for step in range(len(rewards) - 1, -1, -1):
        following = rewards[step] + gamma * following
        returns[step] = following
    return returns
