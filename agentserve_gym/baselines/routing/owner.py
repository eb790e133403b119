"""Any replica for those who lost their copy: the routing of ThunderAgent and MORI."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.estimates import least_loaded
from agentserve_gym.baselines.parts import Choice, Routing, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.sim import RouteDecision


@register(
    "owner",
    "the instance that owns most of the copy, in HBM or DRAM; without a copy the least loaded",
    "ThunderAgent (arXiv 2602.13692), MORI (arXiv 2606.00866)",
    ("rehomed", "kept_home", "new"),
)
@dataclass
class Owner(Routing):
    """Affinity lasts as long as at least the share ``kept`` of what could be reused is still in
    the home's HBM or DRAM; after that any replica will do."""

    kept: float = number(0.5, high=1.0)

    def choose(self, decision: RouteDecision) -> Choice:
        home, turn = decision.program.home, decision.turn
        views = decision.cluster.instances
        if home < 0:
            return Choice(least_loaded(decision.instances), "new")
        copy = max(
            views[home].cached_tokens(turn),
            decision.cluster.tier_tokens(turn, home, "dram"),
        )
        if copy and copy >= self.kept * turn.reuse_tokens:
            return Choice(home, "kept_home")
        best = least_loaded(decision.instances)
        if views[best].sent_turns == views[home].sent_turns:
            best = home
        return Choice(best, "kept_home" if best == home else "rehomed")
