"""The event loop: runs the clock from decision to decision, and tells the parts of each other."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.decisions import Decision
from agentserve_gym.sim.kernel.engine import Engine
from agentserve_gym.sim.kernel.events import LAST, Clock, Event
from agentserve_gym.sim.kernel.host import Host
from agentserve_gym.sim.kernel.programs import ProgramState
from agentserve_gym.sim.kernel.request import Request
from agentserve_gym.sim.kernel.residency import Residency
from agentserve_gym.sim.metrics import Metrics
from agentserve_gym.sim.orchestrator import Orchestrator
from agentserve_gym.sim.router import Router
from agentserve_gym.sim.views import ClusterView


@mypyc_attr(allow_interpreted_subclasses=True)
class EventLoop(Host):
    """What drives a simulation. Its parts are made with it as their host, and then given to it.

    Attributes:
        pending: the decision that waits for an answer.
        truncated: whether a horizon ended the run.
    """

    def __init__(self, clock: Clock, block_size_tokens: int) -> None:
        self.pending: Decision | None = None
        self.truncated = False
        self._clock = clock
        self._block_size = block_size_tokens
        self._engines: list[Engine]
        self._residency: Residency
        self._cluster: ClusterView
        self._router: Router
        self._orchestrator: Orchestrator
        self._metrics: Metrics
        self._write_through = False

    def begin(
        self,
        engines: list[Engine],
        residency: Residency,
        cluster: ClusterView,
        router: Router,
        orchestrator: Orchestrator,
        metrics: Metrics,
        horizon_s: float | None,
        native_offloading: bool,
    ) -> None:
        """Take the parts and plan the first events. ``horizon_s`` cuts the run;
        ``native_offloading``: engines write what they compute through to the nearest tier."""
        self._engines = engines
        self._residency = residency
        self._cluster = cluster
        self._router = router
        self._orchestrator = orchestrator
        self._metrics = metrics
        self._write_through = native_offloading
        cluster.programs = orchestrator.live
        if horizon_s is not None:
            self.cut_at(horizon_s)
        orchestrator.begin(router)

    def advance(self, answer: object) -> Decision | None:
        """Carry out the answer to the pending decision and run to the next one.

        Raises:
            ValueError: if a pending decision gets no answer, or there is none to answer.
        """
        decision = self.pending
        if (answer is None) != (decision is None):
            state = "is pending" if decision is not None else "is not pending"
            raise ValueError(f"answer is {answer!r}, but a decision {state}")
        if decision is not None and answer is not None:
            self.pending = None
            self._router.apply(decision, answer)
        self.pending = self._run_to_decision()
        return self.pending

    def _run_to_decision(self) -> Decision | None:
        router, orchestrator, clock = self._router, self._orchestrator, self._clock
        while not (self.truncated or orchestrator.finished):
            if router.may_ask:
                decision = router.next_decision()
                if decision is not None:
                    self._cluster.live_programs = len(orchestrator.live)
                    self._cluster.live_context_tokens = orchestrator.live_context_tokens
                    return decision
            clock.step()
        orchestrator.unfinished.advance(clock.time_s)
        return None

    def cut_at(self, time_s: float) -> None:
        """End the run at that time, if it has not ended before."""
        self._clock.schedule(time_s, _Horizon(self), LAST)

    def cut(self) -> None:
        """End the run here."""
        self.truncated = True

    # --- what the parts tell -------------------------------------------------------------------

    def begin_load(self, request: Request) -> tuple[int, int] | None:
        if request.hit_blocks >= request.match_limit_blocks:
            return None
        return self._residency.begin_load(request)

    def turn_reserved(self, request: Request, loaded_blocks: int, tier: int | None) -> None:
        self._residency.admitted(request)
        size = self._block_size
        hit_tokens = request.hit_blocks * size
        view = self._cluster.instances[request.instance]
        view.prompt_tokens += request.turn.prompt_tokens
        view.hit_tokens += hit_tokens
        known_tokens = request.match_limit_blocks * size
        self._metrics.admitted(request, known_tokens, hit_tokens, loaded_blocks * size, tier)

    def turn_finished(self, request: Request) -> None:
        self._metrics.turn_finished(request, self._clock.time_s)
        self._router.turn_finished(request)
        self._orchestrator.turn_finished(request)
        if self._write_through:
            self._residency.write_through(request)

    def turn_preempted(self, request: Request) -> None:
        if self._write_through:
            self._residency.write_through(request)

    def blocks_freed(self) -> None:
        self._router.offer_held_again()

    def tools_done(self, program: ProgramState) -> None:
        self._orchestrator.tools_done(program)


@mypyc_attr(allow_interpreted_subclasses=True)
class _Horizon(Event):
    """The scenario's horizon cuts the run."""

    __slots__ = ("_loop",)

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop

    def fire(self) -> None:
        self._loop.cut()
