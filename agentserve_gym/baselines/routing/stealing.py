"""Work stealing: idle instances take turns that wait elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from agentserve_gym.baselines.estimates import least_loaded, utilization
from agentserve_gym.baselines.parts import Choice, Routing, number
from agentserve_gym.baselines.registry import register
from agentserve_gym.sim import RouteDecision


@register(
    "work_stealing",
    "home if some of the context is cached there and less than `most` of its HBM is in use, else "
    "the least loaded; an instance that has been idle for `idle_s` takes the turn if home's load, "
    "this turn included, exceeds `factor` x its own",
    "SAGA (arXiv 2605.00528)",
    ("stolen", "kept_home", "left_home", "new"),
)
@dataclass
class WorkStealing(Routing):
    """A turn that an engine has cannot be taken back, so what may be stolen must wait at the
    router: combine it with ``short_queue``, whose held turns are offered again when a turn ends. An
    instance's load is the turns sent to it and those held for it; it is idle since the last
    decision at which it had one."""

    idle_s: float = number(0.1)
    factor: float = number(2.0)
    most: float = number(0.8)

    def reset(self) -> None:
        super().reset()
        self._busy_s: dict[int, float] = {}
        self._held_for: dict[int, int] = {}

    def choose(self, decision: RouteDecision) -> Choice:
        home, views = decision.program.home, decision.instances
        loads = {view.index: view.sent_turns for view in views}
        for index, instance in self._held_for.items():
            if index != decision.program.index and instance in loads:
                loads[instance] += 1
        idle = [index for index, load in loads.items() if self._idles(index, load, decision.time_s)]
        if home < 0:
            return Choice(least_loaded(views), "new")
        if idle and loads[home] + 1 > self.factor * (loads[idle[0]] + 1):
            return Choice(idle[0], "stolen")
        view = decision.cluster.instances[home]
        if view.cached_tokens(decision.turn) and utilization(view) < self.most:
            return Choice(home, "kept_home")
        return Choice(least_loaded(views), "left_home")

    def _idles(self, instance: int, load: int, now_s: float) -> bool:
        if load:
            self._busy_s[instance] = now_s
        return now_s - self._busy_s.get(instance, 0.0) >= self.idle_s

    def turn_held(self, decision: RouteDecision) -> None:
        if decision.program.home >= 0:
            self._held_for[decision.program.index] = decision.program.home

    def dispatched(self, decision: RouteDecision, instance: int) -> None:  # noqa: ARG002
        self._held_for.pop(decision.program.index, None)
