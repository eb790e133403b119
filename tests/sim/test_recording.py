"""A recorded run is the same run, and its history says when everything happened."""

from __future__ import annotations

import copy
from typing import Any
from unittest.mock import patch

import pytest
from sim_helpers import LinearLatency, drive, program, scenario

from agentserve_gym.baselines import parse_policy, run_policy
from agentserve_gym.sim import (
    Decision,
    Hold,
    Place,
    PlacementKind,
    Route,
    RouteDecision,
    Simulation,
    construction,
    load_scenario,
)
from agentserve_gym.sim.kernel.events import Clock
from agentserve_gym.sim.recording import RecordedSimulation, Stage

LOCKSTEP = {
    "model": "qwen3-30b-a3b-instruct-2507",
    "nodes": [
        {
            "name": "n0",
            "instances": [
                {"accelerator": "rtx-pro-6000", "data_parallel": 2, "expert_parallel": 2}
            ],
        }
    ],
}

RUNS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("default", "sglang+continuum+gate", {}),
    ("default", "lru", {"horizon_s": 300.0}),
    ("default", "lru", {"engine": {"native_offloading": True}}),
    ("default", "affinity+lru", {"cluster": LOCKSTEP}),
    ("cxl-shared", "affinity+kvflow", {"router": {"signal_delay_s": 0.4}}),
    ("mixed-models", "lru", {}),
    ("nvme", "lmetric+dram", {"horizon_s": 400.0}),
    ("default", "lmetric+thunderagent", {"workload": {"gap_scale": 0.0}}),
)


def changed(preset: str, changes: dict[str, Any]) -> Any:
    data = load_scenario(preset).model_dump(mode="json")
    for name, value in changes.items():
        merge = isinstance(value, dict) and name != "cluster"
        data[name] = data[name] | value if merge else value
    return load_scenario(data)


def recorded(preset: str, policy: str, changes: dict[str, Any]) -> RecordedSimulation:
    """A whole run."""
    simulation = RecordedSimulation(changed(preset, changes), 1)
    run_policy(simulation, parse_policy(policy))
    return simulation


@pytest.mark.parametrize(("preset", "policy", "changes"), RUNS)
def test_recording_leaves_the_run_as_it_is(
    preset: str, policy: str, changes: dict[str, Any]
) -> None:
    config = changed(preset, changes)
    plain = Simulation(config, 1)
    recorded = RecordedSimulation(config, 1)
    reports = [run_policy(each, parse_policy(policy)) for each in (plain, recorded)]
    assert reports[0] == reports[1]
    assert plain.clock.scheduled_events == recorded.clock.scheduled_events
    assert recorded.history.end_s == plain.now_s


@pytest.mark.parametrize(("preset", "policy", "changes"), RUNS)
def test_the_history_adds_up(preset: str, policy: str, changes: dict[str, Any]) -> None:
    simulation = RecordedSimulation(changed(preset, changes), 1)
    report = run_policy(simulation, parse_policy(policy))
    history = simulation.history
    for link, moved_bytes in report["moved_bytes"].items():
        sizes = [
            transfer.size_bytes
            for transfer in history.transfers
            for passage in transfer.passages
            if passage.link == link
        ]
        assert sum(sizes) == pytest.approx(moved_bytes, rel=1e-9)
    busy_s = [0.0] * len(simulation.engines)
    steps = 0
    for batch in history.batches:
        busy_s[batch.instance] += batch.end_s - batch.start_s
        steps += batch.steps
    if not report["truncated"]:  # what runs at the horizon has not been counted by the engines
        assert busy_s == pytest.approx(report["busy_s"])
        assert steps == report["steps"]
    assert len(history.preemptions) == report["preemptions"]
    assert len(history.routes) + len(history.placements) == report["answers"]
    last = history.figures[-1]
    assert last.programs_done == report["programs"]
    assert last.jct_sum_s == pytest.approx(sum(simulation.metrics.jct_s))
    hbm, *lower = report["hit_rate"].values()
    assert last.hit_tokens / last.prompt_tokens == hbm
    assert last.loaded_tokens / last.prompt_tokens == pytest.approx(sum(lower))
    for pool in history.pools:
        assert pool.time_s == sorted(pool.time_s)
        samples = zip(pool.used_blocks, pool.held_blocks, pool.pinned_blocks, strict=True)
        assert all(
            0 <= pins <= held <= used <= pool.capacity_blocks for used, held, pins in samples
        )


