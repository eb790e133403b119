"""The four learned parts: routing, residency, admission, scheduling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log, log1p
from typing import NamedTuple

from agentserve_gym.baselines.admission.gates import PendingNeed
from agentserve_gym.baselines.estimates import slowest_gap_s
from agentserve_gym.baselines.learned.demand import Demand, Member
from agentserve_gym.baselines.learned.prices import instance_price
from agentserve_gym.baselines.learned.situation import (
    Situation,
    TurnsLeft,
    clamp,
    dot,
    order_features,
    relative_size,
)
from agentserve_gym.baselines.learned.weights import PLACES, Weights, load_weights
from agentserve_gym.baselines.lookahead.policy import Planner
from agentserve_gym.baselines.parts import (
    Admission,
    Choice,
    Part,
    Residency,
    Routing,
    Scheduling,
    text,
)
from agentserve_gym.baselines.policy import ComposedPolicy, NamedPolicy
from agentserve_gym.baselines.registry import register, register_bundle
from agentserve_gym.baselines.routing.cost import cheapest
from agentserve_gym.sim import (
    Hold,
    InstanceView,
    Place,
    PlacementDecision,
    PlacementKind,
    RouteDecision,
    offload,
)

SPECIALIST = "default"
"""Weights trained on the preset of that name."""
SOURCE = "trained here by evolution, from heuristics"

_PROBE_TOKENS, _PROBE_HISTORY = 2048, 16384
_CHECK_EVERY_S = 1.0
_FAR_AFTER_S = 0.05
"""As ``kvbm``: the first copy is under way."""
_EXTREME = 5.0
"""Most and least of a log factor: beyond it is always or never."""


Watcher = Callable[[str, Sequence[float]], None]
"""Is told a group, and the features of a score by its weights."""


@dataclass
class LearnedPart(Part):
    """A part with weights, by the name of a packaged set or the path of a file."""

    weights: str = text(SPECIALIST)

    def __post_init__(self) -> None:
        self.watcher: Watcher | None = None
        if isinstance(self.weights, str):  # anything else is refused below
            self.use(load_weights(self.weights))
        super().__post_init__()

    def use(self, weights: Weights) -> None:
        """Decide by other weights from the next run on."""
        self.decides_by = weights
        self._groups = weights.groups

    def score(self, group: str, features: Sequence[float]) -> float:
        """By a group's weights."""
        if self.watcher is not None:
            self.watcher(group, features)
        return dot(self._groups[group], features)

    def reset(self) -> None:
        super().reset()
        self._situation = Situation()
        self._turns_left = TurnsLeft()


@register(
    "learned_routing",
    "least learned price: prefill of what is missing, ahead and evicted x turns there ^ weight",
    SOURCE,
    ("moved", "kept_home", "new"),
)
@dataclass
class LearnedRouting(LearnedPart, Routing):
    """The log of an instance's price: seconds of prefill (what this turn lacks, the backlog, what
    it would evict, and the delay that it imposes on turns that decode there), times the number of
    turns to a power, more the fuller its batch is of contexts, and more away from home. Power and
    distance from home depend on the situation. With weights of one kind this is LMetric in seconds.
    """

    def reset(self) -> None:
        super().reset()
        self._token_s: dict[int, float] = {}

    def choose(self, decision: RouteDecision) -> Choice:
        views, home = decision.instances, decision.program.home
        chosen = views[0].index
        if len(views) > 1:
            chosen = views[cheapest(self.prices(decision), decision)].index
        if home < 0:
            return Choice(chosen, "new")
        return Choice(chosen, "kept_home" if chosen == home else "moved")

    def prices(self, decision: RouteDecision) -> list[float]:
        home, situation = decision.program.home, self._situation.features(decision.cluster)
        power = self.score("route_turns", situation)
        away = self.score("route_away", situation)
        weights = self._groups["route"]
        return [
            instance_price(decision, view, weights, power, self._token_prefill_s(decision, view))
            + (away if view.index != home else 0.0)
            for view in decision.instances
        ]

    def _token_prefill_s(self, decision: RouteDecision, view: InstanceView) -> float:
        """A rate: the backlog belongs to many turns, whose histories are not known."""
        token_s = self._token_s.get(view.index)
        if token_s is None:
            probe_s = decision.cluster.prefill_s(view.index, _PROBE_TOKENS, _PROBE_HISTORY)
            token_s = self._token_s[view.index] = probe_s / _PROBE_TOKENS
        return token_s


