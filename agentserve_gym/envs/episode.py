"""One episode: a simulation, who answers the questions that the environment does not ask, and what
has been paid out so far."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from agentserve_gym.baselines.policy import NamedPolicy
from agentserve_gym.envs.queue_classes import PriorityReader
from agentserve_gym.envs.rewards import Reward
from agentserve_gym.sim import Decision, Simulation


@dataclass(slots=True)
class Episode:
    """The mutable state of an episode.

    Attributes:
        simulation: the cluster and its workload.
        baseline: answers decisions that the environment does not ask, if there are any.
        reward: what was paid so far.
        decided_at_s: simulated time of the last decision (0 before the first).
        steps: decisions answered by the agent so far. ``asked_again``: placements among those asked
            that came up again within their gap.
        priorities: reads those of the policy whose answers are encoded.
        over: whether the last step ended the episode.
    """

    simulation: Simulation
    baseline: NamedPolicy | None
    reward: Reward
    decided_at_s: float = 0.0
    steps: int = 0
    asked_again: int = 0
    over: bool = False
    priorities: PriorityReader = field(default_factory=PriorityReader)

    def copy(self) -> Episode:
        """An independent copy; immutable parts are shared."""
        simulation = self.simulation
        shared = (simulation.scenario, simulation.workload)
        memo: dict[int, Any] = {id(part): part for part in shared}
        return copy.deepcopy(self, memo)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A saved point of an environment; see ``AgentServeBase.snapshot``."""

    episode: Episode
    random_state: dict[str, Any]

    @property
    def decision(self) -> Decision | None:
        """The decision that was pending."""
        return self.episode.simulation.pending
