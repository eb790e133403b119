"""The three environments: both decisions, routing only, offload only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from agentserve_gym.baselines import parse_policy
from agentserve_gym.baselines.policy import NamedPolicy
from agentserve_gym.envs.actions import Mask, one_integer, two_integers
from agentserve_gym.envs.base import AgentServeBase, ScenarioLike
from agentserve_gym.envs.documentation import documented
from agentserve_gym.envs.rewards import Reward
from agentserve_gym.sim import Answer, Decision, RouteDecision


@documented
class AgentServeEnv(AgentServeBase):
    """AgentServe-v0: route every turn, and place its KV when a tool gap begins.

    One episode serves one workload. A step is a decision: either a turn is ready and needs an
    instance and a place in its queue (or is held), or a turn ended and its KV needs a place during
    the tool gap.

    Action space
        ``MultiDiscrete([3 * max_instances + 1, placements])``: (route, placement). Only the
        component that is asked for is used; the observation's first two numbers and the mask say
        which.
    Action mask
        ``3 * max_instances + 1`` entries for the route, then one per placement. The component that
        is not asked has exactly one possible entry (hold, or keep), so with masked sampling it adds
        nothing to log-probability or entropy.

    {routes}
    {placements}
    {shared}
    """

    def _make_action_space(self) -> spaces.Space[Any]:
        sizes = (self.routes.size, self.placements.size)
        return spaces.MultiDiscrete(np.array(sizes, dtype=np.int64))

    def _mask_size(self) -> int:
        return self.routes.size + self.placements.size

    def _takes(self, decision: Decision) -> bool:  # noqa: ARG002
        return True

    def _read(self, action: Any) -> tuple[int, int]:
        return two_integers(action, self.routes.size, self.placements.size)

    def _answer(self, decision: Decision, action: Any) -> Answer:
        route, placement = action
        if isinstance(decision, RouteDecision):
            return self.routes.answer(route)
        return self.placements.answer(placement, decision)

    def _write_mask(self, mask: Mask, decision: Decision | None) -> None:
        routes, placements = mask[: self.routes.size], mask[self.routes.size :]
        if isinstance(decision, RouteDecision):
            self.routes.write_mask(routes, decision)
        else:
            self.routes.write_unasked(routes)
        if decision is None or isinstance(decision, RouteDecision):
            self.placements.write_unasked(placements)
        else:
            self.placements.write_mask(placements, decision)

    def _encode(self, route: int, placement: int) -> Any:
        return np.array([route, placement])


class _OneDecisionEnv(AgentServeBase):
    """An environment in which a named baseline takes the other decision."""

    def __init__(
        self,
        scenario: ScenarioLike = "default",
        *,
        baseline: str = "affinity+lru",
        reward: str | Reward = "jct",
        max_instances: int | None = None,
        tiers: Sequence[str] | None = None,
        render_mode: str | None = None,
    ) -> None:
        """See ``AgentServeBase.__init__``; ``baseline``: who takes the other decision.

        Raises:
            ValueError: also for an unknown baseline.
        """
        super().__init__(
            scenario,
            reward=reward,
            max_instances=max_instances,
            tiers=tiers,
            render_mode=render_mode,
        )
        if not isinstance(baseline, str):
            raise ValueError(
                f"baseline is {baseline!r}; allowed: the name of a policy, such as 'affinity+lru'"
            )
        self.baseline = baseline
        self._make_baseline()

    def _make_baseline(self) -> NamedPolicy:
        return parse_policy(self.baseline)


@documented
class AgentServeRoutingEnv(_OneDecisionEnv):
    """AgentServeRouting-v0: route every turn; a baseline (``baseline="affinity+lru"``) places KV.

    Action space
        ``Discrete(3 * max_instances + 1)``, see below.
    Action mask
        One entry per action.

    {routes}
    {shared}
    """

    def _make_action_space(self) -> spaces.Space[Any]:
        return spaces.Discrete(self.routes.size)

    def _mask_size(self) -> int:
        return self.routes.size

    def _takes(self, decision: Decision) -> bool:
        return isinstance(decision, RouteDecision)

    def _read(self, action: Any) -> int:
        return one_integer(action, self.routes.size)

    def _answer(self, decision: Decision, action: Any) -> Answer:  # noqa: ARG002
        return self.routes.answer(action)

    def _write_mask(self, mask: Mask, decision: Decision | None) -> None:
        if isinstance(decision, RouteDecision):
            self.routes.write_mask(mask, decision)
        else:
            self.routes.write_unasked(mask)

    def _encode(self, route: int, placement: int) -> Any:  # noqa: ARG002
        return route


@documented
class AgentServeOffloadEnv(_OneDecisionEnv):
    """AgentServeOffload-v0: place KV at each tool gap; a baseline (``baseline="affinity+lru"``)
    routes.

    Action space
        ``Discrete(placements)``, see below.
    Action mask
        One entry per action.

    {placements}
    {shared}
    """

    def _make_action_space(self) -> spaces.Space[Any]:
        return spaces.Discrete(self.placements.size)

    def _mask_size(self) -> int:
        return self.placements.size

    def _takes(self, decision: Decision) -> bool:
        return not isinstance(decision, RouteDecision)

    def _read(self, action: Any) -> int:
        return one_integer(action, self.placements.size)

    def _answer(self, decision: Decision, action: Any) -> Answer:
        assert not isinstance(decision, RouteDecision)
        return self.placements.answer(action, decision)

    def _write_mask(self, mask: Mask, decision: Decision | None) -> None:
        if decision is None or isinstance(decision, RouteDecision):
            self.placements.write_unasked(mask)
        else:
            self.placements.write_mask(mask, decision)

    def _encode(self, route: int, placement: int) -> Any:  # noqa: ARG002
        return placement
