"""When a program is expected back from its tools, as far as completed calls tell.

The environments ask once more where its KV waits, shortly before that, so that what left HBM can be
prefetched. Nothing is used that a live router does not see.
"""

from __future__ import annotations

from math import exp

from agentserve_gym.sim import PlacementDecision

FEWEST_CALLS = 10
LARGEST_LOG_VARIANCE = 1.0
"""Of log durations: with it, half of the calls are within a factor of two of the median."""


def expected_gap_s(decision: PlacementDecision) -> float | None:
    """The gap's expected length: the longest of its tool kinds' median durations (exp of the
    exponential average of log durations). ``None`` where a kind has fewer than 10 completed calls
    or a variance of log durations above 1."""
    longest_s = 0.0
    for name in decision.tool_kinds or (decision.gap_kind,):
        kind = decision.cluster.tools.kind(name)
        if kind is None or kind.count < FEWEST_CALLS or kind.log_variance > LARGEST_LOG_VARIANCE:
            return None
        longest_s = max(longest_s, exp(kind.log_mean))
    return longest_s


def ask_again_s(decision: PlacementDecision, tier: str) -> float | None:
    """After how long to ask again about a context that goes to a lower tier now: when loading all
    of it, as links are queued now, would end just as the program is expected back. ``None`` where
    its return cannot be foreseen, or the context would not have arrived in the tier by then."""
    expected_s = expected_gap_s(decision)
    if expected_s is None:
        return None
    cluster, program = decision.cluster, decision.program
    tokens = program.context_tokens
    wait_s = expected_s - cluster.load_s(decision.instance, tier, tokens)
    return wait_s if wait_s > cluster.offload_s(program, tier, tokens) else None
