"""The page shows what the record says."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from page_reader import NODE, states, told_of, unpacked, watched

from agentserve_gym.sim import Place, PlacementKind
from agentserve_gym.sim.recording import RunHistory
from agentserve_gym.watch import WatchedRun
from agentserve_gym.watch.packing import packed

RUNS = (
    ("default", "learned"),
    ("mixed-models", "lmetric+write_through"),
    ("cxl-shared", "affinity+dram_cxl"),
)
needs_node = pytest.mark.skipif(NODE is None, reason="runs the page's script with Node")


@pytest.mark.parametrize(
    "values", [[], [0], [63, -1, 64, -64, 10**13, -(10**13), 0, 1], list(range(300))]
)
def test_columns_come_back_as_they_were(values: list[int]) -> None:
    assert unpacked(packed(values)) == values


def seconds(column: str) -> list[float]:
    return [value / 1e6 for value in unpacked(column)]


@pytest.mark.parametrize(("scenario", "policy"), RUNS)
def test_the_page_holds_the_whole_record(scenario: str, policy: str) -> None:
    run, report = watched(scenario, policy)
    history = run.history
    (told,) = told_of(run)["runs"]
    assert told["programCount"] == report["programs"]
    assert [index for index, *_ in told["programs"]] == [note.index for note in history.programs]
    for pool, kept in zip(history.pools, told["pools"], strict=True):
        assert seconds(kept["time"]) == pytest.approx(pool.time_s, abs=1e-6)
        assert unpacked(kept["used"]) == pool.used_blocks
        assert unpacked(kept["held"]) == pool.held_blocks
        assert unpacked(kept["pinned"]) == pool.pinned_blocks
    passages = [
        (each.start_s, transfer.size_bytes)
        for transfer in history.transfers
        for each in transfer.passages
    ]
    moved = zip(
        seconds(told["transfers"]["start"]), unpacked(told["transfers"]["bytes"]), strict=True
    )
    for (start_s, size), (kept_s, kept_size) in zip(sorted(passages), sorted(moved), strict=True):
        assert kept_s == pytest.approx(start_s, abs=1e-6)
        assert kept_size == pytest.approx(size, abs=0.5)
    lengths = {name: len(unpacked(column)) for name, column in told["decisions"].items()}
    assert lengths["time"] == len(history.routes) + len(history.placements)
    assert sum(unpacked(told["batches"]["steps"])) == report["steps"]
    assert len(unpacked(told["preemptions"]["time"])) == report["preemptions"]


def sampled(history: RunHistory) -> list[float]:
    """Instants at which nothing happens, so that a microsecond of rounding changes nothing."""
    events = [each.start_s for each in history.stages] + [each.end_s for each in history.stages]
    events += [time_s for pool in history.pools for time_s in pool.time_s]
    events += [each.time_s for each in (*history.routes, *history.placements)]
    events.sort()
    apart = [(a + b) / 2 for a, b in pairwise(events) if b - a > 1e-3]
    return random.Random(0).sample(apart, 40)


@needs_node
@pytest.mark.parametrize(("scenario", "policy"), RUNS)
def test_the_script_shows_the_record_at_any_instant(scenario: str, policy: str) -> None:
    run, _ = watched(scenario, policy)
    times = sampled(run.history)
    (shown,) = states(told_of(run), times)
    for time_s, state in zip(times, shown, strict=True):
        check_programs(run.history, time_s, state)
        check_pools(run.history, time_s, state)
        check_figures(run.history, time_s, state)
        check_decision(run, time_s, state)


def check_programs(history: RunHistory, time_s: float, state: dict[str, Any]) -> None:
    now = {
        each.program: (each.stage.value, each.turn, each.instance)
        for each in history.stages
        if each.start_s <= time_s < each.end_s and each.stage.value != "left"
    }
    assert {each["program"]: (each["stage"], each["turn"], each["instance"])
            for each in state["live"]} == now  # fmt: skip
    for instance in state["instances"]:
        for part, names in (("batch", {"prefill", "decode"}), ("queue", {"queue"}),
                            ("load", {"load"})):  # fmt: skip
            assert {each["program"] for each in instance[part]} == {
                program
                for program, (stage, _, where) in now.items()
                if stage in names and where == instance["index"]
            }
    assert len(state["held"]) == sum(stage == "held" for stage, *_ in now.values())


def check_pools(history: RunHistory, time_s: float, state: dict[str, Any]) -> None:
    for pool, shown in zip(history.pools, state["pools"], strict=True):
        row = sum(each <= time_s for each in pool.time_s) - 1
        used, held, pinned = (
            (pool.used_blocks[row], pool.held_blocks[row], pool.pinned_blocks[row])
            if row >= 0
            else (0, 0, 0)
        )
        assert (shown["inUse"], shown["pinned"]) == (held - pinned, pinned)
        assert (shown["cached"], shown["free"]) == (used - held, pool.capacity_blocks - used)
    for link in state["links"]:
        serving = [
            transfer.kind
            for transfer in history.transfers
            for each in transfer.passages
            if each.link == link["name"] and each.start_s + 1e-6 < time_s < each.end_s - 1e-6
        ]
        assert serving == [] or serving == [link["transfer"]["kind"]]


def check_figures(history: RunHistory, time_s: float, state: dict[str, Any]) -> None:
    parents = {note.index: note.parent for note in history.programs}
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    for each in history.stages:
        first[each.program] = min(first.get(each.program, each.start_s), each.start_s)
        if each.stage.value != "left":
            last[each.program] = max(last.get(each.program, 0.0), each.end_s)
    jct_s = [
        last[program] - first[program]
        for program in last
        if parents[program] < 0 and last[program] <= time_s
    ]
    figures = state["figures"]
    assert figures["done"] == len(jct_s)
    if jct_s:
        assert figures["meanJct"] == pytest.approx(sum(jct_s) / len(jct_s), abs=1e-4)


def check_decision(run: WatchedRun, time_s: float, state: dict[str, Any]) -> None:
    history, shown = run.history, state["decision"]
    routes = [each for each in history.routes if each.time_s <= time_s]
    places = [each for each in history.placements if each.time_s <= time_s]
    if not routes:
        assert shown is None
        return
    if shown["isRoute"]:
        route = routes[-1]
        assert (shown["program"], shown["turn"]) == (route.program, route.turn)
        assert shown["chosen"] == ("hold" if route.instance < 0 else str(route.instance))
        model = next(each.model for each in history.programs if each.index == route.program)
        possible = [str(i) for i, each in enumerate(history.instances) if each.model == model]
        possible += ["hold"] if route.may_hold else []
        assert [each["name"] for each in shown["options"] if each["possible"]] == possible
        scores = run.route_scores[len(routes) - 1]
    else:
        place = places[-1]
        assert (shown["program"], shown["tokens"]) == (place.program, place.context_tokens)
        answer = place.answer
        assert isinstance(answer, Place)
        assert shown["chosen"] == f"{answer.kind.value} {answer.tier}".rstrip()
        names = [each["name"] for each in shown["options"]]
        assert names[:2] == ["keep", "pin"]
        for tier in history.instances[place.instance].tiers:
            assert f"{PlacementKind.OFFLOAD.value} {tier}" in names
        scores = run.placement_scores[len(places) - 1]
    assert shown["scores"] == pytest.approx(dict(scores.of) if scores else {}, abs=5e-4)


@needs_node
def test_figures_at_the_end_are_those_of_the_report() -> None:
    run, report = watched("default", "learned")
    (shown,) = states(
        told_of(run), [run.history.end_s + 1e-6]
    )  # the page's times are in microseconds
    figures = shown[0]["figures"]
    assert figures["done"] == report["programs"]
    assert figures["meanJct"] == pytest.approx(report["jct_s"]["mean"], abs=1e-5)
    assert figures["hit"] == pytest.approx(report["hit_rate"]["hbm"])
    assert figures["loaded"] == pytest.approx(report["hit_rate"]["dram"])
    assert shown[0]["live"] == []
