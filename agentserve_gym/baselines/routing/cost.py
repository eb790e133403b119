"""Rules that price every instance and take the cheapest."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

from agentserve_gym.baselines.estimates import blocks, lower_credit_tokens
from agentserve_gym.baselines.parts import Choice, Routing, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.sim import RouteDecision
from agentserve_gym.sim.kernel.randomness import uniform


def cheapest(costs: list[float], decision: RouteDecision) -> int:
    """The place among ``decision.instances`` of the least cost, of which ``costs`` has one each; of
    equals that of the instance with fewer turns, then the first."""
    least = min(costs)
    if costs.count(least) == 1:
        return costs.index(least)
    views = decision.instances
    equals = [i for i, cost in enumerate(costs) if cost == least]
    return min(equals, key=lambda i: (views[i].sent_turns, i))


@register(
    "dynamo",
    "least prefill blocks not covered by cached copies + decode blocks; softmax if temperature > 0",
    "NVIDIA Dynamo KV router",
    ("overlapped", "plain"),
)
@dataclass
class Dynamo(Routing):
    """Cost in blocks: ``prefill_load`` x max(active prefill + prompt - credit, 0) + active decode
    + prompt. The credit counts cached blocks by tier: ``overlap`` for HBM, ``host`` for DRAM,
    ``pool`` for the tiers beyond it."""

    overlap: float = number(1.0)
    host: float = number(0.75)
    pool: float = number(0.5)
    prefill_load: float = number(1.0)
    temperature: float = number(0.0)
    seed: int = number(0)

    def choose(self, decision: RouteDecision) -> Choice:
        costs, covered = [], []
        cluster, turn = decision.cluster, decision.turn
        for view in decision.instances:
            size = view.block_size_tokens
            device, load = view.look(turn)
            host, pool = lower_credit_tokens(cluster, turn, view.index, device)
            credit = (self.overlap * device + self.host * host + self.pool * pool) / size
            prompt = blocks(turn.prompt_tokens, size)
            prefill = blocks(load.prefill_backlog_tokens, size)
            decode = blocks(load.context_tokens, size)
            costs.append(self.prefill_load * max(prefill + prompt - credit, 0.0) + decode + prompt)
            covered.append(credit)
        chosen = self._pick(costs, decision)
        instance = decision.instances[chosen].index
        return Choice(instance, "overlapped" if covered[chosen] > 0.0 else "plain")

    def _pick(self, costs: list[float], decision: RouteDecision) -> int:
        """Argmin, or a softmax draw over costs normalised to [0, 1]."""
        low, high = min(costs), max(costs)
        if self.temperature == 0.0 or high == low:
            return cheapest(costs, decision)
        weights = [exp(-(cost - low) / (high - low) / self.temperature) for cost in costs]
        turn = decision.turn
        left = uniform(self.seed, decision.program.stream, turn.number, decision.offers)
        left *= sum(weights)
        for index, weight in enumerate(weights):
            left -= weight
            if left < 0.0:
                return index
        return len(weights) - 1


@register(
    "lmetric",
    "least (queued prefill + uncached prompt tokens) x (turns there + 1)",
    "LMetric (OSDI'26)",
    ("matched", "unmatched"),
)
@dataclass
class LMetric(Routing):
    """Prefill work times batch size, both with this turn included."""

    def choose(self, decision: RouteDecision) -> Choice:
        chosen = cheapest(self.prices(decision), decision)
        view = decision.instances[chosen]
        hit = view.cached_tokens(decision.turn) > 0
        return Choice(view.index, "matched" if hit else "unmatched")

    def prices(self, decision: RouteDecision) -> list[float]:
        return lmetric_costs(decision)


def lmetric_costs(decision: RouteDecision) -> list[float]:
    """(Queued prefill tokens + this prompt's uncached tokens) x (running and queued turns + 1), of
    each of ``decision.instances``."""
    turn = decision.turn
    prompt = turn.prompt_tokens
    costs = []
    for view in decision.instances:
        cached, load = view.look(turn)
        work = load.prefill_backlog_tokens + prompt - cached
        costs.append(float(work * (load.turns + 1)))
    return costs
