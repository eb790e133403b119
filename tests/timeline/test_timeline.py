"""Traces, read back, say what the simulation's own records say."""

from __future__ import annotations

import io
import subprocess
import sys
from collections import defaultdict
from functools import cache
from typing import Any

import pytest
from trace_reader import ReadTrace, read_chrome, read_perfetto

from agentserve_gym.baselines import parse_policy, run_policy
from agentserve_gym.sim import Phase, Place, PlacementKind, RouteDecision, load_scenario, run
from agentserve_gym.sim.recording import RecordedSimulation, RunHistory
from agentserve_gym.timeline import lay_out, perfetto_beginning, write_chrome, write_perfetto

CXL = ("cxl-shared", "affinity+dram_cxl")
RUNS = (("default", "sglang+continuum+gate"), CXL, ("mixed-models", "lru"))

PHASES = {
    "held": Phase.QUEUE,
    "queue": Phase.QUEUE,
    "load": Phase.LOAD,
    "prefill": Phase.PREFILL,
    "decode": Phase.DECODE,
    "gap": Phase.GAP,
}


@cache
def recorded(scenario: str, policy: str) -> tuple[RunHistory, dict[str, Any]]:
    simulation = RecordedSimulation(load_scenario(scenario), 0)
    return simulation.history, run_policy(simulation, parse_policy(policy))


def written(write: Any, history: RunHistory) -> bytes:
    stream = io.BytesIO()
    write(lay_out(history, "a run"), stream, lambda done, total: None)
    return stream.getvalue()


def as_chrome(history: RunHistory) -> ReadTrace:
    return read_chrome(written(write_chrome, history))


@pytest.mark.parametrize(("scenario", "policy"), RUNS)
def test_slices_of_programs_add_up_to_their_phases(scenario: str, policy: str) -> None:
    history, report = recorded(scenario, policy)
    roots = {note.program_id for note in history.programs if note.parent < 0}
    seconds: dict[Phase, float] = defaultdict(float)
    turns = 0
    for program, slices in as_chrome(history).group("programs").items():
        turns += len({values["turn"] for *_, values in slices})
        assert all(
            0 <= values["instance"] < len(history.instances)
            for name, *_, values in slices
            if name != "held"
        )
        if program in roots:
            for name, start_ns, end_ns, _ in slices:
                if name != "left":
                    seconds[PHASES[name]] += (end_ns - start_ns) / 1e9
    assert turns == report["turns"]
    for phase in Phase:
        assert seconds[phase] == pytest.approx(report["phase_s"][phase.name.lower()], abs=1e-4)


@pytest.mark.parametrize(("scenario", "policy"), RUNS)
def test_links_carry_the_bytes_that_the_report_counts(scenario: str, policy: str) -> None:
    history, report = recorded(scenario, policy)
    links = as_chrome(history).group("links")
    for link, moved_bytes in report["moved_bytes"].items():
        carried = sum(values["bytes"] for *_, values in links.get(link, []))
        assert carried == pytest.approx(moved_bytes, abs=0.5 * (len(links.get(link, [])) + 1))
    kinds = [(name, values) for link in links.values() for name, *_, values in link]
    for kind, count in (("offload", "offloads"), ("load", "loads")):
        transfers = {values["transfer"] for name, values in kinds if name == kind}
        assert len(transfers) == sum(report["residency"][count].values())


@pytest.mark.parametrize(("scenario", "policy"), RUNS)
def test_instances_run_the_steps_and_preemptions_that_the_report_counts(
    scenario: str, policy: str
) -> None:
    history, report = recorded(scenario, policy)
    trace = as_chrome(history)
    steps = preemptions = 0
    for instance, busy_s in enumerate(report["busy_s"]):
        track = ("instances", f"instance {instance} steps")
        steps += sum(values["steps"] for *_, values in trace.slices[track])
        preemptions += len(trace.instants[track])
        busy_ns = sum(end_ns - start_ns for _, start_ns, end_ns, _ in trace.slices[track])
        assert busy_ns / 1e9 == pytest.approx(busy_s, abs=1e-4)
    assert (steps, preemptions) == (report["steps"], report["preemptions"])


