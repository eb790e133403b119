"""What an instance costs a turn, by learned weights."""

from __future__ import annotations

from math import exp, log

from agentserve_gym.hardware.pricing.timing import joined_decode
from agentserve_gym.sim.decisions import RouteDecision
from agentserve_gym.sim.views import InstanceView


def instance_price(
    decision: RouteDecision,
    view: InstanceView,
    weights: list[float],
    power: float,
    token_s: float,
) -> float:
    """The log of an instance's price.

    Args:
        weights: of ``LAYOUT["route"]``.
        power: of the number of turns there.
        token_s: seconds of prefill per token there.
    """
    host, backlog, evicted, imposed, contexts, step = weights
    cluster, turn, size = decision.cluster, decision.turn, view.block_size_tokens
    cached, load = view.look(turn)
    missing = turn.prompt_tokens - cached
    own = float(missing)
    for tier in cluster.tiers:
        more = cluster.tier_tokens(turn, view.index, tier) - cached
        if more > 0 and missing - host * more < own:
            own = missing - host * more
    lost = missing - load.free_blocks * size
    evictable = load.cached_blocks * size
    lost = 0 if lost < 0 else lost if lost < evictable else evictable
    tokens = (
        own
        + exp(backlog) * load.prefill_backlog_tokens
        + exp(evicted) * lost
        + exp(imposed) * load.decoding_turns * own * 0.1
    )
    price = log((tokens if tokens > 0.0 else 0.0) * token_s + 1e-3)
    full = load.context_tokens / (view.kv_blocks * size)
    price += power * log(load.turns + 1.0) + contexts * full
    if step:
        joined = joined_decode(load.decoding_turns, load.context_tokens, turn.prompt_tokens)
        price += step * log(view.latency.step_s(joined))
    return price
