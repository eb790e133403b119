"""Invariants that hold in every run, whatever the scenario, the workload and the answers."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sim_helpers import Chooser, audit, drive, simulate
from sim_strategies import scenarios

from agentserve_gym.sim import Phase, PlacementKind, Scenario, Simulation
from agentserve_gym.sim.kernel.programs import ProgramState, ProgramStatus, TurnState
from agentserve_gym.sim.kernel.request import Request
from agentserve_gym.sim.metrics import Metrics
from agentserve_gym.sim.orchestrator import Orchestrator
from agentserve_gym.sim.router import Router
from agentserve_gym.workloads import Program

pytestmark = pytest.mark.no_cover

SETTINGS = settings(
    max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


class Witness:
    """Records every program and turn of a run, independently of the metrics."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.programs: dict[int, ProgramState] = {}
        self.plans: dict[int, Program] = {}
        self.finished: list[tuple[int, float]] = []
        self.released: dict[tuple[int, int], float] = {}
        self.completed: dict[tuple[int, int], float] = {}
        parts = {part.__base__.__name__: part for part in self._parts()}
        with patch.multiple("agentserve_gym.sim.simulation", **parts):
            self.simulation = simulate(scenario, seed=seed)

    def _parts(self) -> tuple[type, ...]:
        """Parts of a simulation that tell this witness of what they hear."""
        witness = self

        class ToldRouter(Router):
            def turn_ready(self, turn: TurnState, output_tokens: int) -> None:
                witness.turn_ready(turn)
                super().turn_ready(turn, output_tokens)

        class ToldOrchestrator(Orchestrator):
            def turn_finished(self, request: Request) -> None:
                witness.turn_finished(request)
                super().turn_finished(request)

        class ToldMetrics(Metrics):
            def program_finished(self, program: ProgramState, now_s: float, ideal_s: float) -> None:
                witness.finished.append((program.index, now_s))
                super().program_finished(program, now_s, ideal_s)

        return (ToldRouter, ToldOrchestrator, ToldMetrics)

    def turn_ready(self, turn: TurnState) -> None:
        program = turn.program
        key = (program.index, turn.number)
        assert key not in self.released
        self.released[key] = self.simulation.now_s
        self.programs[program.index] = program
        self.plans[program.index] = self.simulation.orchestrator.plan_of(program)

    def turn_finished(self, request: Request) -> None:
        key = (request.program.index, request.turn.number)
        assert key not in self.completed
        self.completed[key] = self.simulation.now_s
        plan = self.plans[request.program.index].turns[request.turn.number]
        assert request.generated == plan.output_tokens


def watched_run(scenario: Scenario, seed: int, **policy: Any) -> Witness:
    witness = Witness(scenario, seed)
    simulation = witness.simulation
    drive(simulation, Chooser(seed, len(simulation.engines), **policy), audit)
    return witness


@SETTINGS
@given(
    scenario=scenarios(),
    seed=st.integers(0, 10_000),
    invalid=st.sampled_from([0.0, 0.0, 0.2]),
    hold=st.sampled_from([0.0, 0.3]),
)
def test_programs_blocks_and_times_are_accounted_for(
    scenario: Scenario, seed: int, invalid: float, hold: float
) -> None:
    """Blocks, clock and queue accounts are checked after every event by ``audit``."""
    witness = watched_run(scenario, seed, invalid=invalid, hold=hold)
    simulation = witness.simulation
    report = simulation.report()
    total = len(simulation.workload)

    roots = [i for i, _ in witness.finished if not witness.programs[i].is_subagent]
    assert len(set(roots)) == len(roots) == report["programs"]
    assert simulation.orchestrator.arrived == report["programs"] + report["unfinished_programs"]
    assert not simulation.truncated or scenario.horizon_s == pytest.approx(simulation.now_s)
    if not simulation.truncated:
        assert report["programs"] == total
        assert report["unfinished_programs"] == 0
        assert not simulation.orchestrator.live
        assert all(p.status is ProgramStatus.DONE for p in witness.programs.values())
        assert not simulation.router.held
        assert set(witness.released) == set(witness.completed)

    check_jct(witness)
    check_causality(witness)