@pytest.mark.parametrize(("scenario", "policy"), RUNS)
def test_counters_never_exceed_what_pools_hold(scenario: str, policy: str) -> None:
    history, _ = recorded(scenario, policy)
    levels = as_chrome(history).levels
    for pool in history.pools:
        capacity_bytes = pool.capacity_blocks * pool.block_bytes
        if pool.tier != "hbm":
            used = levels["tiers", f"{pool.name} used"]
            assert all(0 <= level <= capacity_bytes for _, level in used)
            continue
        now = dict.fromkeys(("in use", "pinned", "cached"), 0)
        changes: dict[int, dict[str, int]] = defaultdict(dict)
        for part in now:
            for at_ns, level in levels["instances", f"instance {pool.instance} HBM {part}"]:
                assert level >= 0
                changes[at_ns][part] = level
        for at_ns in sorted(changes):
            now |= changes[at_ns]
            assert sum(now.values()) <= capacity_bytes
        assert len(changes) > 100


@pytest.mark.parametrize(("scenario", "policy"), RUNS)
def test_decisions_say_what_was_asked_and_answered(scenario: str, policy: str) -> None:
    history, report = recorded(scenario, policy)
    decisions = as_chrome(history).instants
    routes, placements = decisions["decisions", "routes"], decisions["decisions", "placements"]
    assert len(routes) + len(placements) == report["answers"]
    assert sum(name == "hold" for name, *_ in routes) == report["holds"]
    assert len(routes) - report["holds"] == report["turns"]
    for name, _, values in routes:
        assert name == "hold" or name == f"route to {values['instance']}"
        assert {"program", "turn", "prompt_tokens", "offers", "may_hold"} <= set(values)
    for _, _, values in placements:
        assert {"program", "turn", "instance", "gap_kind", "context_tokens"} <= set(values)


def test_a_placement_names_its_tier_and_a_transfer_its_pools() -> None:
    trace = as_chrome(recorded(*CXL)[0])
    names = {name for name, *_ in trace.instants["decisions", "placements"]}
    assert {"offload dram", "offload cxl"} & names
    offloads = [
        values
        for slices in trace.group("links").values()
        for name, *_, values in slices
        if name == "offload"
    ]
    assert all("hbm" in values["from"] and "hbm" not in values["to"] for values in offloads)


def test_invalid_answers_are_marked_and_numbers_that_json_lacks_are_words() -> None:
    class Wrong:
        def decide(self, decision: Any) -> Any:
            if isinstance(decision, RouteDecision):
                return "nowhere"
            return Place(PlacementKind.PIN, ttl_s=float("inf"))

    simulation = RecordedSimulation(load_scenario("toy"), 0)
    report = run(simulation, Wrong())
    decisions = as_chrome(simulation.history).instants
    routes = decisions["decisions", "routes"]
    assert len(routes) == report["invalid_answers"] == report["turns"]
    for name, _, values in routes:
        assert name == f"invalid: route to {values['instance']}"
        assert values["invalid_answer"] == "'nowhere'"
    assert {values["ttl_s"] for _, _, values in decisions["decisions", "placements"]} == {"inf"}


@pytest.mark.parametrize(("scenario", "policy"), RUNS)
def test_both_formats_show_the_same(scenario: str, policy: str) -> None:
    pytest.importorskip("perfetto")
    history, _ = recorded(scenario, policy)
    content = written(write_perfetto, history)
    assert content.startswith(perfetto_beginning())
    perfetto, chrome = read_perfetto(content), as_chrome(history)
    assert perfetto.slices == chrome.slices
    assert perfetto.instants == chrome.instants
    assert perfetto.levels == chrome.levels


def test_sub_agents_lie_under_who_started_them() -> None:
    pytest.importorskip("perfetto")
    history, report = recorded("default", "sglang+continuum+gate")
    parents = read_perfetto(written(write_perfetto, history)).parents
    names = {note.index: note.program_id for note in history.programs}
    children = [note for note in history.programs if note.parent >= 0]
    assert len(children) == report["subagents"] > 0
    for child in children:
        assert parents[child.program_id] == names[child.parent]


@pytest.mark.parametrize("write", [write_perfetto, write_chrome])
def test_equal_runs_give_equal_bytes(write: Any) -> None:
    if write is write_perfetto:
        pytest.importorskip("perfetto")
    contents = []
    for _ in range(2):
        simulation = RecordedSimulation(load_scenario("toy"), 0)
        run_policy(simulation, parse_policy("round_robin+dram"))
        contents.append(written(write, simulation.history))
    assert contents[0] == contents[1]


def test_importing_the_package_leaves_perfetto_alone() -> None:
    check = "import sys, agentserve_gym.cli; print('perfetto' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, check=True, text=True
    ).stdout
    assert output.strip() == "False"
