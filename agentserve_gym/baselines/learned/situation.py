"""What learned parts see: a few numbers about the cluster, a turn, a program."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from math import exp, log, log1p
from operator import mul

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.decisions import RouteDecision
from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.sim.kernel.programs import ProgramState
from agentserve_gym.sim.views import ClusterView, InstanceView

_WINDOW_S = 10.0
"""Reuse is counted over so long, at least."""
_WINDOW_WEIGHT = 0.3
_SAMPLE_S = 1.0
_IDLE_MEMORY_S = 1200.0
"""Time constant of the share of idle instances, which is sampled that often. A gate that is shut
too long shows in the long run: at the moment when it shuts, instances are busy."""
_PROBE_TOKENS = 8192
UNSEEN_TURNS = 20.0
"""Turns that a program is thought to have left before any of its class is done."""


def dot(weights: Sequence[float], features: Sequence[float]) -> float:
    """Their scalar product."""
    return float(sum(map(mul, weights, features)))


def clamp(value: float, low: float, high: float) -> float:
    """The nearest number within the bounds."""
    return low if value < low else high if value > high else value


def relative_size(tokens: int, pool_tokens: float) -> float:
    """A context's size against an instance's HBM, about 0 for a seventh of it."""
    return clamp(log((tokens + 1.0) / pool_tokens), -5.0, 1.0) + 2.0


@mypyc_attr(allow_interpreted_subclasses=True)
class Situation(Copyable):
    """The cluster in ``SITUATION``'s numbers; what does not change is worked out once."""

    def __init__(self) -> None:
        self._fixed: tuple[float, float, float, float, float, float] | None = None
        self._reuse = 1.0
        self._counted = (0.0, 0.0)
        self._counted_at_s = 0.0
        self._idle = 0.0
        self._sampled_at_s = 0.0

    def features(self, cluster: ClusterView) -> list[float]:
        """1; log of the live programs' contexts over all HBM; the share of live programs that are
        held; whether there is a lower tier; log of how many contexts fit an instance; log of the
        tools' recent duration; log of the number of instances; the recent share of prompt tokens
        that were in HBM; log of restoring a context from the first tier over computing it again,
        at most 0; log of how many times as much as HBM lower tiers hold, as far as restoring saves
        computing, between 0 and 1: smaller ones hold copies of what HBM holds, too; where
        there is one, the share of instances that had nothing to do, over the last minutes."""
        if self._fixed is None:
            self._fixed = _fixed(cluster)
        if cluster.now_s - self._counted_at_s >= _WINDOW_S:
            self._count_reuse(cluster)
        pool, per_instance, tier, instances, restoring, spill = self._fixed
        if tier and cluster.now_s - self._sampled_at_s >= _SAMPLE_S:
            self._sample_idle(cluster)
        live = cluster.live_programs or 1
        contexts = cluster.live_context_tokens + 1.0
        held = cluster.held_turns / live
        return [
            1.0,
            clamp(log(contexts / pool), -3.0, 3.0),
            held if held < 1.0 else 1.0,
            tier,
            clamp(log(per_instance * live / contexts) / 3.0, -2.0, 2.0),
            log(cluster.tools.overall.ema_s + 0.1) / 3.0,
            instances,
            self._reuse,
            restoring,
            spill,
            self._idle,
        ]

    def _sample_idle(self, cluster: ClusterView) -> None:
        """A mean since the run began, in which what was long ago counts for little."""
        views = cluster.instances
        idle = sum([1 for view in views if not view.load().turns]) / len(views)
        passed_s = cluster.now_s - self._sampled_at_s
        forgotten = max(1.0 - exp(-passed_s / _IDLE_MEMORY_S), passed_s / cluster.now_s)
        self._idle += forgotten * (idle - self._idle)
        self._sampled_at_s = cluster.now_s

    def _count_reuse(self, cluster: ClusterView) -> None:
        """A moving average over windows in which turns were admitted."""
        prompts, hits = 0.0, 0.0
        for view in cluster.instances:
            prompts += view.prompt_tokens
            hits += view.hit_tokens
        before_prompts, before_hits = self._counted
        if prompts > before_prompts:
            share = (hits - before_hits) / (prompts - before_prompts)
            self._reuse += _WINDOW_WEIGHT * (share - self._reuse)
            self._counted = (prompts, hits)
        self._counted_at_s = cluster.now_s


