"""Our side: a simulation that steps one by one, and what its engine planned."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from agentserve_gym.sim import (
    KEEP,
    Answer,
    Decision,
    Route,
    RouteDecision,
    Scenario,
    Simulation,
    load_scenario,
    run,
)
from agentserve_gym.sim.kernel.host import Watcher
from agentserve_gym.sim.kernel.request import Request
from conformance.cases import Case
from conformance.trace import Share, Step, Trace

PRICES = Path(__file__).parent / "prices.toml"

Times = list[tuple[float, float]]
"""Start and end of each step, seconds."""


class Run(NamedTuple):
    """A run of ours, and the clock that it gives to vLLM's."""

    trace: Trace
    times: Times


def play(case: Case) -> Run:
    """Run a case step by step."""
    simulation = Simulation(scenario(case), fused=False, record_turns=True)
    recorder = Recorder(simulation)
    run(simulation, OneEngine(case.priorities))
    return Run(Trace(recorder.steps, turn_times(simulation)), recorder.times)


def play_fused(case: Case) -> Simulation:
    """Run a case as simulations do, with steps fused into runs."""
    simulation = Simulation(scenario(case), record_turns=True)
    run(simulation, OneEngine(case.priorities))
    return simulation


def turn_times(simulation: Simulation) -> dict[tuple[int, int], tuple[float, float]]:
    """First and last token of every turn, by program and turn."""
    return {
        (int(record.program_id), record.turn): (record.first_token_s, record.end_s)
        for record in simulation.metrics.records or ()
    }


def scenario(case: Case) -> Scenario:
    """A case as one engine that serves it."""
    instance = {"accelerator": "rtx-4090", "kv_blocks": case.kv_blocks, "timing": str(PRICES)}
    return load_scenario(
        {
            "name": case.name,
            "cluster": {
                "model": "llama-3.1-8b",
                "nodes": [{"name": "node0", "instances": [instance]}],
            },
            "workload": {"kind": "inline", "programs": case.programs},
            "arrivals": {"kind": "trace"},
            "engine": {
                "max_num_seqs": case.max_num_seqs,
                "max_num_batched_tokens": case.max_num_batched_tokens,
                "async_scheduling": case.async_scheduling,
                "preemption_victim": "lowest_priority" if case.priorities else "last_admitted",
            },
        }
    )


class OneEngine:
    """Everything to the one engine, by program priority; caches follow LRU."""

    def __init__(self, priorities: tuple[int, ...]) -> None:
        self._priorities = priorities

    def decide(self, decision: Decision) -> Answer:
        if not isinstance(decision, RouteDecision):
            return KEEP
        if not self._priorities:
            return Route(0)
        return Route(0, float(self._priorities[int(decision.program.program_id)]))


class Recorder(Watcher):
    """Writes down every step that an engine has planned, when it starts."""

    def __init__(self, simulation: Simulation) -> None:
        self.steps: list[Step] = []
        self.times: Times = []
        self._engine = engine = simulation.engines[0]
        self._clock = simulation.clock
        self._preemptions = 0
        engine.watcher = self

    def load_changed(self) -> None:
        """The load has changed; the first time with so many steps done, a step was planned."""
        engine = self._engine
        if engine.steps < len(self.steps) or not engine.has_work:
            return
        preempted, self._preemptions = self._preemptions, engine.preemptions
        free = engine.pool.free + engine.pool.cached
        step = Step(tuple(sorted(self._shares())), free, self._preemptions - preempted)
        self.steps.append(step)
        start_s = self._clock.time_s
        self.times.append((start_s, start_s + engine.latency.step_s(engine.shape())))

    def entry_changed(self, key: int | str, blocks: int) -> None:
        """Of no interest: steps say what they take."""

    def _shares(self) -> list[Share]:
        batch = self._engine.batch
        decoding = batch.turns.values()
        prefilling = self._engine.chunks
        return [
            *(_share(r, r.target_tokens + batch.step - r.decode_start, 1) for r in decoding),
            *(_share(r, r.computed_tokens, r.chunk_tokens) for r in prefilling),
        ]


def _share(request: Request, computed_tokens: int, tokens: int) -> Share:
    turn = request.turn
    return int(turn.program.program_id), turn.number, computed_tokens, tokens
