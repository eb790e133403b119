"""Same scenario, seed and answers: the same bytes, in any process; and copies that are copies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sim_helpers import Chooser, audit, drive, simulate
from sim_strategies import scenarios

from agentserve_gym.sim import Decision, Scenario, Simulation, load_scenario
from agentserve_gym.sim.kernel.randomness import mix, uniform

pytestmark = pytest.mark.no_cover

SETTINGS = settings(
    max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)

BUSY: dict[str, Any] = {
    "name": "busy",
    "cluster": {
        "model": "llama-3.1-8b",
        "nodes": [
            {
                "name": "n0",
                "instances": [{"accelerator": "rtx-4090", "count": 2, "kv_blocks": 1800}],
                "dram": {"capacity_gib": 8.0},
            }
        ],
    },
    "workload": {
        "kind": "generated",
        "mix": {"function_calling": 0.7, "coding_interactive": 0.3},
        "programs": 10,
        "max_turns": 8,
        "max_context_tokens": 26000,
        "user_gaps": "simulated",
    },
    "arrivals": {"kind": "gamma", "rate_per_s": 1.5, "cv": 2.0},
    "engine": {"max_num_seqs": 8, "max_num_batched_tokens": 512},
    "router": {"signal_delay_s": 0.02},
    "tools": {"failure_probability": 0.1, "concurrency": {"bash": 2}, "slowdown_per_call": 0.01},
}

SCRIPT = """
import json, sys
from sim_helpers import Chooser, drive, simulate
from agentserve_gym.sim import load_scenario
simulation = simulate(load_scenario(json.load(sys.stdin)), seed=5)
drive(simulation, Chooser(5, 2, hold=0.1, invalid=0.05))
print(json.dumps(simulation.report(), sort_keys=True))
for record in simulation.metrics.records:
    print(record)
"""


def output(hash_seed: str) -> bytes:
    environment = {
        **os.environ,
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(BUSY).encode(),
        env=environment,
        capture_output=True,
        check=True,
    )
    return done.stdout


def test_two_processes_with_different_hash_seeds_write_the_same_bytes() -> None:
    first = output("0")
    assert len(first.splitlines()) > 20
    assert first == output("12345")


def everything(simulation: Simulation) -> tuple[Any, ...]:
    return simulation.report(), simulation.metrics.records, simulation.now_s


@SETTINGS
@given(scenario=scenarios(), seed=st.integers(0, 10_000))
def test_the_same_seed_gives_the_same_run(scenario: Scenario, seed: int) -> None:
    count = len(Simulation(scenario, seed).engines)
    runs = [
        everything(drive(simulate(scenario, seed=seed), Chooser(seed, count, hold=0.1)))
        for _ in range(2)
    ]
    assert runs[0] == runs[1]


def test_another_seed_gives_another_workload() -> None:
    busy = load_scenario(BUSY)
    first, second = (drive(simulate(busy, seed=seed), Chooser(1, 2)) for seed in (1, 2))
    assert first.report()["jct_s"] != second.report()["jct_s"]


def test_programs_and_tools_do_not_depend_on_the_policy() -> None:
    """Common random numbers: arrivals, lengths and tool draws are the seed's alone."""
    busy = load_scenario({**BUSY, "tools": {}, "router": {}})
    seen = []
    for policy in (Chooser(1, 2, hold=0.3), Chooser(2, 2)):
        simulation = drive(simulate(busy, seed=3), policy)
        assert simulation.metrics.records is not None
        seen.append(
            sorted(
                (record.program_id, record.turn, record.prompt_tokens, record.output_tokens)
                for record in simulation.metrics.records
            )
        )
    assert seen[0] == seen[1]


# --- snapshots ------------------------------------------------------------------------------------


def resume(simulation: Simulation, decision: Decision | None, chooser: Chooser) -> tuple[Any, ...]:
    while decision is not None:
        decision = simulation.advance(chooser(decision))
    return everything(simulation)


def run_to(simulation: Simulation, chooser: Chooser, decisions: int) -> Decision | None:
    decision = simulation.advance()
    for _ in range(decisions):
        if decision is None:
            break
        decision = simulation.advance(chooser(decision))
    return decision


@settings(SETTINGS, max_examples=30)
@given(scenario=scenarios(), seed=st.integers(0, 10_000), decisions=st.integers(0, 25))
def test_a_copy_goes_on_as_the_original_does_and_leaves_it_alone(
    scenario: Scenario, seed: int, decisions: int
) -> None:
    simulation = simulate(scenario, seed=seed)
    chooser = Chooser(seed, len(simulation.engines), hold=0.1)
    decision = run_to(simulation, chooser, decisions)
    copy = simulation.snapshot()
    other = simulation.snapshot()
    # The copy goes another way first: the original must not notice.
    resume(copy, copy.pending, Chooser(seed + 1, len(simulation.engines)))
    audit(simulation)
    assert resume(other, other.pending, chooser) == resume(simulation, decision, chooser)


def test_restore_goes_back_any_number_of_times() -> None:
    busy = load_scenario(BUSY)
    chooser = Chooser(5, 2)
    simulation = simulate(busy, seed=5)
    run_to(simulation, chooser, 20)
    saved = simulation.snapshot()
    results = []
    for _ in range(3):
        simulation.restore(saved)
        assert simulation.now_s == saved.now_s
        results.append(resume(simulation, simulation.pending, chooser))
    assert results[0] == results[1] == results[2]
    assert saved.pending is not None


def test_a_copy_shares_no_mutable_part() -> None:
    simulation = simulate(load_scenario(BUSY), seed=5)
    run_to(simulation, Chooser(5, 2), 20)
    copy = simulation.snapshot()
    assert copy.scenario is simulation.scenario
    assert copy.workload is simulation.workload
    for name in ("clock", "metrics", "residency", "router", "orchestrator", "tools", "cluster"):
        assert getattr(copy, name) is not getattr(simulation, name), name
    for ours, theirs in zip(simulation.engines, copy.engines, strict=True):
        assert ours.pool is not theirs.pool
        assert ours.latency is theirs.latency
        assert theirs._clock is copy.clock
        assert theirs._host is copy._loop
    assert copy.cluster._engines is copy.engines
    assert copy.residency.engines is copy.engines


# --- draws ----------------------------------------------------------------------------------------


def test_draws_are_hashes_of_who_asks() -> None:
    assert mix(1, 2, 3) == mix(1, 2, 3)
    assert mix(1, 2, 3) != mix(1, 3, 2)
    assert mix(0) != mix(0, 0)
    draws = [uniform(7, i) for i in range(20_000)]
    assert min(draws) > 0.0
    assert max(draws) < 1.0
    mean = sum(draws) / len(draws)
    variance = sum((draw - mean) ** 2 for draw in draws) / len(draws)
    # Standard errors: .002 for the mean, .0005 for the variance.
    assert mean == pytest.approx(0.5, abs=0.01)
    assert variance == pytest.approx(1 / 12, abs=0.002)
    neighbours = sum((a - 0.5) * (b - 0.5) for a, b in pairwise(draws))
    assert neighbours / len(draws) == pytest.approx(0.0, abs=0.002)
