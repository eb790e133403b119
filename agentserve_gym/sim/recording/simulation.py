"""A simulation whose every event is seen."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from agentserve_gym.sim.decisions import Decision, RouteDecision
from agentserve_gym.sim.kernel.answers import Answer, Route
from agentserve_gym.sim.kernel.copying import fields_of
from agentserve_gym.sim.kernel.events import NORMAL, Clock, Event
from agentserve_gym.sim.kernel.transfers import Transfer
from agentserve_gym.sim.recording.engines import EngineObserver, turns_at
from agentserve_gym.sim.recording.figures import FiguresObserver
from agentserve_gym.sim.recording.history import (
    NOBODY,
    InstanceNote,
    PlacementNote,
    RouteNote,
    RunHistory,
)
from agentserve_gym.sim.recording.pools import observe_pools
from agentserve_gym.sim.recording.programs import ProgramObserver
from agentserve_gym.sim.recording.transfers import TransferObserver
from agentserve_gym.sim.scenario import Scenario
from agentserve_gym.sim.simulation import Simulation
from agentserve_gym.workloads import Workload


class RecordedSimulation(Simulation):
    """A simulation that writes its history; it runs as a plain one does.

    Copies of it are plain simulations, which are not recorded.

    Attributes:
        history: what has happened so far; complete once ``advance`` has returned ``None``.
    """

    def __init__(
        self,
        scenario: Scenario,
        seed: int = 0,
        *,
        record_turns: bool = False,
        vary: Callable[[Workload], Workload] = lambda workload: workload,
    ) -> None:
        """As ``Simulation``'s."""
        clock = _ObservedClock()
        super().__init__(scenario, seed, record_turns=record_turns, clock=clock, vary=vary)
        self.history = RunHistory()
        self._observer = clock.observer = _Observer(self)

    def advance(self, answer: Answer | None = None) -> Decision | None:
        """As ``Simulation.advance``."""
        if self.pending is not None and answer is not None:
            self._observer.answered(self.pending, answer)
        decision = super().advance(answer)
        self._observer.settle()
        if decision is None:
            self._observer.finish()
        return decision

    def restore(self, snapshot: Simulation) -> None:
        """Refused: what has been recorded did happen.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"the simulation is recorded and cannot go back to {snapshot.now_s} s; a snapshot can"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Simulation:
        twin = Simulation.__new__(Simulation)
        memo[id(self)] = twin
        for name, value in self.__dict__.items():
            if name not in ("history", "_observer"):
                twin.__dict__[name] = copy.deepcopy(value, memo)
        return twin


class _ObservedClock(Clock):
    """Tells an observer of every transfer that is scheduled, and of every instant when all of it
    has happened. A copy is a plain clock."""

    def __init__(self) -> None:
        super().__init__()
        self.observer: _Observer | None = None

    def schedule(self, time_s: float, event: Event, priority: int = NORMAL) -> None:
        super().schedule(time_s, event, priority)
        if self.observer is not None and isinstance(event, Transfer):
            self.observer.scheduled(event, time_s)

    def step(self) -> None:
        if self.observer is not None and self.peek_s() > self.time_s:
            self.observer.observe()
        super().step()

    def __deepcopy__(self, memo: dict[int, object]) -> Clock:
        twin = Clock.__new__(Clock)
        memo[id(self)] = twin
        for name in fields_of(Clock):
            setattr(twin, name, copy.deepcopy(getattr(self, name), memo))
        return twin


class _Observer:
    """Looks at all parts of a simulation."""

    def __init__(self, simulation: RecordedSimulation) -> None:
        self._simulation = simulation
        self._clock = simulation.clock
        self._history = history = simulation.history
        self._unsettled: tuple[Decision, object, int] | None = None
        topology = simulation.residency.topology
        self._engines = [EngineObserver(engine, history) for engine in simulation.engines]
        self._programs = ProgramObserver(
            simulation.orchestrator,
            simulation.engines,
            simulation.scenario.router.session_timeout_s,
            history,
        )
        self._transfers = TransferObserver(topology, history)
        self._pools = observe_pools(simulation.engines, topology, history)
        self._figures = FiguresObserver(simulation.metrics, history)
        self._writes_through = simulation.scenario.engine.native_offloading
        history.links = list(topology.links)
        history.instances = [
            InstanceNote(
                view.node, view.model, view.accelerator, view.tensor_parallel,
                tuple(simulation.cluster.reached_tiers(view.index)),
            )
            for view in simulation.cluster.instances
        ]  # fmt: skip

    def scheduled(self, transfer: Transfer, time_s: float) -> None:
        """A transfer will arrive at that time, as far as is known."""
        self._transfers.scheduled(transfer, self._clock.time_s, time_s)

    def observe(self) -> None:
        """Take note of what has changed at this instant."""
        now_s = self._clock.time_s
        self.settle()
        planned = [
            instance for instance, engine in enumerate(self._engines) if engine.observe(now_s)
        ]
        self._programs.observe(now_s, planned)
        for pool in self._pools:
            pool.observe(now_s)
        self._figures.observe(now_s)
        if self._writes_through:
            self._transfers.observe(now_s)

    def finish(self) -> None:
        """The run ends here."""
        self.observe()
        now_s = self._history.end_s = self._clock.time_s
        for engine in self._engines:
            engine.finish(now_s)
        self._programs.finish(now_s)

    # --- decisions ---------------------------------------------------------------------------

    def answered(self, decision: Decision, answer: object) -> None:
        """A decision got its answer, which is about to be carried out."""
        self._unsettled = (decision, answer, self._simulation.metrics.invalid_answers)
        if isinstance(decision, RouteDecision):
            self._programs.offered(decision.program)

    def settle(self) -> None:
        """Write the last decision down, with what became of its answer."""
        if self._unsettled is None:
            return
        (decision, answer, invalid), self._unsettled = self._unsettled, None
        valid = self._simulation.metrics.invalid_answers == invalid
        if isinstance(decision, RouteDecision):
            self._write_route(decision, answer, valid)
        else:
            program = decision.program
            self._history.placements.append(
                PlacementNote(
                    decision.time_s, program.index, program.turns_done - 1, decision.instance,
                    program.context_tokens, decision.gap_kind, decision.tool_kinds,
                    decision.elapsed_s, answer, valid,
                )
            )  # fmt: skip

    def _write_route(self, decision: RouteDecision, answer: object, valid: bool) -> None:
        index, turn = decision.program.index, decision.turn
        instance = NOBODY
        if not valid:
            instance = self._instance_of(index)
        elif isinstance(answer, Route):
            instance = int(answer.instance)
        if instance != NOBODY:
            self._programs.routed(index, instance)
        self._history.routes.append(
            RouteNote(
                decision.time_s, index, turn.number, turn.prompt_tokens, decision.offers,
                decision.may_hold, answer, valid, instance,
            )
        )  # fmt: skip

    def _instance_of(self, program: int) -> int:
        """Where a turn is that was just sent."""
        for engine in self._simulation.engines:
            if any(request.program.index == program for request in turns_at(engine)):
                return engine.index
        return NOBODY