@register(
    "learned_order",
    "least learned score of prompt, uncached tokens, age, attained service, expected turns left",
    SOURCE,
    ("reordered",),
)
@dataclass
class LearnedOrder(LearnedPart, Scheduling):
    """With weights of one kind, first come, first served; of others, shortest prefill, least
    attained service, or shortest expected remaining."""

    def priority(self, decision: RouteDecision, instance: int) -> float:
        seen = order_features(decision, instance, self._turns_left)
        return self.score("queue", seen)

    def dispatched(self, decision: RouteDecision, instance: int) -> None:
        if decision.cluster.instances[instance].load().queued_turns:
            self.count("reordered")


@register(
    "learned_admission",
    "pause programs, and let others in, by learned scores, where the contexts of started ones "
    "exceed a learned share of HBM; started ones yield to held ones that should go first by a "
    "learned margin; hold turns that lack more than a learned share of free blocks",
    SOURCE,
    ("held", "paused", "yielded", "admitted"),
)
@dataclass
class LearnedAdmission(LearnedPart, Admission):
    """ThunderAgent's gate with everything that it fixes learned: above which share of HBM programs
    are paused, and below which they are let in, by situation and turn; how fast contexts of idle
    programs stop counting; who is paused first, and who is let in first. A started program that
    comes back yields to one that waits for the same instance and should go first by a margin. And a
    gate for turns of started programs too: how much of the blocks that nobody uses may go to what a
    turn lacks. A turn that waits at the router can still go where there is room first."""

    def reset(self) -> None:
        super().reset()
        self._demand = Demand()
        self._promised = PendingNeed()
        self._held: dict[int, tuple[int, float]] = {}
        self._checked_s = -_CHECK_EVERY_S

    def admits(self, decision: RouteDecision, instance: int) -> bool:
        if decision.time_s - self._checked_s >= _CHECK_EVERY_S:
            self._checked_s = decision.time_s
            self._pause_programs(decision)
        view, turn = decision.cluster.instances[instance], decision.turn
        situation = self._situation.features(decision.cluster)
        if not self._has_room(decision, view, self.score("room", situation)):
            return False
        if decision.program in self._demand:
            return not self._yields(decision, instance, self.score("yield", situation))
        self._demand.forget_finished(decision.cluster)
        used = self._demand.tokens(instance, decision.time_s)
        if not used:
            return True
        size, prompt = view.block_size_tokens, turn.prompt_tokens
        seen = [*situation, *self._turn_features(decision, view)]
        room = self._limit_tokens(view, self.score("admit", seen)) - used
        now_s = decision.time_s
        return self._demand.added_tokens(instance, decision.program, prompt, size, now_s) <= room

    def _has_room(self, decision: RouteDecision, view: InstanceView, log_share: float) -> bool:
        """Whether what the turn lacks takes no more than a share of the blocks that nobody uses."""
        if log_share >= _EXTREME:
            return True
        if not view.load().turns and not self._promised.tokens(decision, view.index):
            return True
        room = self._promised.room_tokens(decision, view.index)
        lacking = decision.turn.prompt_tokens - view.cached_tokens(decision.turn)
        return lacking <= room * exp(max(log_share, -_EXTREME))

    def _yields(self, decision: RouteDecision, instance: int, margin: float) -> bool:
        """Whether a started program has to wait behind one that is held, and is paused."""
        if margin >= _EXTREME:
            return False
        own_index = decision.program.index
        others = [
            score
            for program, (at, score) in self._held.items()
            if at == instance and program != own_index
        ]
        if not others:
            return False
        own = self.score("release", order_features(decision, instance, self._turns_left))
        if min(others) + margin >= own:
            return False
        self.count("yielded")
        return True

    def _turn_features(self, decision: RouteDecision, view: InstanceView) -> list[float]:
        """``TURN``'s numbers: the shares of the prompt in HBM, and besides in a lower tier; whether
        it is the first turn; the prompt's size; logs of turns done and of the wait."""
        cluster, turn = decision.cluster, decision.turn
        prompt, cached = turn.prompt_tokens, view.cached_tokens(turn)
        there = cached
        for tier in cluster.tiers:
            there = max(there, cluster.tier_tokens(turn, view.index, tier))
        return [
            cached / prompt,
            (there - cached) / prompt,
            1.0 if turn.number == 0 else 0.0,
            relative_size(prompt, _pool_tokens(view)),
            log1p(turn.number) / 3.0,
            log1p(decision.time_s - turn.ready_s) / 4.0,
        ]

    def _limit_tokens(self, view: InstanceView, log_share: float) -> float:
        return _pool_tokens(view) * exp(clamp(log_share, -_EXTREME, _EXTREME))

    def _pause_programs(self, decision: RouteDecision) -> None:
        """Pause programs until every instance's demand fits."""
        now_s, demand = decision.time_s, self._demand
        demand.forget_finished(decision.cluster)
        situation = self._situation.features(decision.cluster)
        demand.decay(exp(clamp(self.score("half_life", situation), -_EXTREME, _EXTREME)), now_s)
        log_share = self.score("pause_above", situation)
        for instance in demand.instances():
            limit = self._limit_tokens(decision.cluster.instances[instance], log_share)
            if demand.tokens(instance, now_s) <= limit:
                continue
            scores = {
                member.program: self._pause_score(member, now_s)
                for member in demand.members(instance)
            }
            for program in sorted(scores, key=lambda program: (-scores[program], program.index)):
                if demand.tokens(instance, now_s) <= limit:
                    break
                demand.leave(program, now_s)
                self.count("paused")

    def _pause_score(self, member: Member, now_s: float) -> float:
        """By ``MEMBER``'s numbers: logs of own context, elapsed gap, turns done, expected turns
        left and attained service; whether it waits for a tool. The highest is paused first."""
        program, since_s = member.program, member.acting_since_s
        seen = [
            log(member.own_tokens + 64.0) - 9.0,
            0.0 if since_s is None else 1.0,
            0.0 if since_s is None else log1p(now_s - since_s),
            log1p(program.turns_done) - 2.0,
            log1p(self._turns_left.of(program)) - 3.0,
            log1p(program.attained_service_s) - 3.0,
        ]
        return self.score("pause", seen)

    def hold(self, decision: RouteDecision, instance: int) -> Hold:
        seen = order_features(decision, instance, self._turns_left)
        score = self.score("release", seen)
        self._held[decision.program.index] = (instance, score)
        return Hold(score, lane=instance)

    def turn_held(self, decision: RouteDecision) -> None:
        self.count("held")
        self._demand.leave(decision.program, decision.time_s)

    def dispatched(self, decision: RouteDecision, instance: int) -> None:
        self.count("admitted")
        self._held.pop(decision.program.index, None)
        view, turn = decision.cluster.instances[instance], decision.turn
        prompt, size = turn.prompt_tokens, view.block_size_tokens
        self._promised.sent(instance, prompt - view.cached_tokens(turn))
        self._demand.enter(decision.program, instance, prompt, size, decision.time_s)

    def gap_began(self, decision: PlacementDecision) -> None:
        size = decision.cluster.instances[decision.instance].block_size_tokens
        self._demand.gap_began(decision.program, size, decision.time_s)


