"""The simulation: one cluster serving one workload, driven decision by decision.

    simulation = Simulation(scenario, seed)
    decision = simulation.advance()
    while decision is not None:
        decision = simulation.advance(policy.decide(decision))
    simulation.report()

``driving.answers`` is this loop. The result depends on scenario, seed and answers alone. A
simulation can be copied mid-run (``snapshot``), for look-ahead policies and tests.
"""

from __future__ import annotations

import copy
from typing import Any

from agentserve_gym.hardware import model
from agentserve_gym.sim.construction import build_engines, build_view, fitting_workload
from agentserve_gym.sim.decisions import Decision
from agentserve_gym.sim.ideal import IdealTimes
from agentserve_gym.sim.kernel.answers import Answer
from agentserve_gym.sim.kernel.engine_host import EngineHost
from agentserve_gym.sim.kernel.events import LAST, Clock, Event
from agentserve_gym.sim.kernel.programs import ProgramState
from agentserve_gym.sim.kernel.request import Request
from agentserve_gym.sim.kernel.residency import Residency
from agentserve_gym.sim.metrics import Metrics, mean
from agentserve_gym.sim.orchestrator import Orchestrator
from agentserve_gym.sim.router import Router
from agentserve_gym.sim.scenario import Scenario
from agentserve_gym.sim.timeline import Timeline
from agentserve_gym.sim.tools import ToolSimulator
from agentserve_gym.sim.topology import build_topology


