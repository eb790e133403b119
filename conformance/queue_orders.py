"""Queue orders beside SGLang's queue policies of the same rule, on the same caches and queues."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

from agentserve_gym.baselines.parts import Scheduling
from agentserve_gym.baselines.scheduling.orders import TurnFCFS
from agentserve_gym.baselines.scheduling.prefill import LongestPrefix, ShortestPrefill
from agentserve_gym.sim import RouteDecision
from agentserve_gym.sim.kernel.pools import BlockPool
from conformance import routers
from conformance.radix import Pool
from conformance.radix_cases import RadixCase, Turn

RULES: Mapping[str, Callable[[], Scheduling]] = {
    "fcfs": TurnFCFS, "lpm": LongestPrefix, "shortest-prefill-first": ShortestPrefill,
}  # fmt: skip
"""Ours, by the name of SGLang's policy."""
_DEFERRING_TOKENS = 32
_LONGEST_SORTED = 128

Orders = Mapping[str, list[int]]
"""The waiting turns in the order in which each policy of SGLang's serves them."""


def compare_case(
    case: RadixCase, orders: Iterable[Orders], tally: Counter[tuple[str, str]]
) -> None:
    """Ask our rules in every state in which SGLang put its queue in order.

    Counted by policy: ``orders``; ``sent`` if ours is the same with the numbers that turns got when
    they were sent; ``now`` if it is with numbers of this state; ``both`` if SGLang's two further
    rules are added.
    """
    pool = Pool(case, BlockPool("hbm", case.capacity_pages))
    rules = {policy: make() for policy, make in RULES.items()}
    waiting: dict[int, dict[str, float]] = {}
    following = iter(orders)
    for what, name in case.moves:
        if what == "arrive":
            pool.arrive(name)
            waiting[name] = _numbers(rules, pool, case.turns[name])
        elif what == "begin":
            del waiting[name]
            pool.begin(name)
        elif what == "end":
            pool.end(name)
        else:
            now = {each: _numbers(rules, pool, case.turns[each]) for each in waiting}
            deferred = _deferred(pool, [case.turns[each] for each in waiting])
            for policy, order in next(following).items():
                both = {each: _place(policy, each, now, deferred) for each in waiting}
                tally[policy, "orders"] += 1
                tally[policy, "sent"] += order == sorted(waiting, key=_by(policy, waiting))
                tally[policy, "now"] += order == sorted(waiting, key=_by(policy, now))
                tally[policy, "both"] += order == sorted(waiting, key=both.__getitem__)


def _numbers(rules: Mapping[str, Scheduling], pool: Pool, turn: Turn) -> dict[str, float]:
    """Where each of our rules puts a turn: lowest first, then first come, first served."""
    view = routers.View(0, 0, pool.found_tokens(turn), routers.Load(0, 0))
    decision = routers.Decision(routers.Turn(turn.prompt_tokens), routers.Cluster([view]))
    return {
        policy: rule.priority(cast(RouteDecision, decision), 0) for policy, rule in rules.items()
    }


def _by(policy: str, numbers: Mapping[int, dict[str, float]]) -> Callable[[int], float]:
    return lambda name: numbers[name][policy]


def _place(
    policy: str, name: int, now: Mapping[int, dict[str, float]], deferred: set[int]
) -> tuple[bool, float]:
    """Where a turn comes by our rule and SGLang's two further ones."""
    if policy == "fcfs" or (policy == "lpm" and len(now) > _LONGEST_SORTED):
        return False, 0.0
    return name in deferred, now[name][policy]


def _deferred(pool: Pool, waiting: Sequence[Turn]) -> set[int]:
    """Turns that SGLang lets wait for one ahead of them: little of them is cached, and they begin
    as that one does, which will be."""
    ahead: list[Turn] = []
    deferred = set()
    for turn in waiting:
        if pool.found_tokens(turn) > _DEFERRING_TOKENS:
            continue
        if any(_common_tokens(turn, other) >= _DEFERRING_TOKENS for other in ahead):
            deferred.add(turn.name)
        else:
            ahead.append(turn)
    return deferred


def _common_tokens(one: Turn, other: Turn) -> int:
    """Length of the common beginning of two prompts."""
    common = 0
    for (first, count), (other_first, other_count) in zip(one.runs, other.runs, strict=False):
        if first != other_first:
            break
        common += min(count, other_count)
        if count != other_count:
            break
    return common
