"""Preble: exploit a long match, else explore the least load, eviction and prefill."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass

from agentserve_gym.baselines.estimates import best_match
from agentserve_gym.baselines.parts import Choice, Routing, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.baselines.routing.cost import cheapest
from agentserve_gym.sim import InstanceView, Phase, PlacementDecision, RouteDecision


@register(
    "preble",
    "the holder if more is cached than not, unless its load is `imbalance` times the least; else "
    "least window load + eviction cost + prefill",
    "Preble E2 (arXiv 2407.00023)",
    ("exploited", "explored", "rebalanced"),
)
@dataclass
class Preble(Routing):
    """Exploit or explore. L is the work sent in the last ``window_s`` seconds; M the sum, over the
    contexts that would give way (least recently sent first), of the time to prefill what goes times
    the share of the window's turns that hit it; P the prefill time of what is missed. A first turn
    whose holder carries ``imbalance`` times the least load goes to the instance with that load, so
    that a hot shared prompt is replicated; Preble's own threshold is not known."""

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
        prefill_s = decision.cluster.prefill_s
        eviction_s = sum(
            prefill_s(view.index, gone, kept) * hit_rate
            for gone, kept, hit_rate in window.evicted(evicted, besides=decision.program.index)
            if hit_rate
        )
        return window.load_s + eviction_s + prefill_s(view.index, missed, cached)

    def dispatched(self, decision: RouteDecision, instance: int) -> None:
        view = decision.cluster.instances[instance]
        cached = view.cached_tokens(decision.turn)
        missed = decision.turn.prompt_tokens - cached
        work_s = decision.cluster.prefill_s(instance, missed, cached)
        work_s += self._decode_s / max(self._decoded_turns, 1)
        sent = _Sent(decision.time_s, work_s, decision.program.index)
        pool_tokens = view.kv_blocks * view.block_size_tokens
        window = self._window(instance, decision.time_s)
        window.add(sent, decision.turn.prompt_tokens, pool_tokens)

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
    program: int


class _Window:
    """What was sent to an instance lately, and the contexts that it should hold: all that the
    router sent, as far as the pool goes, least recently sent first.

    Attributes:
        load_s: work sent within the window.
    """

    def __init__(self) -> None:
        self.load_s = 0.0
        self._sent: deque[_Sent] = deque()
        self._turns: Counter[int] = Counter()
        self._contexts: OrderedDict[int, int] = OrderedDict()
        self._context_tokens = 0

    def add(self, sent: _Sent, context_tokens: int, pool_tokens: int) -> None:
        """A turn is sent with a context of this size to a pool of that."""
        self._sent.append(sent)
        self._turns[sent.program] += 1
        self.load_s += sent.work_s
        self._context_tokens += context_tokens - self._contexts.pop(sent.program, 0)
        self._contexts[sent.program] = context_tokens
        while self._context_tokens > pool_tokens and len(self._contexts) > 1:
            _, tokens = self._contexts.popitem(last=False)
            self._context_tokens -= tokens

    def forget_before(self, time_s: float) -> None:
        """Move the window on."""
        while self._sent and self._sent[0].time_s < time_s:
            sent = self._sent.popleft()
            self.load_s -= sent.work_s
            self._turns[sent.program] -= 1
            if not self._turns[sent.program]:
                del self._turns[sent.program]

    def evicted(self, tokens: int, besides: int) -> list[tuple[int, int, float]]:
        """What gives way to ``tokens``: of each context how much goes, how much stays, and which
        share of the window's turns hit it."""
        gone = []
        for program, context in self._contexts.items():
            if tokens <= 0:
                break
            if program != besides:
                taken = min(context, tokens)
                tokens -= taken
                gone.append((taken, context - taken, self._hit_rate(program)))
        return gone

    def _hit_rate(self, program: int) -> float:
        return self._turns[program] / len(self._sent) if self._sent else 0.0
