"""Rules that price every instance and take the cheapest."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

from agentserve_gym.baselines.estimates import blocks, tier_credit_tokens
from agentserve_gym.baselines.parts import Choice, Routing, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.sim import RouteDecision
from agentserve_gym.sim.randomness import uniform


def cheapest(costs: list[float], decision: RouteDecision) -> int:
    """Least cost; of equals the instance with fewer turns, then the first."""
    views = decision.cluster.instances
    return min(range(len(costs)), key=lambda i: (costs[i], views[i].sent_turns, i))


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
    ``pool`` for CXL."""

    overlap: float = number(1.0)
    host: float = number(0.75)
    pool: float = number(0.5)
    prefill_load: float = number(1.0)
    temperature: float = number(0.0)
    seed: int = number(0)

    def choose(self, decision: RouteDecision) -> Choice:
        costs, covered = [], []
        for view in decision.cluster.instances:
            size, load = view.block_size_tokens, view.load()
            device, host, pool = tier_credit_tokens(decision.cluster, decision, view.index)
            credit = (self.overlap * device + self.host * host + self.pool * pool) / size
            prompt = blocks(decision.turn.prompt_tokens, size)
            prefill = blocks(load.prefill_backlog_tokens, size)
            decode = blocks(load.context_tokens, size)
            costs.append(self.prefill_load * max(prefill + prompt - credit, 0.0) + decode + prompt)
            covered.append(credit)
        chosen = self._pick(costs, decision)
        return Choice(chosen, "overlapped" if covered[chosen] > 0.0 else "plain")

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
        costs = lmetric_costs(decision)
        chosen = cheapest(costs, decision)
        hit = decision.cluster.instances[chosen].cached_tokens(decision.turn) > 0
        return Choice(chosen, "matched" if hit else "unmatched")


def lmetric_costs(decision: RouteDecision) -> list[float]:
    """(Queued prefill tokens + this prompt's uncached tokens) x (running and queued turns + 1)."""
    prompt = decision.turn.prompt_tokens
    costs = []
    for view in decision.cluster.instances:
        uncached = prompt - view.cached_tokens(decision.turn)
        load = view.load()
        costs.append(float((load.prefill_backlog_tokens + uncached) * (load.turns + 1)))
    return costs