@SETTINGS
@given(scenario=scenarios(horizon=False), seed=st.integers(0, 10_000))
def test_programs_that_all_pin_finish(scenario: Scenario, seed: int) -> None:
    """Pins of any length, until admission or not, on pools that hold little more than one context:
    whoever waits for blocks gets them."""
    witness = watched_run(scenario, seed, kinds=(PlacementKind.PIN,), hold=0.2)
    report = witness.simulation.report()
    assert report["unfinished_programs"] == 0
    assert not any(engine.pool.pins for engine in witness.simulation.engines)
    check_jct(witness)


def check_jct(witness: Witness) -> None:
    """JCT = queue + load + prefill + decode + gap, per program, sub-agents included."""
    for index, end_s in witness.finished:
        program = witness.programs[index]
        parts = sum(program.phase_s[phase] for phase in Phase)
        assert parts == pytest.approx(end_s - program.arrival_s, rel=1e-9, abs=1e-9)
        assert all(seconds >= 0.0 for seconds in program.phase_s)


def check_causality(witness: Witness) -> None:
    """A turn is released no sooner than its predecessor's end plus the gap, and ends after it."""
    spec = witness.simulation.scenario.tools
    replayed = not (spec.timeout_s or spec.durations)
    for (index, number), released_s in witness.released.items():
        if number:
            gap_s = witness.plans[index].turns[number - 1].gap_s if replayed else 0.0
            assert released_s >= witness.completed[index, number - 1] + gap_s - 1e-9
        ended_s = witness.completed.get((index, number))
        assert ended_s is None or ended_s > released_s


@settings(SETTINGS, max_examples=25)
@given(scenario=scenarios(horizon=False), seed=st.integers(0, 10_000))
def test_the_unfinished_time_telescopes_to_the_sum_of_jct(scenario: Scenario, seed: int) -> None:
    simulation = simulate(scenario, seed=seed)
    decision = simulation.advance()
    chooser = Chooser(seed, len(simulation.engines), hold=0.2)
    before, pieces = 0.0, []
    while decision is not None:
        decision = simulation.advance(chooser(decision))
        now, _ = simulation.unfinished_time()
        pieces.append(now - before)
        before = now
    assert min(pieces) >= 0.0
    assert sum(pieces) == pytest.approx(sum(simulation.metrics.jct_s), rel=1e-9)


@SETTINGS
@given(scenario=scenarios(networked=True), seed=st.integers(0, 10_000))
def test_what_links_move_is_what_was_loaded(scenario: Scenario, seed: int) -> None:
    simulation = simulate(scenario, seed=seed)
    report = drive(simulation, Chooser(seed, len(simulation.engines))).report()
    residency, moved = report["residency"], report["moved_bytes"]

    def over(part: str) -> float:
        return sum(size for name, size in moved.items() if name.endswith(part))

    assert over(" network out") == over(" network in") == residency["remote_loaded_bytes"]
    for tier, loads in residency["remote_loads"].items():
        assert loads <= residency["loads"][tier]
    if not residency["prefetches"]:
        assert over(" h2d") + over(" peer") == residency["loaded_bytes"]


def hbm_prefix_blocks(simulation: Simulation) -> int:
    """Blocks of shared prefixes over all instances."""
    return sum(
        entry.blocks
        for engine in simulation.engines
        for key, entry in engine.pool.entries.items()
        if isinstance(key, str)
    )


@settings(SETTINGS, max_examples=25)
@given(scenario=scenarios(), seed=st.integers(0, 10_000))
def test_a_shared_prefix_is_cached_once_per_pool(scenario: Scenario, seed: int) -> None:
    def check(simulation: Simulation) -> None:
        for pool in simulation.residency.pools():
            for key, entry in pool.entries.items():
                if isinstance(key, str):
                    sizes = {"tools": 12, "system-a": 9, "system-b": 9}
                    assert entry.blocks <= sizes[key.rpartition("/")[2]]

    simulation = simulate(scenario, seed=seed)
    drive(simulation, Chooser(seed, len(simulation.engines)), check)
    assert hbm_prefix_blocks(simulation) <= 30 * len(simulation.engines)