@pytest.mark.parametrize(("preset", "policy", "changes"), RUNS)
def test_a_program_is_in_one_stage_after_the_other(
    preset: str, policy: str, changes: dict[str, Any]
) -> None:
    simulation = recorded(preset, policy, changes)
    ended_s: dict[int, float] = {}
    for found in simulation.history.stages:
        assert found.start_s < found.end_s
        assert ended_s.get(found.program, found.start_s) == found.start_s
        ended_s[found.program] = found.end_s
        assert (found.instance < 0) == (found.stage is Stage.HELD)


@pytest.mark.parametrize(("preset", "policy", "changes"), RUNS)
def test_links_serve_in_order_and_before_arrival(
    preset: str, policy: str, changes: dict[str, Any]
) -> None:
    simulation = recorded(preset, policy, changes)
    served_s: dict[str, float] = {}
    for transfer in simulation.history.transfers:
        for passage in transfer.passages:
            assert transfer.queued_s <= passage.start_s <= passage.end_s
            assert passage.start_s >= served_s.get(passage.link, 0.0)
            served_s[passage.link] = passage.end_s
            if transfer.arrives_s is not None:
                assert passage.end_s <= transfer.arrives_s + 1e-6


def test_a_program_whose_gaps_last_no_time_is_noted_once() -> None:
    found = recorded("default", "lmetric+thunderagent", {"workload": {"gap_scale": 0.0}})
    notes = found.history.programs
    assert len({note.index for note in notes}) == len(notes)
    waited = {stage.program for stage in found.history.stages if stage.stage is Stage.GAP}
    assert waited <= {note.parent for note in notes}, "others than those with sub-agents"


def test_turn_records_agree_with_stages() -> None:
    simulation = RecordedSimulation(load_scenario("default"), 0, record_turns=True)
    run_policy(simulation, parse_policy("sglang+continuum"))
    names = {note.index: note.program_id for note in simulation.history.programs}
    decoded = {
        (names[found.program], found.turn): found
        for found in simulation.history.stages
        if found.stage is Stage.DECODE
    }
    records = simulation.metrics.records
    assert records
    for record in records:
        if record.output_tokens > 1:
            found = decoded[record.program_id, record.turn]
            assert (found.instance, found.end_s) == (record.instance, record.end_s)
            if record.preemptions == 0:
                assert found.start_s == record.first_token_s


