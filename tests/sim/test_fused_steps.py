"""Fused and plain stepping give the same times: fusing is a shortcut, not an approximation.

Whatever reads or changes an engine's pool between step boundaries must first bring the lazily
applied allocations up to the present, and reclaiming for many steps at once must take the blocks
that step by step reclaiming takes (see also ``test_pools``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sim_helpers import Chooser, drive, program, scenario, simulate
from sim_strategies import scenarios

from agentserve_gym.sim import (
    KEEP,
    Answer,
    Decision,
    Load,
    Place,
    PlacementKind,
    Restore,
    Route,
    RouteDecision,
    Scenario,
    Simulation,
)
from agentserve_gym.sim.metrics import TurnRecord

pytestmark = pytest.mark.no_cover

SETTINGS = settings(
    max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
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


class Looker:
    """Answers as another policy does, and remembers what every instance showed."""

    def __init__(self, decide: Callable[[Decision], Answer]) -> None:
        self.decide = decide
        self.seen: list[list[Load]] = []

    def __call__(self, decision: Decision) -> Answer:
        self.seen.append([view.load() for view in decision.cluster.instances])
        return self.decide(decision)


def run_both(
    scenario: Scenario, seed: int, answer: Callable[[], Callable[[Decision], Answer]]
) -> None:
    fused = drive(simulate(scenario, seed=seed), answer())
    plain = drive(simulate(scenario, seed=seed, fused=False), answer())
    assert_same(fused, plain)
    lookers = Looker(answer()), Looker(answer())
    drive(simulate(scenario, seed=seed), lookers[0])
    drive(simulate(scenario, seed=seed, fused=False), lookers[1])
    assert lookers[0].seen == lookers[1].seen


@SETTINGS
@given(
    scenario=scenarios(horizon=False, delays=False),
    seed=st.integers(0, 10_000),
    ranks=st.booleans(),
)
def test_fused_and_plain_steps_agree(scenario: Scenario, seed: int, ranks: bool) -> None:
    count = scenario.cluster.num_instances
    run_both(scenario, seed, lambda: Chooser(seed, count, hold=0.1, ranks=ranks))


@pytest.mark.parametrize("seed", range(4))
def test_a_lockstep_group_agrees_too(seed: int) -> None:
    """Two engines that share their experts step together; one of them idles at times."""
    programs = [
        program(
            (300 + 997 * i % 700, 90, 0.31), (41, 70, 1.13), (5, 33), arrival_s=0.37 * i,
            prefix=[("system", 200)],
        )
        for i in range(6)
    ]  # fmt: skip
    group = {
        "accelerator": "rtx-pro-6000",
        "data_parallel": 2,
        "expert_parallel": 2,
        "kv_blocks": 110,
    }
    config = scenario(
        programs,
        model="qwen3-30b-a3b-instruct-2507",
        node={"instances": [group], "dram": {"capacity_gib": 1.0}},
        engine={"max_num_seqs": 8, "max_num_batched_tokens": 256},
    )
    run_both(config, seed, lambda: Chooser(seed, 2, hold=0.1))


def beside_a_long_turn(first_gap_s: float, second_gap_s: float, **more: Any) -> Scenario:
    """Two programs leave 20 blocks each; a long turn grows to 48 and eats into them."""
    programs = [
        program((320, 1, first_gap_s), (10, 1), program_id="first"),
        program((320, 1, second_gap_s), (10, 1), program_id="second", arrival_s=0.61),
        program((64, 700), program_id="long", arrival_s=3.03),
    ]
    return scenario(programs, kv_blocks=60, **more)


def test_a_rank_given_during_a_run_does_not_reach_back() -> None:
    """first lost most of its blocks before it was ranked above second."""

    def decide(decision: Decision) -> Answer:
        if isinstance(decision, RouteDecision):
            return Route(0)
        if decision.elapsed_s:
            return Place(PlacementKind.KEEP, rank=1.0)
        late = decision.program.program_id == "first"
        return Place(PlacementKind.KEEP, ask_again_s=11.7 if late else None)

    run_both(beside_a_long_turn(20.0, 40.0), 0, lambda: decide)


@pytest.mark.parametrize("returns", ["first", "second"])
def test_a_pin_that_ends_during_a_run_does_not_reach_back(returns: str) -> None:
    """Both pin; the long turn has taken from the pin with the later deadline, second's, when one
    of them returns to the other instance."""

    def decide(decision: Decision) -> Answer:
        if isinstance(decision, RouteDecision):
            back = decision.program.program_id == returns and decision.turn.number == 1
            return Route(int(back), restore=Restore.RECOMPUTE)
        late = decision.program.program_id == "second"
        return Place(PlacementKind.PIN, ttl_s=200.0 if late else 100.0)

    gaps_s = (9.0, 40.0) if returns == "first" else (40.0, 9.0)
    run_both(beside_a_long_turn(*gaps_s, instances=2), 0, lambda: decide)


@pytest.mark.parametrize("fused", [True, False])
def test_what_waits_is_measured_against_what_is_cached_now(fused: bool) -> None:
    """At 9.6 the long turn has taken 5 of first's 20 blocks; no slot is free."""
    config = beside_a_long_turn(9.0, 40.0, engine={"max_num_seqs": 1})
    simulation = simulate(config, fused=fused)
    decision = simulation.advance()
    while decision is not None and simulation.now_s < 9.0:
        decision = simulation.advance(Route(0) if isinstance(decision, RouteDecision) else KEEP)
    assert isinstance(decision, RouteDecision)
    simulation.router.apply(decision, Route(0))
    load = simulation.cluster.instances[0].load()
    # The turn has 331 tokens; 60 - 20 - 20 = 20 blocks were free.
    grown = 60 - load.free_blocks - load.cached_blocks
    assert grown > 20
    assert load.queued_tokens == 331 - 16 * (20 - (grown - 20))


@settings(SETTINGS, max_examples=30)
@given(scenario=scenarios(horizon=False, delays=False), seed=st.integers(0, 10_000))
def test_looking_at_the_cluster_changes_nothing(scenario: Scenario, seed: int) -> None:
    """Views, restorables and estimates synchronize engines; a policy may ask at will."""
    count = scenario.cluster.num_instances
    chooser = Chooser(seed, count)

    def look(decision: Decision) -> Answer:
        cluster = decision.cluster
        for view in cluster.instances:
            view.load()
            view.signals.cached_blocks(decision.program, 1000)
            if isinstance(decision, RouteDecision):
                for copy in [*cluster.restorables(decision.turn, view.index), None]:
                    assert cluster.first_token_s(decision.turn, view.index, copy) > 0.0
        return chooser(decision)

    looked = drive(simulate(scenario, seed=seed), look)
    assert_same(looked, drive(simulate(scenario, seed=seed), chooser))