def _fixed(cluster: ClusterView) -> tuple[float, float, float, float, float, float]:
    """Tokens of all HBM and of one instance's on average, whether there is a lower tier, half the
    log of the number of instances, what restoring takes against computing again, and what lower
    tiers hold against HBM."""
    views = cluster.instances
    pool = float(sum(view.kv_blocks * view.block_size_tokens for view in views))
    restoring, tier = 0.0, 0.0
    for view in views:
        for reached in cluster.reached_tiers(view.index)[:1]:
            tier = 1.0
            restoring = min(restoring, log(_restoring_share(cluster, view, reached)))
    restoring = clamp(restoring / 2.0, -3.0, 0.0)
    spill = clamp(log((_saving_tokens(cluster) + 1.0) / pool), 0.0, 1.0)
    return pool, pool / len(views), tier, 0.5 * log(len(views)), restoring, spill


def _saving_tokens(cluster: ClusterView) -> float:
    """What lower tiers hold, each token by the share of computing that restoring it saves."""
    total = 0.0
    for tier in cluster.tiers:
        pools: dict[int, int] = {}
        share = 1.0
        for view in cluster.instances:
            if cluster.reaches(view.index, tier):
                number = cluster.pool_number(view.index, tier)
                pools[number] = cluster.tier_capacity_tokens(tier, view.index)
                share = min(share, _restoring_share(cluster, view, tier))
        total += float(sum(pools.values())) * (1.0 - share)
    return total


def _restoring_share(cluster: ClusterView, view: InstanceView, tier: str) -> float:
    """Restoring a context over computing it again."""
    restore_s = cluster.load_s(view.index, tier, _PROBE_TOKENS)
    return (restore_s + 1e-6) / cluster.prefill_s(view.index, _PROBE_TOKENS, 0)


@mypyc_attr(allow_interpreted_subclasses=True)
class TurnsLeft(Copyable):
    """How many turns programs of a class still have, from those that are done: the mean of what
    was left to the ones that got as far."""

    def __init__(self) -> None:
        self._live: dict[int, ProgramState] = {}
        self._lengths: dict[str, list[int]] = {}
        self._sums: dict[str, list[int]] = {}

    def saw(self, cluster: ClusterView, program: ProgramState) -> None:
        """A program has a turn; those that the router knows no more are done."""
        self._live[program.index] = program
        if len(self._live) > cluster.live_programs:
            live = cluster.programs
            for index in [index for index in self._live if index not in live]:
                ended = self._live.pop(index)
                insort(self._lengths.setdefault(ended.agent_class, []), ended.turns_done)
                self._sums.pop(ended.agent_class, None)

    def of(self, program: ProgramState) -> float:
        """The expected number; a program that is longer than all before has half its turns left."""
        lengths = self._lengths.get(program.agent_class)
        if not lengths:
            return UNSEEN_TURNS
        longer = len(lengths) - bisect_right(lengths, program.turns_done)
        if not longer:
            return 0.5 * program.turns_done + 1.0
        return self._sums_of(program.agent_class)[longer] / longer - program.turns_done

    def _sums_of(self, agent_class: str) -> list[int]:
        """Of the 0, 1, 2 .. longest programs of a class, their turns together."""
        sums = self._sums.get(agent_class)
        if sums is None:
            sums = self._sums[agent_class] = [0]
            for length in reversed(self._lengths[agent_class]):
                sums.append(sums[-1] + length)
        return sums


def order_features(decision: RouteDecision, instance: int, turns_left: TurnsLeft) -> list[float]:
    """``ORDER``'s numbers: logs of prompt, uncached prompt, the program's age, attained service,
    expected turns left and turns done; the cached share; whether it is the first turn; and when it
    was released, in units of ten seconds."""
    program, turn = decision.program, decision.turn
    turns_left.saw(decision.cluster, program)
    cached = decision.cluster.instances[instance].cached_tokens(turn)
    root = program
    while root.parent is not None:
        root = root.parent
    return [
        log(turn.prompt_tokens) - 9.0,
        log(turn.prompt_tokens - cached + 16.0) - 7.0,
        cached / turn.prompt_tokens,
        log1p(decision.time_s - root.arrival_s) - 4.0,
        log1p(root.attained_service_s) - 3.0,
        log1p(turns_left.of(program)) - 3.0,
        log1p(turn.number) - 2.0,
        1.0 if turn.number == 0 else 0.0,
        turn.ready_s / 10.0,
    ]
