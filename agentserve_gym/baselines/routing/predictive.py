"""Rules that predict times: SMetric, DualMap, Mooncake's conductor."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.estimates import best_match, least_loaded, predicted_ttft_s
from agentserve_gym.baselines.parts import Choice, Routing, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.baselines.routing.cost import cheapest, lmetric_costs
from agentserve_gym.sim import InstanceView, RouteDecision
from agentserve_gym.sim.kernel.randomness import mix


@register(
    "smetric",
    "first turn by LMetric; later the best match unless its predicted TTFT exceeds `slo_s` x "
    "`slack`, then the least loaded",
    "SMetric (arXiv 2607.08565)",
    ("matched", "relieved", "first_turn"),
)
@dataclass
class SMetric(Routing):
    """Sessions stay with their cache until their TTFT objective is at risk."""

    slo_s: float = number(5.0, low=1e-3)
    slack: float = number(0.8)

    def choose(self, decision: RouteDecision) -> Choice:
        if decision.turn.number == 0:
            chosen = cheapest(lmetric_costs(decision), decision)
            return Choice(decision.instances[chosen].index, "first_turn")
        best, _ = best_match(decision)
        if predicted_ttft_s(decision, best) <= self.slo_s * self.slack:
            return Choice(best, "matched")
        return Choice(least_loaded(decision.instances), "relieved")


@register(
    "dualmap",
    "of two hashed instances the one with more cached until its predicted TTFT exceeds `slo_s`, "
    "then the one with less prefill backlog",
    "DualMap (ICLR'26)",
    ("affine", "relieved"),
)
@dataclass
class DualMap(Routing):
    """The pair is hashed from the session, so it stays the same for all of its turns."""

    slo_s: float = number(5.0, low=1e-3)
    seed: int = number(0)

    def choose(self, decision: RouteDecision) -> Choice:
        pair = self._pair(decision)
        views, turn = decision.cluster.instances, decision.turn
        backlog = {i: views[i].load().prefill_backlog_tokens for i in pair}
        affine = min(pair, key=lambda i: (-views[i].cached_tokens(turn), backlog[i]))
        if predicted_ttft_s(decision, affine) <= self.slo_s:
            return Choice(affine, "affine")
        relief = min(pair, key=lambda i: backlog[i])
        return Choice(relief, "affine" if relief == affine else "relieved")

    def _pair(self, decision: RouteDecision) -> tuple[int, int]:
        views = decision.instances
        count = len(views)
        identity = decision.program.stream
        first = mix(self.seed, identity, 1) % count
        if count == 1:
            return views[first].index, views[first].index
        second = mix(self.seed, identity, 2) % (count - 1)
        return views[first].index, views[second + (second >= first)].index


@register(
    "mooncake",
    "least queue + prefill, where a copy elsewhere may be transferred if it is `ratio` times "
    "longer than the local one",
    "Mooncake conductor (arXiv 2407.00079)",
    ("transfers", "local"),
)
@dataclass
class Mooncake(Routing):
    """Estimates TTFT everywhere with migration priced over the links' present queues. Whether the
    transfer happens is decided again on admission, by the same estimate."""

    ratio: float = number(1.5, low=1.0)

    def choose(self, decision: RouteDecision) -> Choice:
        estimates = [self._estimate(decision, view) for view in decision.instances]
        chosen = cheapest([seconds for seconds, _ in estimates], decision)
        instance = decision.instances[chosen].index
        return Choice(instance, "transfers" if estimates[chosen][1] else "local")

    def _estimate(self, decision: RouteDecision, view: InstanceView) -> tuple[float, bool]:
        """Seconds to the first token, and whether they include a transfer."""
        cluster, turn = decision.cluster, decision.turn
        queue_s = cluster.prefill_s(view.index, view.load().prefill_backlog_tokens, 0)
        local_s = cluster.first_token_s(turn, view.index, None)
        local_blocks = view.cached_tokens(turn) // view.block_size_tokens
        transfers = [
            cluster.first_token_s(turn, view.index, copy)
            for copy in cluster.restorables(turn, view.index)
            if copy.blocks > self.ratio * local_blocks
        ]
        transfer_s = min(transfers, default=local_s)
        return queue_s + min(local_s, transfer_s), transfer_s < local_s
