"""What several policies estimate in the same way: gaps by tool, loads, rates of an instance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from agentserve_gym.sim import (
    ClusterView,
    InstanceView,
    PlacementDecision,
    RouteDecision,
    TurnState,
)
from agentserve_gym.sim.kernel.tool_statistics import KindStatistics


def called_kinds(decision: PlacementDecision) -> Sequence[str]:
    """The tools that a gap waits for; a gap without named tools counts as a call of its kind."""
    return decision.tool_kinds or (decision.gap_kind,)


def slowest_gap_s(
    decision: PlacementDecision, estimate: Callable[[KindStatistics], float]
) -> float | None:
    """The longest estimate over the parallel calls of a gap, keyed per tool; ``None`` if one of
    the tools has not been seen."""
    tools = decision.cluster.tools
    longest = 0.0
    for kind in called_kinds(decision):
        statistics = tools.kind(kind)
        if statistics is None:
            return None
        longest = max(longest, estimate(statistics))
    return longest


def least_loaded(instances: Iterable[InstanceView]) -> int:
    """The instance to which the fewest unfinished turns were sent."""
    return min(instances, key=lambda view: (view.sent_turns, view.index)).index


def utilization(view: InstanceView) -> float:
    """Share of an instance's HBM blocks that are neither free nor cached: in use or pinned."""
    load = view.load()
    return 1.0 - (load.free_blocks + load.cached_blocks) / view.kv_blocks


def best_match(decision: RouteDecision) -> tuple[int, int]:
    """The instance that holds most of the prompt (less loaded of equals), and how many tokens."""
    turn = decision.turn
    best, tokens = decision.instances[0], -1
    for view in decision.instances:
        cached = view.cached_tokens(turn)
        if cached > tokens or (cached == tokens and view.sent_turns < best.sent_turns):
            best, tokens = view, cached
    return best.index, tokens


def predicted_ttft_s(decision: RouteDecision, instance: int) -> float:
    """Time to the first token there: the prefill backlog, then the uncached part of the prompt."""
    view, cluster = decision.cluster.instances[instance], decision.cluster
    cached = view.cached_tokens(decision.turn)
    queue_s = cluster.prefill_s(instance, view.load().prefill_backlog_tokens, 0)
    return queue_s + cluster.prefill_s(instance, decision.turn.prompt_tokens - cached, cached)


def uncopied_tokens(decision: PlacementDecision, tier: str) -> int:
    """What a copy of the context to a lower tier still has to move: whole blocks not there yet."""
    program, instance = decision.program, decision.instance
    size = decision.cluster.instances[instance].block_size_tokens
    whole = program.context_tokens // size * size
    return max(whole - decision.cluster.chain_tokens(program, instance, tier), 0)


def copy_s(decision: PlacementDecision, tier: str) -> float:
    """Time to move that, as the links are now."""
    tokens = uncopied_tokens(decision, tier)
    return decision.cluster.offload_s(decision.program, tier, tokens) if tokens else 0.0


def blocks(tokens: int, size: int) -> int:
    """Whole blocks that hold ``tokens``."""
    return -(-tokens // size)


def lower_credit_tokens(
    cluster: ClusterView, turn: TurnState, instance: int, hbm_tokens: int
) -> tuple[int, int]:
    """Leading prompt tokens that DRAM, and then the tiers beyond it, would add to the
    ``hbm_tokens`` in HBM."""
    host = pool = 0
    for tier in cluster.tiers:
        more = cluster.tier_tokens(turn, instance, tier) - hbm_tokens - host - pool
        if more > 0:
            if tier == "dram":
                host = more
            else:
                pool += more
    return host, pool
