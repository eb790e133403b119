"""Rules that predict times: SMetric, DualMap, Mooncake's conductor, Preble."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from agentserve_gym.baselines.estimates import best_match, least_loaded, predicted_ttft_s
from agentserve_gym.baselines.parts import Choice, Routing, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.baselines.routing.cost import cheapest, lmetric_costs
from agentserve_gym.sim import InstanceView, Phase, PlacementDecision, RouteDecision
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


@register(
    "preble",
    "the holder if more is cached than not, unless its load is `imbalance` times the least; else "
    "least window load + eviction cost + prefill",
    "Preble E2 (arXiv 2407.00023)",
    ("exploited", "explored", "rebalanced"),
)
@dataclass
class Preble(Routing):
    """Exploit or explore. The load is the work sent in the last ``window_s`` seconds, the eviction
    cost the prefill time of what would be evicted times the instance's hit rate. A first turn whose
    holder carries ``imbalance`` times the least load goes to the instance with that load, so that a
    hot shared prompt is replicated; Preble's own threshold is not known."""

    window_s: float = number(180.0, low=1e-3)
    imbalance: float = number(1.5, low=1.0)

    def reset(self) -> None:
        super().reset()
        self._windows: dict[int, _Window] = {}
        self._decode_s = 0.0
        self._decoded_turns = 0

    def choose(self, decision: RouteDecision) -> Choice:
        best, cached = best_match(decision)
        views = decision.instances
        if cached > decision.turn.prompt_tokens - cached:
            loads = [self._window(view.index, decision.time_s).load_s for view in views]
            lightest = cheapest(loads, decision)
            load_s = self._window(best, decision.time_s).load_s
            if decision.turn.number or load_s <= self.imbalance * loads[lightest]:
                return Choice(best, "exploited")
            return Choice(views[lightest].index, "rebalanced")
        costs = [self._cost(decision, view) for view in views]
        return Choice(views[cheapest(costs, decision)].index, "explored")

    def _cost(self, decision: RouteDecision, view: InstanceView) -> float:
        cached = view.cached_tokens(decision.turn)
        missed = decision.turn.prompt_tokens - cached
        load = view.load()
        size = view.block_size_tokens
        evicted = min(max(missed - load.free_blocks * size, 0), load.cached_blocks * size)
        window = self._window(view.index, decision.time_s)
        eviction_s = decision.cluster.prefill_s(view.index, evicted, 0) * window.hit_rate
        return window.load_s + eviction_s + decision.cluster.prefill_s(view.index, missed, cached)

    def dispatched(self, decision: RouteDecision, instance: int) -> None:
        cached = decision.cluster.instances[instance].cached_tokens(decision.turn)
        missed = decision.turn.prompt_tokens - cached
        work_s = decision.cluster.prefill_s(instance, missed, cached)
        work_s += self._decode_s / max(self._decoded_turns, 1)
        sent = _Sent(decision.time_s, work_s, cached, decision.turn.prompt_tokens)
        self._window(instance, decision.time_s).add(sent)

    def gap_began(self, decision: PlacementDecision) -> None:
        program = decision.program
        self._decode_s += program.phase_s[Phase.DECODE] / program.turns_done
        self._decoded_turns += 1

    def _window(self, instance: int, now_s: float) -> _Window:
        window = self._windows.setdefault(instance, _Window())
        window.forget_before(now_s - self.window_s)
        return window


@dataclass(frozen=True, slots=True)
class _Sent:
    time_s: float
    work_s: float
    cached_tokens: int
    prompt_tokens: int


class _Window:
    """What was sent to an instance lately."""

    def __init__(self) -> None:
        self._sent: deque[_Sent] = deque()
        self.load_s = 0.0
        self._cached = 0
        self._prompt = 0

    @property
    def hit_rate(self) -> float:
        return self._cached / self._prompt if self._prompt else 0.0

    def add(self, sent: _Sent) -> None:
        self._sent.append(sent)
        self.load_s += sent.work_s
        self._cached += sent.cached_tokens
        self._prompt += sent.prompt_tokens

    def forget_before(self, time_s: float) -> None:
        while self._sent and self._sent[0].time_s < time_s:
            sent = self._sent.popleft()
            self.load_s -= sent.work_s
            self._cached -= sent.cached_tokens
            self._prompt -= sent.prompt_tokens