class _Costs(NamedTuple):
    """What is expected of a gap, and of recomputing and restoring its context, in seconds."""

    gap_s: float
    recompute_s: float
    restore_s: float


@register(
    "learned_residency",
    "the place of highest learned value: left in HBM, pinned, copied down warm or cold; a second "
    "copy in the farthest tier by a learned score",
    SOURCE,
    ("warm", "keep", "pin", "cold", "far"),
)
@dataclass
class LearnedResidency(LearnedPart, Residency):
    """The value of a place depends on the situation and on ``GAP``'s numbers: logs of the expected
    gap, of recomputing and of restoring, and of turns done; whether a person answers; the context's
    size. So does the score by which what is copied to the nearest tier goes to the farthest, too,
    where it is above 0 (see ``kvbm``). What is left in HBM has a rank that may depend on when its
    program is expected back, and on what it would take to compute it again: with weights 0 it is
    least recently used."""

    def place(self, decision: PlacementDecision) -> Place:
        tiers = decision.cluster.reached_tiers(decision.instance)
        costs = self._costs(decision, tiers)
        seen = self._features(decision, costs)
        values = self._values(seen, tiers)
        best = max(values, key=lambda place: values[place])
        is_second = decision.elapsed_s > 0.0 and best in ("warm", "cold")
        self.count("far" if is_second else best)
        rank = self._rank(decision.time_s, costs)
        if best == "pin":
            longer = exp(clamp(self._groups["pin"][0], -_EXTREME, _EXTREME))
            ttl_s = (costs.gap_s + 0.2) * longer
            return Place(PlacementKind.PIN, ttl_s=ttl_s, until_admitted=True, rank=rank)
        if best == "keep":
            return Place(PlacementKind.KEEP, rank=rank)
        is_warm = best == "warm"
        if is_second:
            return offload(tiers[-1], stay_warm=is_warm, rank=rank)
        again = len(tiers) > 1 and self.score("copy_far", seen) > 0.0
        after_s = _FAR_AFTER_S if again else None
        return offload(tiers[0], stay_warm=is_warm, rank=rank, ask_again_s=after_s)

    def values(self, decision: PlacementDecision) -> dict[str, float]:
        tiers = decision.cluster.reached_tiers(decision.instance)
        return self._values(self._features(decision, self._costs(decision, tiers)), tiers)

    def _costs(self, decision: PlacementDecision, tiers: list[str]) -> _Costs:
        cluster, context = decision.cluster, max(decision.program.context_tokens, 1)
        expected_s = slowest_gap_s(decision, lambda kind: kind.ema_s)
        if expected_s is None:
            expected_s = cluster.tools.overall.ema_s or 1.0
        recompute_s = cluster.prefill_s(decision.instance, context, 0)
        restore_s = cluster.load_s(decision.instance, tiers[0], context) if tiers else recompute_s
        return _Costs(expected_s, recompute_s, restore_s)

    def _features(self, decision: PlacementDecision, costs: _Costs) -> list[float]:
        cluster, program = decision.cluster, decision.program
        pool_tokens = _pool_tokens(cluster.instances[decision.instance])
        return [
            *self._situation.features(cluster),
            log(costs.gap_s + 0.05) / 3.0,
            log(costs.recompute_s + 0.01) / 3.0,
            log(costs.restore_s + 0.01) / 3.0,
            1.0 if decision.gap_kind == "user" else 0.0,
            log1p(program.turns_done) / 3.0,
            relative_size(max(program.context_tokens, 1), pool_tokens),
        ]

    def _values(self, seen: list[float], tiers: list[str]) -> dict[str, float]:
        """Of the places where the context can wait: a copy needs a tier."""
        places = PLACES if tiers else PLACES[:2]
        return {place: self.score(f"place_{place}", seen) for place in places}

    def _rank(self, now_s: float, costs: _Costs) -> float:
        gap, recompute = self._groups["rank"]
        if not gap and not recompute:
            return 0.0
        return now_s - gap * costs.gap_s + 10.0 * recompute * log(costs.recompute_s + 0.01)


def _pool_tokens(view: InstanceView) -> float:
    """Tokens whose KV an instance's HBM holds."""
    return float(view.kv_blocks * view.block_size_tokens)


register_bundle(
    "learned",
    "learned_routing+learned_residency+learned_admission+learned_order",
    "all four decisions learned; learned(routing) takes some of them, learned(weights=..) others",
    SOURCE,
)


def learned_policy(weights: Weights) -> ComposedPolicy:
    """All four decisions by one set of weights."""
    parts = (LearnedRouting(), LearnedResidency(), LearnedAdmission(), LearnedOrder())
    for part in parts:
        part.use(weights)
    return ComposedPolicy(*parts)


def watch_scores(policy: ComposedPolicy, watcher: Watcher) -> None:
    """Tell ``watcher`` the group and the features of every score that learned parts compute."""
    for part in policy.parts:
        if isinstance(part, LearnedPart):
            part.watcher = watcher


def learned_weights(policy: NamedPolicy) -> list[Weights]:
    """The weights of a policy's learned parts, none where nothing is learned."""
    base = policy.base if isinstance(policy, Planner) else policy
    if not isinstance(base, ComposedPolicy):
        return []
    return [part.decides_by for part in base.parts if isinstance(part, LearnedPart)]