class Simulation(EngineHost):
    """One run of a scenario.

    Attributes:
        scenario, seed: what is simulated.
        clock: the queue of events; ``now_s`` is its time. `SimpyEnvironment` runs SimPy on it.
        engines, residency, router, orchestrator, tools: the parts.
        cluster: what policies may see. ``metrics``: what happened so far.
        timeline: samples for pictures, or ``None``.
        truncated: whether the scenario's horizon ended the run.
    """

    def __init__(
        self,
        scenario: Scenario,
        seed: int = 0,
        *,
        fused: bool = True,
        record_turns: bool = False,
        record_timeline: bool = False,
    ) -> None:
        """Build the cluster and the workload.

        Args:
            scenario: a validated scenario.
            seed: at least 0; the workload depends on it alone.
            fused: plan decode steps in runs; ``False`` steps one by one, with the same result.
            record_turns: keep a ``TurnRecord`` of every turn in ``metrics.records``.
            record_timeline: keep samples of occupancy and statuses.

        Raises:
            ValueError: for unknown hardware, or a program that cannot fit the smallest KV pool.
        """
        self.scenario = scenario
        self.seed = seed
        self.clock = Clock()
        self.truncated = False
        self.timeline = Timeline() if record_timeline else None
        size = scenario.engine.block_size_tokens
        self.model = model(scenario.cluster.model)
        topology = build_topology(scenario.cluster, size, self.model.kv_bytes_per_token)
        self.metrics = Metrics(scenario.objective, topology.tier_names)
        if record_turns:
            self.metrics.records = []
        self.engines = build_engines(scenario, self.clock, self, fused=fused)
        self.workload = fitting_workload(scenario, self.engines, seed)
        self.residency = Residency(topology, self.engines, self.clock, self._on_blocks_freed)
        self.tools = ToolSimulator(scenario.tools, self.clock, seed, self._on_tools_done)
        self.cluster = build_view(
            scenario, topology, self.engines, self.residency, self.tools.statistics, self.clock
        )
        self.router = Router(
            self.engines,
            self.residency,
            self.cluster,
            self.metrics,
            self.clock,
            self.tools,
            scenario.router.held_order,
        )
        self.orchestrator = Orchestrator(
            self.workload, self.clock, self.tools, self.metrics, IdealTimes(self.engines), size
        )
        self.cluster.programs = self.orchestrator.live
        self._block_size = size
        self._pending: Decision | None = None
        if scenario.horizon_s is not None:
            self.clock.schedule(scenario.horizon_s, _Horizon(self), LAST)
        self.orchestrator.begin(self.router)

    # --- the loop ----------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        """Simulated time, seconds."""
        return self.clock.time_s

    @property
    def pending(self) -> Decision | None:
        """The decision that waits for an answer."""
        return self._pending

    @property
    def done(self) -> bool:
        """Whether every program is done or the horizon was reached."""
        return self.truncated or self.orchestrator.finished

    def advance(self, answer: Answer | None = None) -> Decision | None:
        """Carry out the answer to the pending decision and run to the next one.

        Returns:
            The next decision, or ``None`` when every program is done or the horizon is reached.

        Raises:
            ValueError: if a pending decision gets no answer, or there is none to answer.
        """
        if (answer is None) != (self._pending is None):
            state = "is pending" if self._pending is not None else "is not pending"
            raise ValueError(f"answer is {answer!r}, but a decision {state}")
        if self._pending is not None and answer is not None:
            decision, self._pending = self._pending, None
            self.router.apply(decision, answer)
        self._pending = self._run_to_decision()
        return self._pending

    def _run_to_decision(self) -> Decision | None:
        router, orchestrator, step = self.router, self.orchestrator, self.clock.step
        while not self.truncated:
            if router.may_ask:
                decision = router.next_decision()
                if decision is not None:
                    self.cluster.live_programs = len(orchestrator.live)
                    self.cluster.live_context_tokens = orchestrator.live_context_tokens
                    return decision
            if orchestrator.finished:
                break
            step()
        orchestrator.unfinished.advance(self.clock.time_s)
        return None

    def unfinished_time(self) -> tuple[float, float]:
        """Integrals of unfinished programs up to now: program-seconds, weighted by 1 / ideal."""
        unfinished = self.orchestrator.unfinished
        unfinished.advance(self.clock.time_s)
        return unfinished.plain_s, unfinished.weighted

    def snapshot(self) -> Simulation:
        """An independent copy of the whole state; immutable parts are shared."""
        memo: dict[int, Any] = {
            id(part): part for part in (self.scenario, self.workload, self.model)
        }
        return copy.deepcopy(self, memo)

    def restore(self, snapshot: Simulation) -> None:
        """Become a copy of ``snapshot``, which stays usable."""
        self.__dict__ = snapshot.snapshot().__dict__

    # --- results -----------------------------------------------------------------------------

    def report(self) -> dict[str, Any]:
        """Metrics of the run so far as plain numbers, strings, lists and dictionaries.

        ``jct_s`` and ``slowdown`` are over finished programs. Where the run was cut, the long ones
        are missing from them, so ``mean_jct_s`` and ``mean_slowdown`` have two means: ``finished``,
        and ``all``, over every program with its time so far (0 if it is still to come), which is
        what the rewards pay. Once all programs are done both are the same.
        """
        counters = self.residency.counters
        tiers = self.metrics.tiers
        lower = tiers[1:]
        figures = self.metrics.as_dict()
        jct_s, slowdown = self.orchestrator.times_so_far()
        return {
            "scenario": self.scenario.name,
            "seed": self.seed,
            **figures,
            "mean_jct_s": {
                "finished": figures["jct_s"]["mean"],
                "all": mean(self.metrics.jct_s + jct_s),
            },
            "mean_slowdown": {
                "finished": figures["slowdown"]["mean"],
                "all": mean(self.metrics.slowdown + slowdown),
            },
            "unfinished_programs": self.orchestrator.arrived - self.orchestrator.done,
            "truncated": self.truncated,
            "simulated_s": self.now_s,
            "preemptions": sum(engine.preemptions for engine in self.engines),
            "steps": sum(engine.steps for engine in self.engines),
            "evicted_blocks": sum(engine.pool.evicted for engine in self.engines),
            "busy_s": [engine.busy_s for engine in self.engines],
            "moved_bytes": {
                name: link.moved_bytes for name, link in self.residency.topology.links.items()
            },
            "residency": {
                "pins": counters.pins,
                "pins_expired": counters.pins_expired,
                "pins_used": counters.pins_used,
                "drops": counters.drops,
                "refused_offloads": counters.refused_offloads,
                "prefetches": counters.prefetches,
                "prefetched_blocks": counters.prefetched_blocks,
                "refused_prefetches": counters.refused_prefetches,
                "offloads": dict(zip(lower, counters.offloads[1:], strict=True)),
                "loads": dict(zip(tiers, counters.loads, strict=True)),
                "offloaded_blocks": dict(zip(lower, counters.offloaded_blocks[1:], strict=True)),
                "loaded_blocks": dict(zip(tiers, counters.loaded_blocks, strict=True)),
            },
            "tools": {"failures": self.tools.failures, "timeouts": self.tools.timeouts},
        }

    # --- what the parts call back --------------------------------------------------------------

    def begin_load(self, request: Request) -> tuple[int, int] | None:
        """See ``EngineHost``."""
        if request.hit_blocks >= request.match_limit_blocks:
            return None
        return self.residency.begin_load(request)

    def turn_reserved(self, request: Request, loaded_blocks: int, tier: int | None) -> None:
        """See ``EngineHost``."""
        if request.program.pinned_at >= 0:
            self.residency.unpin(request.program)
        size = self._block_size
        hit_tokens = request.hit_blocks * size
        view = self.cluster.instances[request.instance]
        view.prompt_tokens += request.turn.prompt_tokens
        view.hit_tokens += hit_tokens
        known_tokens = request.match_limit_blocks * size
        self.metrics.admitted(request, known_tokens, hit_tokens, loaded_blocks * size, tier)

    def turn_finished(self, request: Request) -> None:
        """See ``EngineHost``."""
        self.metrics.turn_finished(request, self.clock.time_s)
        self.router.turn_finished(request)
        self.orchestrator.turn_finished(request)
        if self.timeline is not None:
            self.timeline.sample(self.now_s, self.engines, self.residency, self.orchestrator.live)

    def _on_blocks_freed(self) -> None:
        self.router.offer_held_again()

    def _on_tools_done(self, program: ProgramState) -> None:
        self.orchestrator.tools_done(program)


class _Horizon(Event):
    """The scenario's horizon cuts the run."""

    __slots__ = ("_simulation",)

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def fire(self) -> None:
        self._simulation.truncated = True
