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
from collections.abc import Callable
from typing import Any

from agentserve_gym.sim.construction import build_engines, build_view, fitting_workload
from agentserve_gym.sim.decisions import Decision
from agentserve_gym.sim.event_loop import EventLoop
from agentserve_gym.sim.ideal import IdealTimes
from agentserve_gym.sim.instances import list_instances
from agentserve_gym.sim.kernel.answers import Answer
from agentserve_gym.sim.kernel.events import Clock
from agentserve_gym.sim.kernel.residency import Residency
from agentserve_gym.sim.metrics import Metrics
from agentserve_gym.sim.orchestrator import Orchestrator
from agentserve_gym.sim.router import Router
from agentserve_gym.sim.scenario import Scenario
from agentserve_gym.sim.summaries import figures, mean
from agentserve_gym.sim.tools import ToolSimulator
from agentserve_gym.sim.topology import build_topology
from agentserve_gym.workloads import Workload


class Simulation:
    """One run of a scenario.

    Attributes:
        scenario, seed: what is simulated.
        clock: the queue of events; ``now_s`` is its time. `SimpyEnvironment` runs SimPy on it.
        engines, residency, router, orchestrator, tools: the parts.
        cluster: what policies may see. ``metrics``: what happened so far. ``ideal``: what
            programs would take alone.
    """

    def __init__(
        self,
        scenario: Scenario,
        seed: int = 0,
        *,
        fused: bool = True,
        record_turns: bool = False,
        clock: Clock | None = None,
        vary: Callable[[Workload], Workload] = lambda workload: workload,
    ) -> None:
        """Build the cluster and the workload.

        Args:
            scenario: a validated scenario.
            seed: at least 0; the workload depends on it alone.
            fused: plan decode steps in runs; ``False`` steps one by one, with the same result.
            record_turns: keep a ``TurnRecord`` of every turn in ``metrics.records``.
            clock: a fresh one of another class, which sees what is scheduled and what happens.
            vary: what to serve in the place of the scenario's workload for this seed.

        Raises:
            ValueError: for unknown hardware, or a program that cannot fit the smallest KV pool of
                its model.
        """
        self.scenario = scenario
        self.seed = seed
        self.clock = clock if clock is not None else Clock()
        size = scenario.engine.block_size_tokens
        self._loop = loop = EventLoop(self.clock, size)
        instances = list_instances(scenario.cluster)
        topology = build_topology(scenario.cluster, size, instances)
        self.metrics = Metrics(scenario.objective, topology.tier_names)
        if record_turns:
            self.metrics.records = []
        self.engines = build_engines(scenario, instances, self.clock, loop, fused=fused)
        self.workload = vary(fitting_workload(scenario, instances, self.engines, seed))
        self.residency = Residency(topology, self.engines, self.clock, loop)
        self.tools = ToolSimulator(scenario.tools, self.clock, seed, loop)
        self.cluster = build_view(
            scenario, instances, self.engines, self.residency, self.tools.statistics, self.clock
        )
        models = [instance.model for instance in instances]
        self.ideal = IdealTimes(self.engines, models, scenario.cluster.model)
        self.router = Router(
            self.engines,
            self.residency,
            self.cluster,
            self.metrics,
            self.clock,
            self.tools,
            scenario.router.held_order,
            scenario.router.reoffer_s,
        )
        self.orchestrator = Orchestrator(
            self.workload,
            self.clock,
            self.tools,
            self.metrics,
            self.ideal,
            size,
            scenario.cluster.model,
            scenario.router.session_timeout_s,
        )
        loop.begin(
            self.engines,
            self.residency,
            self.cluster,
            self.router,
            self.orchestrator,
            self.metrics,
            scenario.horizon_s,
            scenario.engine.native_offloading,
        )

    # --- the loop ----------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        """Simulated time, seconds."""
        return self.clock.time_s

    @property
    def pending(self) -> Decision | None:
        """The decision that waits for an answer."""
        return self._loop.pending

    @property
    def truncated(self) -> bool:
        """Whether the scenario's horizon ended the run."""
        return self._loop.truncated

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
        return self._loop.advance(answer)

    def cut_at(self, time_s: float) -> None:
        """End the run at ``time_s``, or at the scenario's horizon if that is earlier.

        Raises:
            ValueError: if ``time_s`` lies in the past.
        """
        self._loop.cut_at(time_s)

    def unfinished_time(self) -> tuple[float, float]:
        """Integrals of unfinished programs up to now: program-seconds, weighted by 1 / ideal."""
        unfinished = self.orchestrator.unfinished
        unfinished.advance(self.clock.time_s)
        return unfinished.plain_s, unfinished.weighted

    def snapshot(self) -> Simulation:
        """An independent copy of the whole state; immutable parts are shared."""
        memo: dict[int, Any] = {id(part): part for part in (self.scenario, self.workload)}
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
        summed = figures(self.metrics)
        jct_s, slowdown = self.orchestrator.times_so_far()
        return {
            "scenario": self.scenario.name,
            "seed": self.seed,
            **summed,
            "mean_jct_s": {
                "finished": summed["jct_s"]["mean"],
                "all": mean(self.metrics.jct_s + jct_s),
            },
            "mean_slowdown": {
                "finished": summed["slowdown"]["mean"],
                "all": mean(self.metrics.slowdown + slowdown),
            },
            "placements_after_last_turn": self.metrics.last_turn_placements,
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
                "pins_broken": sum(engine.pool.pins_broken for engine in self.engines),
                "pins_used": counters.pins_used,
                "drops": counters.drops,
                "refused_offloads": counters.refused_offloads,
                "prefetches": counters.prefetches,
                "prefetched_blocks": counters.prefetched_blocks,
                "joined_prefetches": counters.joined_prefetches,
                "refused_prefetches": counters.refused_prefetches,
                "offloads": dict(zip(lower, counters.offloads[1:], strict=True)),
                "loads": dict(zip(tiers, counters.loads, strict=True)),
                "offloaded_blocks": dict(zip(lower, counters.offloaded_blocks[1:], strict=True)),
                "loaded_blocks": dict(zip(tiers, counters.loaded_blocks, strict=True)),
                "offloaded_bytes": counters.offloaded_bytes,
                "loaded_bytes": counters.loaded_bytes,
                "remote_loads": dict(zip(tiers, counters.remote_loads, strict=True)),
                "remote_loaded_bytes": counters.remote_loaded_bytes,
            },
            "tools": {"failures": self.tools.failures, "timeouts": self.tools.timeouts},
        }
