"""Mistakes seen in published implementations, each built so that making it would show."""

from __future__ import annotations

from typing import Any

import pytest
from baseline_helpers import inline, inline_program, pressured, run_named

from agentserve_gym.baselines import ComposedPolicy, parse_policy
from agentserve_gym.sim import (
    Answer,
    Decision,
    PlacementDecision,
    PlacementKind,
    Route,
    RouteDecision,
    Simulation,
)


class Recorder:
    """A policy that keeps what it was asked, about which gaps, and what it answered."""

    def __init__(self, name: str) -> None:
        policy = parse_policy(name)
        assert isinstance(policy, ComposedPolicy)
        self.policy = policy
        self.log: list[tuple[Decision, Answer]] = []
        self.gaps: list[tuple[int, int]] = []

    def run(self, simulation: Simulation) -> dict[str, Any]:
        decision = simulation.advance()
        while decision is not None:
            if isinstance(decision, PlacementDecision):
                self.gaps.append((decision.program.index, decision.program.gaps))
            answer = self.policy.decide(decision)
            self.log.append((decision, answer))
            decision = simulation.advance(answer)
        return simulation.report()

    def routes(self) -> list[tuple[RouteDecision, Route]]:
        return [(d, a) for d, a in self.log if isinstance(d, RouteDecision)]  # type: ignore[misc]


@pytest.mark.parametrize("residency", ["ttl(seconds=60)", "continuum(seconds=60)"])
def test_1_the_priority_is_stamped_while_the_context_is_still_pinned(residency: str) -> None:
    """Both when the pin ends on return and when it ends on admission."""
    turns = [(500, 10, 0.5), (100, 10, 0.5), (100, 10, 0.0)]
    recorder = Recorder(f"{residency}+pinned_first")
    recorder.run(Simulation(inline([inline_program(*turns)]), 0))
    priorities = [answer.priority for _, answer in recorder.routes()]
    assert priorities[0] == 0.0
    assert all(priority < -1e8 for priority in priorities[1:])
    assert recorder.policy.counters()["pinned_first.pinned"] == 2


@pytest.mark.parametrize(
    ("order", "first"), [("pinned_first", "young"), ("program_fcfs", "old"), ("fcfs", "old")]
)
def test_1_pinned_first_really_overtakes(order: str, first: str) -> None:
    """One slot, taken for seconds. An old program returns from a slow tool, unpinned; then a young
    one from a fast tool, pinned."""
    slot = {"max_num_seqs": 1, "max_num_batched_tokens": 2048}
    old = inline_program((500, 2, 1.0), (50, 50, 0.0), tool="slow", program_id="old")
    young = inline_program(
        (500, 2, 1.5), (50, 50, 0.0), arrival_s=0.2, tool="fast", program_id="young"
    )
    hog = inline_program((500, 1500, 0.0), arrival_s=0.5)
    simulation = Simulation(inline([old, young, hog], engine=slot), 0, record_turns=True)
    simulation.tools.statistics.learn("slow", 10.0)
    Recorder(f"continuum(seconds=100)+{order}").run(simulation)
    records = simulation.metrics.records
    assert records is not None
    assert next(record.program_id for record in records if record.turn == 1) == first


def test_2_a_policy_whose_defining_event_never_fires_says_so() -> None:
    recorder = Recorder("continuum+gate+pinned_first")
    slow = inline_program((500, 10, 30.0), (50, 10, 30.0), (50, 10, 0.0), tool="build")
    simulation = Simulation(inline([slow]), 0)
    simulation.tools.statistics.learn("build", 30.0)
    recorder.run(simulation)
    assert recorder.policy.silent_parts() == ["continuum", "gate", "pinned_first"]
    assert recorder.policy.counters()["continuum.slow_tool"] == 2


def test_3_gaps_are_learned_per_tool_not_per_program_nor_with_queueing() -> None:
    """One program alternates a fast and a slow tool; another keeps the engine busy, so that turns
    queue. The fast tool stays fast, whatever the program's own mean and the queue say."""
    slot = {"max_num_seqs": 1, "max_num_batched_tokens": 2048}
    written = inline_program(*[(200, 20, 0.0)] * 9)
    for number, turn in enumerate(written["turns"][:-1]):
        kind, seconds = (("grep", 0.5), ("build", 20.0))[number % 2]
        turn["tools"] = [{"kind": kind, "duration_s": seconds}]
    hogs = [inline_program((500, 1500, 0.0), arrival_s=5.0 * number) for number in range(20)]
    recorder = Recorder("continuum")
    simulation = Simulation(inline([written, *hogs], engine=slot), 0)
    report = recorder.run(simulation)
    assert report["phase_s"]["queue"] > 20.0
    statistics = simulation.tools.statistics
    grep, build = statistics.kind("grep"), statistics.kind("build")
    assert grep is not None
    assert build is not None
    assert (grep.mean_s, build.mean_s) == (pytest.approx(0.5), pytest.approx(20.0))
    kinds = [
        (decision.tool_kinds[0], answer.kind)  # type: ignore[union-attr]
        for decision, answer in recorder.log
        if isinstance(decision, PlacementDecision)
    ]
    assert {kind for tool, kind in kinds if tool == "grep"} == {PlacementKind.PIN}
    assert [kind for tool, kind in kinds if tool == "build"][1:] == [PlacementKind.KEEP] * 3


@pytest.mark.parametrize("pins", ["hard", "soft"])
def test_5_the_softness_of_pins_is_a_setting(pins: str) -> None:
    """Ten pinned contexts fill the pool. Soft pins give way to the next program at once, hard ones
    make it wait for their deadline."""
    waiting = [
        inline_program((1800, 5, 30.0), (50, 5, 0.0), arrival_s=0.2 * number)
        for number in range(10)
    ]
    late = inline_program((6000, 5, 0.0), (10, 5, 0.0), arrival_s=4.0, program_id="late")
    engine = {"pins": pins}
    busy = inline_program((16, 4000, 0.0), arrival_s=3.9)  # something runs: no deadlock to break
    scenario = inline([*waiting, late, busy], kv_blocks=1400, engine=engine)
    simulation = Simulation(scenario, 0, record_turns=True)
    Recorder("ttl(seconds=20)").run(simulation)
    records = simulation.metrics.records
    assert records is not None
    first = next(r for r in records if r.program_id == "late" and r.turn == 0)
    waited_s = first.first_token_s - first.ready_s
    assert (waited_s < 1.0) if pins == "soft" else (waited_s > 10.0)


@pytest.mark.parametrize("name", ["retain", "ttl", "continuum", "saga_ttl", "infercept", "mori"])
def test_11_a_final_turn_is_never_pinned(name: str) -> None:
    scenario = pressured(6)
    recorder = Recorder(name)
    recorder.run(Simulation(scenario, 0))
    assert set(recorder.gaps) == {(index, gap) for index in range(6) for gap in range(5)}


def test_14_the_stock_baseline_is_a_prefix_cache() -> None:
    """Dropping KV at every turn end would inflate every retention policy's gain."""
    scenario = pressured(4)
    stock, strawman = run_named("lru", scenario), run_named("evict", scenario)
    assert stock["recomputed_tokens"] < 0.1 * strawman["recomputed_tokens"]
