"""The network as policies of Stable-Baselines3 and sb3-contrib.

All three take ``policy_kwargs={"shape": NetworkShape}``. Observations are the environments' flat
float32 vectors; SB3's feature extractor only flattens, so features are the observation itself.
"""

from __future__ import annotations

from typing import Any

from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import nn

from agentserve_gym.train.network import ActorCritic, NetworkShape, Scorer


class _Shaped:
    """Takes ``shape`` besides the arguments of an SB3 policy, which it is mixed into."""

    shape: NetworkShape

    def __init__(self, *arguments: Any, shape: NetworkShape, **settings: Any) -> None:
        # SB3's constructors build the network already, so the shape must be there before.
        object.__setattr__(self, "shape", shape)
        following: Any = super()
        following.__init__(*arguments, **settings)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        following: Any = super()
        return {**following._get_constructor_parameters(), "shape": self.shape}


class _PerInstance(_Shaped):
    """Replaces the networks of an actor-critic policy by ``ActorCritic``."""

    def _build(self, lr_schedule: Schedule) -> None:
        policy: Any = self
        policy.mlp_extractor = ActorCritic(self.shape)
        policy.action_net = nn.Identity()
        policy.value_net = nn.Identity()
        policy.optimizer = policy.optimizer_class(
            policy.parameters(), lr=lr_schedule(1), **policy.optimizer_kwargs
        )


class MaskablePerInstancePolicy(_PerInstance, MaskableActorCriticPolicy):
    """For ``MaskablePPO``."""


class PerInstancePolicy(_PerInstance, ActorCriticPolicy):
    """For ``PPO``."""


class PerInstanceQNetwork(_Shaped, QNetwork):
    """Q-values from a ``Scorer``."""

    def __init__(self, *arguments: Any, shape: NetworkShape, **settings: Any) -> None:
        super().__init__(*arguments, shape=shape, **settings)
        self.q_net = Scorer(shape)  # type: ignore[assignment]


class PerInstanceDqnPolicy(_Shaped, DQNPolicy):
    """For ``DQN``."""

    def make_q_net(self) -> PerInstanceQNetwork:
        """A fresh Q-network; SB3 calls this for the online and the target one."""
        arguments = self._update_features_extractor(self.net_args, features_extractor=None)
        return PerInstanceQNetwork(**arguments, shape=self.shape).to(self.device)


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
