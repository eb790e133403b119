"""Fused and plain stepping give the same times: fusing is a shortcut, not an approximation.

Whatever reads or changes an engine's pool between step boundaries must first bring the lazily
applied allocations up to the present, and reclaiming for many steps at once must take the blocks
that step by step reclaiming takes. Each known way to break that has a test of its own below.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sim_helpers import Chooser, drive, simulate
from sim_strategies import scenarios

from agentserve_gym.sim import (
    Answer,
    Decision,
    Scenario,
    Simulation,
)
from agentserve_gym.sim.metrics import TurnRecord

SETTINGS = settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def records(simulation: Simulation) -> dict[tuple[str, int], TurnRecord]:
    assert simulation.metrics.records is not None
    return {(record.program_id, record.turn): record for record in simulation.metrics.records}


def assert_same(fused: Simulation, plain: Simulation) -> None:
    ours, theirs = records(fused), records(plain)
    assert set(ours) == set(theirs)
    for key, record in ours.items():
        other = theirs[key]
        assert record.instance == other.instance
        assert record.preemptions == other.preemptions, key
        for name in ("ready_s", "first_token_s", "end_s"):
            expected = getattr(other, name)
            assert getattr(record, name) == pytest.approx(expected, rel=1e-9), (key, name)
    one, two = fused.report(), plain.report()
    for name in ("preemptions", "steps", "evicted_blocks", "recomputed_tokens", "hit_tokens"):
        assert one[name] == two[name], name
    assert one["residency"] == two["residency"]


def run_both(
    scenario: Scenario, seed: int, answer: Callable[[], Callable[[Decision], Answer]]
) -> None:
    fused = drive(simulate(scenario, seed=seed), answer())
    plain = drive(simulate(scenario, seed=seed, fused=False), answer())
    assert_same(fused, plain)


@SETTINGS
@given(
    scenario=scenarios(horizon=False, delays=False),
    seed=st.integers(0, 10_000),
    ranks=st.booleans(),
)
def test_fused_and_plain_steps_agree(scenario: Scenario, seed: int, ranks: bool) -> None:
    count = sum(node.instances[0].count for node in scenario.cluster.nodes)
    run_both(scenario, seed, lambda: Chooser(seed, count, hold=0.1, ranks=ranks))