def test_a_run_worked_out_by_hand() -> None:
    """Steps take a second: a prefills, decodes one token, and is gone for five; b comes meanwhile
    and is held once, until a's turn ends."""
    programs = [
        program((160, 2, 5.0), (16, 1), program_id="a"),
        program((80, 2), program_id="b", arrival_s=0.5),
    ]
    config = scenario(programs, kv_blocks=100, engine={"async_scheduling": False})
    with patch.object(construction, "latency_model", lambda *_, **__: LinearLatency()):
        simulation = RecordedSimulation(config)
    held = False

    def decide(decision: Decision) -> Any:
        nonlocal held
        if isinstance(decision, RouteDecision):
            if decision.program.program_id == "b" and not held:
                held = True
                return Hold()
            return Route(0)
        return Place(PlacementKind.PIN, ttl_s=100.0)

    drive(simulation, decide)
    history = simulation.history
    stages = [
        (found.program, found.turn, found.stage, found.start_s, found.end_s)
        for found in history.stages
    ]
    assert stages == [
        (0, 0, Stage.PREFILL, 0.0, 1.0),
        (0, 0, Stage.DECODE, 1.0, 2.0),
        (1, 0, Stage.HELD, 0.5, 2.0),
        (1, 0, Stage.PREFILL, 2.0, 3.0),
        (1, 0, Stage.DECODE, 3.0, 4.0),
        (0, 0, Stage.GAP, 2.0, 7.0),
        (0, 1, Stage.PREFILL, 7.0, 8.0),
    ]
    batches = [
        (batch.start_s, batch.end_s, batch.decoding, batch.chunks) for batch in history.batches
    ]
    assert batches == [
        (0.0, 1.0, 0, ((0, 0, 160),)),
        (1.0, 2.0, 1, ()),
        (2.0, 3.0, 0, ((1, 0, 80),)),
        (3.0, 4.0, 1, ()),
        (7.0, 8.0, 0, ((0, 1, 18),)),  # its output is prompt now, and has no KV in whole blocks
    ]
    assert [(note.time_s, note.program, note.instance) for note in history.routes] == [
        (0.0, 0, 0), (0.5, 1, -1), (2.0, 1, 0), (7.0, 0, 0),
    ]  # fmt: skip
    [placement] = history.placements
    assert (placement.time_s, placement.program, placement.valid) == (2.0, 0, True)


def test_pools_are_sampled_as_turns_begin_and_end() -> None:
    programs = [
        program((160, 1, 5.0), (16, 1), program_id="a"),
        program((80, 30), program_id="b", arrival_s=0.5),
    ]
    config = scenario(programs, kv_blocks=100, engine={"async_scheduling": False})
    simulation = RecordedSimulation(config, record_turns=True)

    def decide(decision: Decision) -> Any:
        if isinstance(decision, RouteDecision):
            return Route(0)
        return Place(PlacementKind.PIN, ttl_s=100.0)

    drive(simulation, decide)
    [pool] = simulation.history.pools
    assert (pool.tier, pool.instance, pool.capacity_blocks) == ("hbm", 0, 100)
    records = simulation.metrics.records
    assert records
    a, b, _ = (pool.time_s.index(record.end_s) for record in records)
    assert (pool.used_blocks[a], pool.held_blocks[a], pool.pinned_blocks[a]) == (10, 10, 10)
    # b's 109 computed tokens leave 6 full blocks beside a's pinned 10.
    assert (pool.used_blocks[b], pool.held_blocks[b], pool.pinned_blocks[b]) == (16, 10, 10)


def test_copies_of_a_recorded_run_are_not_recorded() -> None:
    simulation = RecordedSimulation(load_scenario("cxl-shared"), 0)
    policy = parse_policy("lmetric+dram_cxl")
    policy.bind(simulation)
    decision = simulation.advance()
    for _ in range(200):
        assert decision is not None
        decision = simulation.advance(policy.decide(decision))
    before = copy.deepcopy(simulation.history)
    other = simulation.snapshot()
    assert type(other) is Simulation
    assert type(other.clock) is Clock
    assert other.engines[0].queue is not simulation.engines[0].queue
    for each in (other, simulation):
        twin = copy.deepcopy(policy, {id(simulation): each})
        decision = each.pending
        while decision is not None:
            decision = each.advance(twin.decide(decision))
        if each is other:
            assert simulation.history == before
    assert other.report() == simulation.report()
    with pytest.raises(ValueError, match="is recorded and cannot go back"):
        simulation.restore(other)


def test_a_policy_that_looks_ahead_in_copies_is_recorded_once() -> None:
    reports = []
    for kind in (Simulation, RecordedSimulation):
        simulation = kind(load_scenario("toy"), 0)
        reports.append(run_policy(simulation, parse_policy("lookahead")))
    assert reports[0] == reports[1]
    assert isinstance(simulation, RecordedSimulation)
    history = simulation.history
    assert len(history.routes) + len(history.placements) == reports[1]["answers"]
