"""The network as policies of Stable-Baselines3 and sb3-contrib.

All three take ``policy_kwargs={"shape": NetworkShape}``. Observations are the environments' flat
float32 vectors; SB3's feature extractor only flattens, so features are the observation itself.
"""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import nn

from agentserve_gym.train.network import ActorCritic, NetworkShape, Scorer


class _PerInstance:
    """Replaces SB3's networks by ``ActorCritic``; mixed into both actor-critic policies."""

    def _build(self, lr_schedule: Schedule) -> None:
        policy: Any = self
        policy.mlp_extractor = ActorCritic(policy.shape)
        policy.action_net = nn.Identity()
        policy.value_net = nn.Identity()
        policy.optimizer = policy.optimizer_class(
            policy.parameters(), lr=lr_schedule(1), **policy.optimizer_kwargs
        )


class MaskablePerInstancePolicy(_PerInstance, MaskableActorCriticPolicy):
    """For ``MaskablePPO``."""

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        shape: NetworkShape,
        **settings: Any,
    ) -> None:
        object.__setattr__(self, "shape", shape)
        super().__init__(observation_space, action_space, lr_schedule, **settings)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "shape": self.shape}


class PerInstancePolicy(_PerInstance, ActorCriticPolicy):
    """For ``PPO``."""

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        *,
        shape: NetworkShape,
        **settings: Any,
    ) -> None:
        object.__setattr__(self, "shape", shape)
        super().__init__(observation_space, action_space, lr_schedule, **settings)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "shape": self.shape}


class PerInstanceQNetwork(QNetwork):
    """Q-values from a ``Scorer``."""

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Discrete,
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        *,
        shape: NetworkShape,
        **settings: Any,
    ) -> None:
        super().__init__(
            observation_space, action_space, features_extractor, features_dim, **settings
        )
        self.shape = shape
        self.q_net = Scorer(shape)  # type: ignore[assignment]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "shape": self.shape}


class PerInstanceDqnPolicy(DQNPolicy):
    """For ``DQN``."""

    shape: NetworkShape

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        *,
        shape: NetworkShape,
        **settings: Any,
    ) -> None:
        object.__setattr__(self, "shape", shape)
        super().__init__(observation_space, action_space, lr_schedule, **settings)

    def make_q_net(self) -> PerInstanceQNetwork:
        """A fresh Q-network; SB3 calls this for the online and the target one."""
        arguments = self._update_features_extractor(self.net_args, features_extractor=None)
        return PerInstanceQNetwork(**arguments, shape=self.shape).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "shape": self.shape}


def scorer_of(policy: nn.Module) -> Scorer:
    """The scorer inside any of these policies."""
    if isinstance(policy, PerInstanceDqnPolicy):
        found: nn.Module = policy.q_net.q_net
    else:
        found = policy.get_submodule("mlp_extractor.actor")
    assert isinstance(found, Scorer)
    return found


def actor_critic_of(policy: nn.Module) -> ActorCritic:
    """The actor and critic inside a PPO policy."""
    found: nn.Module = policy.get_submodule("mlp_extractor")
    assert isinstance(found, ActorCritic)
    return found
