"""The engine, step for step against what vLLM's scheduler did in the same cases."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from conformance import (
    dynamo_router,
    golden,
    host_cases,
    host_tier,
    ours,
    queue_orders,
    radix_page,
    rust_routers,
)
from conformance.cases import Case
from conformance.routers import drawn
from conformance.trace import Trace, first_difference

CASES = {case.name: case for case in golden.golden_cases()}


@pytest.mark.parametrize("name", CASES)
def test_the_engine_takes_the_steps_that_vllm_took(name: str) -> None:
    found = ours.play(CASES[name])
    theirs = Trace(golden.read(CASES[name]), found.trace.turns)
    assert first_difference(found.trace, theirs) == ""


@pytest.mark.parametrize("name", CASES)
def test_fused_steps_are_the_same_steps(name: str) -> None:
    stepped = ours.play(CASES[name]).trace
    fused = ours.play_fused(CASES[name])
    assert fused.engines[0].steps == len(stepped.steps)
    assert fused.engines[0].preemptions == stepped.preemptions
    times = ours.turn_times(fused)
    assert times.keys() == stepped.turns.keys()
    for turn, expected in stepped.turns.items():
        assert times[turn] == pytest.approx(expected, abs=1e-9)


HOST_CASES = {case.case.name: case for case in host_cases.kept_cases()}


@pytest.mark.parametrize("name", HOST_CASES)
def test_the_host_tier_does_what_vllm_did(name: str) -> None:
    case = HOST_CASES[name]
    history = host_tier.play(case)
    answers = golden.read_answers(case)
    assert len(answers) == len(history.answers)
    assert host_cases.first_difference(history, answers) == ""
    assert any(isinstance(each, host_tier.Stored) and each.evicted > 0 for each in answers)


DYNAMO = [(n, seed) for n in dynamo_router.SHARED_TOKENS.values() for seed in dynamo_router.KEPT]
RUST = [
    (owner, shared, seed)
    for owner in ("sglang", "vllm")
    for shared in rust_routers.SHARED_TOKENS.values()
    for seed in rust_routers.KEPT
]


@pytest.mark.parametrize(("owner", "shared", "seed"), RUST)
def test_the_rule_sglang_chooses_as_the_routers_did(owner: str, shared: int, seed: int) -> None:
    case, rule = rust_routers.drawn_case(seed, shared)
    tally: Counter[str] = Counter()
    choices = golden.kept(f"router {owner} {shared} {seed}", case)
    rust_routers.compare_case(case, rule, choices, tally)
    assert tally["the same"] == tally["choices"] == len(choices) > 40


RADIX = {case.name: case for case in radix_page.kept_cases()}
QUEUES = {case.name: case for case in radix_page.kept_queues()}


@pytest.mark.parametrize("name", RADIX)
def test_look_ups_differ_from_sglang_where_whole_nodes_are_evicted(name: str) -> None:
    case = RADIX[name]
    tally: Counter[str] = Counter()
    radix_page.count(case, radix_page.answers_of(radix_page.kept(case)), tally)
    assert tally["equal, whole"] == tally["answers"] == 2 * tally["look-ups"] > 200
    if tally["evicted"]:
        assert 0.85 < tally["found"] / tally["look-ups"] <= 1.0
        assert 0.9 < tally["evicted by ours"] / tally["evicted"] < 1.0
    else:
        assert tally["found"] == tally["look-ups"]


@pytest.mark.parametrize("name", QUEUES)
def test_queues_are_in_sglangs_order(name: str) -> None:
    case = QUEUES[name]
    tally: Counter[tuple[str, str]] = Counter()
    queue_orders.compare_case(case, radix_page.orders_of(radix_page.kept(case)), tally)
    for policy in queue_orders.RULES:
        assert tally[policy, "both"] == tally[policy, "orders"] > 20
    assert tally["fcfs", "sent"] == tally["fcfs", "orders"]
    assert tally["lpm", "sent"] < tally["lpm", "both"]


@pytest.mark.parametrize(("shared", "seed"), DYNAMO)
def test_dynamo_chose_by_the_formula(shared: int, seed: int) -> None:
    case = drawn(seed, shared)
    tally: Counter[str] = Counter()
    choices = golden.kept(f"router dynamo {shared} {seed}", case)
    dynamo_router.compare_case(case, choices, tally)
    assert tally["formula"] == tally["choices"] == len(choices) > 40
    assert tally["as it is"] < tally["choices"]
    assert tally["told of all"] > tally["as it is"]


def test_choices_of_another_case_are_refused(tmp_path: Path) -> None:
    golden.keep("some", ["case"], [1, 2], tmp_path)
    assert golden.kept("some", ["case"], tmp_path) == [1, 2]
    with pytest.raises(ValueError, match="of another case"):
        golden.kept("some", ["other"], tmp_path)


def test_every_kept_trace_has_its_case() -> None:
    paths = {golden.path_of(case) for case in CASES.values()}
    paths |= {golden.answers_path(case) for case in HOST_CASES.values()}
    paths |= {golden.kept_path(f"router dynamo {shared} {seed}") for shared, seed in DYNAMO}
    paths |= {golden.kept_path("router {} {} {}".format(*each)) for each in RUST}
    paths |= {
        golden.kept_path(radix_page.kept_name(case)) for case in (*RADIX.values(), *QUEUES.values())
    }
    assert paths == set(golden.FOLDER.iterdir())


def test_what_is_kept_is_read_back(tmp_path: Path) -> None:
    case = CASES["tiny pool, asynchronous"]
    steps = golden.read(case)
    assert sum(step.preemptions for step in steps) > 0
    golden.write(case, steps, "0", tmp_path)
    assert golden.read(case, tmp_path) == steps


def test_steps_of_another_case_are_refused(tmp_path: Path) -> None:
    case = CASES["tiny pool, asynchronous"]
    golden.write(case, [], "0", tmp_path)
    other = Case(case.name, case.programs, case.kv_blocks + 1)
    with pytest.raises(ValueError, match="of another case"):
        golden.read(other, tmp_path)
