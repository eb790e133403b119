"""Caps on the number or the contexts of started programs: CONCUR's window, a working-set cap."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.admission.gate import Gate, release_order
from agentserve_gym.baselines.contexts import SharedContexts
from agentserve_gym.baselines.estimates import utilization
from agentserve_gym.baselines.parts import number
from agentserve_gym.baselines.registry import register
from agentserve_gym.sim import InstanceView, RouteDecision


@dataclass(slots=True)
class _Window:
    """One instance's window: how many agents may be active, and its counters at the last tick."""

    size: float
    ticked_s: float = 0.0
    prompt_tokens: int = 0
    hit_tokens: int = 0


@register(
    "concur",
    "a window of active agents per instance: +`alpha` if KV utilisation < `low`; x `beta` if > "
    "`high` and hit rate < `hit`",
    "CONCUR (arXiv 2601.22705)",
    ("paused", "grown", "cut"),
)
@dataclass
class Concur(Gate):
    """Additive increase, multiplicative decrease, at most once per ``interval_s``. Agents pause at
    turn boundaries only: one more than the window allows stops when its next turn is ready. The
    hit rate is that of the tokens admitted since the last tick. Programs arrive over time here, so
    a window grows only while it is what limits (as in TCP, RFC 7661). The first window, ``start``,
    is not published."""

    alpha: float = number(2.0)
    beta: float = number(0.5, high=1.0)
    low: float = number(0.2, high=1.0)
    high: float = number(0.5, high=1.0)
    hit: float = number(0.2, high=1.0)
    start: int = number(16, low=1)
    interval_s: float = number(1.0, low=1e-3)

    def reset(self) -> None:
        super().reset()
        self._windows: dict[int, _Window] = {}
        self._active: dict[int, int] = {}

    def admits(self, decision: RouteDecision, instance: int) -> bool:
        window = self._window(instance)
        index = decision.program.index
        others = sum(
            at == instance and other != index and other in decision.cluster.programs
            for other, at in self._active.items()
        )
        if decision.time_s - window.ticked_s >= self.interval_s:
            window.ticked_s = decision.time_s
            self._tick(window, decision.cluster.instances[instance], others + 1)
        if others + 1 <= max(window.size, 1.0):
            return True
        self._active.pop(index, None)
        return False

    def _tick(self, window: _Window, view: InstanceView, wanted: int) -> None:
        used = utilization(view)
        prompt_tokens = view.prompt_tokens - window.prompt_tokens
        hit_tokens = view.hit_tokens - window.hit_tokens
        window.prompt_tokens, window.hit_tokens = view.prompt_tokens, view.hit_tokens
        if used < self.low and wanted > window.size:
            window.size += self.alpha
            self.count("grown")
        elif used > self.high and hit_tokens < self.hit * prompt_tokens:
            window.size = max(window.size * self.beta, 1.0)
            self.count("cut")

    def turn_held(self, decision: RouteDecision) -> None:
        if decision.offers == 0:
            self.count("paused")

    def dispatched(self, decision: RouteDecision, instance: int) -> None:
        live = decision.cluster.programs
        self._active = {index: at for index, at in self._active.items() if index in live}
        self._active[decision.program.index] = instance

    def _window(self, instance: int) -> _Window:
        return self._windows.setdefault(instance, _Window(float(self.start)))


@register(
    "working_set",
    "start a program only if the contexts of started ones leave room in `share` of HBM",
    "cap on started contexts; the rule behind the searched gate",
    ("held", "started", "later_turns"),
)
@dataclass
class WorkingSet(Gate):
    """Contexts of all started programs count, whether they run or wait for tools, a prefix that
    they share once. Later turns are always admitted. Newcomers start shortest first: one that does
    not fit would keep the others waiting."""

    order: str = release_order("shortest_context")
    share: float = number(1.0, low=1e-3)

    def reset(self) -> None:
        super().reset()
        self._started: dict[int, tuple[int, int]] = {}

    def admits(self, decision: RouteDecision, instance: int) -> bool:
        if decision.turn.number:
            return True
        view = decision.cluster.instances[instance]
        live = decision.cluster.programs
        used = SharedContexts(view.block_size_tokens)
        for index, (at, tokens) in self._started.items():
            if at == instance and index in live:
                used.add(live[index], max(tokens, live[index].context_tokens))
        room = self.share * view.kv_blocks * view.block_size_tokens - used.tokens
        more = used.added(decision.program, decision.turn.prompt_tokens)
        return not used.tokens or more <= room

    def turn_held(self, decision: RouteDecision) -> None:
        if decision.offers == 0:
            self.count("held")

    def dispatched(self, decision: RouteDecision, instance: int) -> None:
        live = decision.cluster.programs
        self._started = {index: seen for index, seen in self._started.items() if index in live}
        self._started[decision.program.index] = (instance, decision.turn.prompt_tokens)
        self.count("later_turns" if decision.turn.number else "started")
