"""SB3's algorithms, built from a run's settings."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from agentserve_gym.sim import load_scenario
from agentserve_gym.train.learned import ModelCard
from agentserve_gym.train.sb3_policies import (
    MaskablePerInstancePolicy,
    PerInstanceDqnPolicy,
    PerInstancePolicy,
)
from agentserve_gym.train.settings import TrainSettings

_LAST_RATE_SHARE = 0.1


def make_card(settings: TrainSettings) -> ModelCard:
    """What a model of this run needs to be used."""
    scenario = load_scenario(settings.scenario)
    return ModelCard(
        env=settings.env,
        algorithm=settings.algorithm,
        scenario=settings.scenario,
        reward=settings.reward,
        steps=settings.steps,
        seed=settings.seed,
        pin_until_return_s=scenario.pin_until_return_s,
        pin_ttls_s=scenario.pin_ttls_s,
        tiers=list(scenario.cluster.tier_names),
        baseline=settings.baseline,
        width=settings.width,
    )


def check_device(device: str) -> None:
    """Refuse a device that torch does not have; SB3 would quietly take the CPU.

    Raises:
        ValueError: naming the device.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used: {reason}") from error


def make_learner(settings: TrainSettings, workers: VecEnv) -> BaseAlgorithm:
    """A fresh learner; torch computes on one thread from here on (the network is too small for a
    second to help)."""
    torch.set_num_threads(1)
    common: dict[str, Any] = {
        "env": workers,
        "seed": settings.seed,
        "device": settings.device,
        "policy_kwargs": {"shape": make_card(settings).shape()},
    }
    if settings.algorithm == "dqn":
        return DQN(PerInstanceDqnPolicy, **common, **_dqn_arguments(settings))
    if settings.algorithm == "ppo":
        return PPO(PerInstancePolicy, **common, **_ppo_arguments(settings))
    return MaskablePPO(MaskablePerInstancePolicy, **common, **_ppo_arguments(settings))


def component_sizes(space: spaces.Space[Any]) -> list[int]:
    """Numbers of actions per component of an action space."""
    if isinstance(space, spaces.MultiDiscrete):
        return [int(size) for size in space.nvec]
    assert isinstance(space, spaces.Discrete)
    return [int(space.n)]


class FallingRate:
    """A learning rate that falls linearly to a tenth."""

    def __init__(self, start: float) -> None:
        self.start = start

    def __call__(self, remaining: float) -> float:
        """The rate with this share of the run remaining."""
        return self.start * (_LAST_RATE_SHARE + (1.0 - _LAST_RATE_SHARE) * remaining)


def _ppo_arguments(settings: TrainSettings) -> dict[str, Any]:
    ppo = settings.ppo
    return {
        "learning_rate": FallingRate(ppo.learning_rate),
        "n_steps": ppo.rollout_steps,
        "batch_size": ppo.batch_size,
        "n_epochs": ppo.epochs,
        "gamma": ppo.gamma,
        "gae_lambda": ppo.gae_lambda,
        "clip_range": ppo.clip_range,
        "ent_coef": ppo.entropy_weight,
        "vf_coef": ppo.value_weight,
        "max_grad_norm": ppo.max_grad_norm,
        "target_kl": ppo.target_kl,
    }


def _dqn_arguments(settings: TrainSettings) -> dict[str, Any]:
    dqn = settings.dqn
    return {
        "learning_rate": dqn.learning_rate,
        "buffer_size": dqn.buffer_size,
        "learning_starts": dqn.learning_starts,
        "batch_size": dqn.batch_size,
        "gamma": dqn.gamma,
        "train_freq": max(1, dqn.decisions_per_update // settings.workers),
        "gradient_steps": max(1, settings.workers // dqn.decisions_per_update),
        "target_update_interval": dqn.target_update_interval,
        "exploration_fraction": dqn.exploration_fraction,
        "exploration_final_eps": dqn.exploration_final,
    }
